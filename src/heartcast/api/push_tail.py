"""REST of what ends now: the last pushes that ended, for whoever watches a server."""

from __future__ import annotations

import msgspec

from heartcast.api.push_dead_letters import limit_of
from heartcast.api.push_state import PushState, state_of
from heartcast.api.route import PUSH_WRITE, Answer, Call, Parameter, Route
from heartcast.core.errors import Forbidden, InvalidInput
from heartcast.push.service import PushService

_encode = msgspec.json.Encoder().encode


class PushTail(msgspec.Struct, frozen=True):
    """Pushes that ended since the last look, oldest first."""

    items: list[PushState]
    next: int
    """Give it as ``after`` at the next look."""


def routes(service: PushService) -> list[Route]:
    """The route of what ends now."""
    ttl_ms = round(service.options.ttl_s * 1000)

    def tail(call: Call) -> Answer:
        if not call.identity.may(PUSH_WRITE):
            raise Forbidden(f"only the operator's own servers may do this (scope {PUSH_WRITE})")
        values = call.query_values()
        limit, [after] = limit_of(values.get("limit", ["50"])[0]), values.get("after", [""])[:1]
        if after and (not after.isdecimal() or len(after) > 18):
            raise InvalidInput(f"after is none of ours: {after[:20]!r}")
        total, pushes = service.ledger.ended_after(int(after) if after else None, limit)
        gates = service.chain.names
        items = [
            state_of(push, service.shard_of(push), gates, ttl_ms, service.receipts.first(push.id))
            for push in pushes
        ]
        return Answer(200, _encode(PushTail(items, total)), ((b"cache-control", b"no-store"),))

    return [
        Route(
            method="GET",
            path="/api/v1/tail",
            handler=tail,
            summary="Pushes that ended since the last look, with their traces.",
            tag="push",
            answers={200: PushTail},
            parameters=(
                Parameter(name="after", summary="`next` of the last look; left out: the newest.", type=int),
                Parameter(name="limit", summary="1 to 200; 50 when left out.", type=int),
            ),
        )
    ]
