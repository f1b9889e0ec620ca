"""REST of what ends now: the last pushes that ended, for whoever watches a server.

A look gives what ended since the one before, up to the millisecond that is over. Whoever looks
too seldom is told how many it has missed: nothing is kept for it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

import msgspec

from heartcast.api.push_dead_letters import limit_of
from heartcast.api.push_state import PushState, state_of
from heartcast.api.route import PUSH_WRITE, Answer, Call, Headers, Parameter, Route
from heartcast.core.errors import Forbidden, InvalidInput
from heartcast.push.model import Push
from heartcast.push.service import PushService
from heartcast.resilience.shedding import Priority

PATH = "/api/v1/tail"
MOST_MISSED = 20_000
"""Counted up to here: the count may be more."""
_NO_STORE: Headers = ((b"cache-control", b"no-store"),)
_encode = msgspec.json.Encoder().encode


class PushTail(msgspec.Struct, frozen=True):
    """Pushes that ended since the last look, oldest first."""

    items: list[PushState]
    next: str
    """Give it as ``after`` at the next look."""
    missed: int = 0
    """How many more ended since the last look, and are older than those shown; at most 20,000."""
    silent: list[str] = []
    """Names of nodes that did not answer: what ended there is missing, or comes later."""


class Asked(NamedTuple):
    """One look."""

    after: str
    """"": the newest."""
    limit: int


def asked_of(call: Call) -> Asked:
    """What a request asks for.

    Raises:
        Forbidden: it is not for who asks.
        InvalidInput: the limit is none.
    """
    if not call.identity.may(PUSH_WRITE):
        raise Forbidden(f"only the operator's own servers may do this (scope {PUSH_WRITE})")
    values = call.query_values()
    return Asked(values.get("after", [""])[0], limit_of(values.get("limit", ["50"])[0]))


def position_of(text: str) -> int:
    """A place in one server's tail.

    Raises:
        InvalidInput: it is none.
    """
    if not text.isdecimal() or len(text) > 18:
        raise InvalidInput(f"after is none of ours: {text[:20]!r}")
    return int(text)


def told(tail: PushTail) -> Answer:
    """The answer to a look."""
    return Answer(200, _encode(tail), _NO_STORE)


def look(services: Iterable[PushService], after_ms: int | None, limit: int, now_ms: int) -> PushTail:
    """What ended at these services.

    Args:
        after_ms: Where the last look ended; None: there was none. One that lies ahead is of a
            clock that was moved, and means the same.
    """
    is_first = after_ms is None or after_ms >= now_ms
    until_ms = now_ms - 1
    ends = heapq.merge(
        *(_ends(service, 0 if is_first else after_ms or 0) for service in services), key=_newest_first
    )
    some = islice(ends, limit + (0 if is_first else MOST_MISSED))
    # Of this millisecond more may come.
    found = [end for end in some if end[0].changed_ms <= until_ms]
    shown = [
        state_of(
            push, service.shard_of(push), service.chain.names, round(service.options.ttl_s * 1000),
            service.receipts.first(push.id),
        )
        for push, service in reversed(found[:limit])
    ]  # fmt: skip
    return PushTail(shown, str(until_ms), len(found) - len(shown))


def _ends(service: PushService, after_ms: int) -> Iterable[tuple[Push, PushService]]:
    return ((push, service) for push in service.ledger.ended_since(after_ms))


def _newest_first(end: tuple[Push, PushService]) -> int:
    return -end[0].changed_ms


def routes(service: PushService) -> list[Route]:
    """The route of what ends now."""

    def tail(call: Call) -> Answer:
        after, limit = asked_of(call)
        return told(look([service], position_of(after) if after else None, limit, service.wall_ms()))

    return [route(tail)]


def route(handler: Callable[[Call], Answer | None]) -> Route:
    """The route, answered by this handler."""
    return Route(
        method="GET",
        path=PATH,
        handler=handler,
        summary="Pushes that ended since the last look, with their traces.",
        tag="push",
        answers={200: PushTail},
        priority=Priority.BEST_EFFORT,
        parameters=(
            Parameter(name="after", summary="`next` of the last look; left out: the newest."),
            Parameter(name="limit", summary="1 to 200; 50 when left out.", type=int),
        ),
    )
