"""What a limit is, and what a decision says.

A ``Limit`` is a plain value: how many, in how long, and by which rule it is counted.
It can be written as text, because it comes from settings and from operators:

    "100/s"                a token bucket that holds 100
    "100/s burst 20"       a token bucket that holds 20
    "3/day log"            at most 3 in any 24 hours, exactly
    "1000/min window"      about 1000 in any minute, in constant memory
    "50/s leak 10"         one every 20 ms, 10 may queue
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import msgspec

Kind = Literal["bucket", "log", "window", "leak"]

SECOND_NS = 1_000_000_000
_UNITS_NS = {
    "ms": SECOND_NS // 1000,
    "s": SECOND_NS,
    "min": 60 * SECOND_NS,
    "h": 3600 * SECOND_NS,
    "day": 86_400 * SECOND_NS,
}
_TEXT = re.compile(
    r"(?P<limit>\d{1,15})\s*/\s*(?P<times>\d{1,9})?\s*(?P<unit>ms|s|min|h|day)"
    r"(?:\s+(?P<word>burst|leak)\s+(?P<burst>\d{1,15})|\s+(?P<kind>log|window))?"
)
# A log keeps a stamp per admitted unit: beyond this it is the wrong rule.
MAX_LOG = 10_000


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """So many in so long.

    Raises:
        ValueError: a field is not a whole number in its range.
    """

    limit: int
    """Units per period, >= 1."""

    period_ns: int = SECOND_NS
    """Length of the period in nanoseconds, >= 1."""

    burst: int = 0
    """Most units at once, >= 1; 0 means ``limit``. Windows and logs have no other burst."""

    kind: Kind = "bucket"
    """How it is counted."""

    name: str = ""
    """What a decision calls it; "" means its text."""

    def __post_init__(self) -> None:
        for field, least in (("limit", 1), ("period_ns", 1), ("burst", 0)):
            value = getattr(self, field)
            # bool is an int to Python, and True/s is a mistake, not a limit.
            if type(value) is not int or value < least:
                raise ValueError(f"{field}: must be a whole number >= {least}, got {value!r}")
        if self.kind in ("log", "window") and self.burst not in (0, self.limit):
            raise ValueError(f"burst: a {self.kind} has no burst of its own, got {self.burst}")
        if self.kind == "log" and self.limit > MAX_LOG:
            raise ValueError(f"limit: a log keeps every stamp, must be <= {MAX_LOG}, got {self.limit}")

    @property
    def capacity(self) -> int:
        """The largest cost that can ever be admitted."""
        return self.burst or self.limit

    @property
    def title(self) -> str:
        return self.name or str(self)

    @classmethod
    def parse(cls, text: str, *, name: str = "") -> Limit:
        """Read ``"100/s burst 20"``.

        Raises:
            ValueError: the text is not a limit, or a number in it is out of range.
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"not a limit: {text!r}; write for example '100/s burst 20' or '3/day log'")
        kind: Kind = {"leak": "leak", "log": "log", "window": "window"}.get(  # type: ignore[assignment]
            found["word"] or found["kind"] or "", "bucket"
        )
        return cls(
            limit=int(found["limit"]),
            period_ns=int(found["times"] or 1) * _UNITS_NS[found["unit"]],
            burst=int(found["burst"] or 0),
            kind=kind,
            name=name,
        )

    def __str__(self) -> str:
        unit, unit_ns = next(
            ((unit, ns) for unit, ns in reversed(_UNITS_NS.items()) if not self.period_ns % ns), ("ns", 1)
        )
        times = self.period_ns // unit_ns
        words = {"bucket": f" burst {self.capacity}", "leak": f" leak {self.capacity}"}
        return f"{self.limit}/{times if times > 1 else ''}{unit}{words.get(self.kind, ' ' + self.kind)}"


class Decision(NamedTuple):
    """What a limiter answered, for headers and logs. The fast calls answer an int instead."""

    allowed: bool
    rule: str
    """The rule that refused, or the tightest one when admitted."""
    limit: int
    """That rule's limit per period."""
    remaining: int
    """Units that could be admitted at once now."""
    retry_after_s: float
    """Seconds until the same request would be admitted; 0.0 when it was."""
    reset_after_s: float
    """Seconds until that rule is as if never used."""


def check_cost(cost: int, capacity: int) -> int:
    """``cost`` when it is a whole number in [1, capacity].

    Raises:
        ValueError: it is not; such a cost could never be paid, or would add units.
    """
    if type(cost) is not int or not 1 <= cost <= capacity:
        raise ValueError(f"cost must be a whole number in [1, {capacity}], got {cost!r}")
    return cost
