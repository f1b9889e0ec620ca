"""REST of rates: which items are clicked most, with proof."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from heartcast.api.ranking import limit_of
from heartcast.api.route import Answer, Call, Parameter, Route
from heartcast.ranking.options import MAX_LIMIT
from heartcast.ranking.rates import Rates
from heartcast.resilience.shedding import Priority


class RatedItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item and what is to be expected of showing it."""

    item_id: str
    rank: int
    """1 is the best."""
    lower_bound: float
    """Lower end of the click rate's 95 % interval: what it is at least."""
    ctr: float
    """Expected chance of a click."""
    ctcvr: float
    """Expected chance of a conversion, over those who are shown it."""
    watch_s: float
    """Expected seconds of watching."""


class RatedItems(msgspec.Struct, frozen=True, kw_only=True):
    """Items by proven click rate."""

    items: list[RatedItem]


_encode = msgspec.json.Encoder().encode


def routes(rates: Rates, wall_ms: Callable[[], int]) -> list[Route]:
    """The routes of rates.

    Args:
        rates: What happened.
        wall_ms: The wall clock, in milliseconds.
    """

    def best(call: Call) -> Answer:
        now_ms = wall_ms()
        found = rates.best(limit_of(call), now_ms)
        expected = rates.measures([item_id for item_id, _ in found], now_ms)
        items = [
            RatedItem(
                item_id=item_id,
                rank=place + 1,
                lower_bound=round(bound, 6),
                ctr=round(float(expected["ctr"][place]), 6),
                ctcvr=round(float(expected["ctcvr"][place]), 6),
                watch_s=round(float(expected["watch"][place]), 3),
            )
            for place, (item_id, bound) in enumerate(found)
        ]
        return Answer(200, _encode(RatedItems(items=items)))

    return [
        Route(
            method="GET",
            path="/api/v1/ranking/rates",
            handler=best,
            summary="The items that are clicked most, by the lower end of their rate's interval.",
            tag="ranking",
            answers={200: RatedItems},
            priority=Priority.BEST_EFFORT,
            parameters=(Parameter(name="limit", summary=f"Items, 1 to {MAX_LIMIT}.", type=int),),
        )
    ]
