"""A ranking strategy: the article's nested JSON, checked.

    {"ctr":   {"weight": 0.40},
     "cvr":   {"weight": 0.35, "normalizer": "logit"},
     "watch": {"weight": 0.25},
     "fuser": {"method": "weighted_sum", "params": {"temperature": 0.2}}}

``raw`` may stand in a component, as it does where the same structure carries an item's
values; a strategy ignores it. Measures beyond the three go into ``heads``.
"""

from __future__ import annotations

from math import isfinite
from typing import Literal

import msgspec

from heartcast.ranking.scaling import Normalizer

Method = Literal["weighted_sum", "geometric", "pareto_rank"]

_MOST_HEADS = 32
_LARGEST_WEIGHT = 1e6


class Component(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measure's part in the score."""

    weight: float
    """Its share. Below 0: the less the better. 0: not looked at. Magnitude at most 10^6."""
    normalizer: Normalizer = "quantile"
    """How values become comparable; the quantile makes weights mean what they say."""
    raw: float | None = None
    """An item's value, where this structure describes an item."""

    def __post_init__(self) -> None:
        if not isfinite(self.weight) or abs(self.weight) > _LARGEST_WEIGHT:
            raise ValueError(f"weight: must be finite and at most {_LARGEST_WEIGHT:g} in magnitude")
        if self.raw is not None and not isfinite(self.raw):
            raise ValueError("raw: must be finite")


class Fuser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the parts become one score."""

    method: Method = "weighted_sum"
    """``weighted_sum`` adds weight times scaled value; ``geometric`` multiplies the values
    to the power of their weights, so that one poor measure cannot be bought off;
    ``pareto_rank`` puts first what nothing else beats in every measure."""
    params: dict[str, float] = msgspec.field(default_factory=dict)
    """``temperature``: 0 (default) always the same order; above, orders are drawn, and a
    deviation of score makes an item ``e^(1/temperature)`` times as likely to go first."""

    def __post_init__(self) -> None:
        for name in self.params.keys() - {"temperature"}:
            raise ValueError(f"params.{name}: unknown; there is temperature")
        if not 0 <= self.temperature <= 100:
            raise ValueError("params.temperature: must be 0 to 100")

    @property
    def temperature(self) -> float:
        return self.params.get("temperature", 0.0)


class Strategy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which measures count, how much, and how they are joined."""

    ctr: Component | None = None
    """Chance of a click."""
    cvr: Component | None = None
    """Chance of a conversion."""
    watch: Component | None = None
    """Seconds of watching."""
    heads: dict[str, Component] = msgspec.field(default_factory=dict)
    """Measures by other names, at most 32."""
    fuser: Fuser = msgspec.field(default_factory=Fuser)

    def __post_init__(self) -> None:
        if len(self.heads) > _MOST_HEADS:
            raise ValueError(f"heads: must be at most {_MOST_HEADS}")
        for name in self.heads.keys() & {"ctr", "cvr", "watch"}:
            raise ValueError(f"heads.{name}: give it beside heads, not in it")
        counting = self.components()
        if not counting:
            raise ValueError("weight: at least one measure must have a weight other than 0")
        if self.fuser.method == "geometric":
            for name, component in counting.items():
                _check_geometric(name, component)

    def components(self) -> dict[str, Component]:
        """The measures that count, by name; those with weight 0 are left out."""
        named = {"ctr": self.ctr, "cvr": self.cvr, "watch": self.watch, **self.heads}
        return {name: part for name, part in named.items() if part is not None and part.weight}


def _check_geometric(name: str, component: Component) -> None:
    if component.weight < 0:
        raise ValueError(f"{name}.weight: must be >= 0 where fuser.method is geometric")
    if component.normalizer in ("zscore", "logit"):
        raise ValueError(f"{name}.normalizer: must not give values below 0 where fuser.method is geometric")


BALANCED = Strategy(ctr=Component(weight=0.40), cvr=Component(weight=0.35), watch=Component(weight=0.25))
"""The article's weights, with scales on which they mean what they say."""

ARTICLE = Strategy(
    ctr=Component(weight=0.40, normalizer="sigmoid"),
    cvr=Component(weight=0.35, normalizer="identity"),
    watch=Component(weight=0.25, normalizer="log1p"),
)
"""The article's weights on the article's curves: watch time decides nearly all of it."""
