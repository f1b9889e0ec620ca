"""REST of events: the ordered feed that other programs follow."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from heartcast.api.route import Answer, Call, Headers, Parameter, Route
from heartcast.core.clock import rfc3339
from heartcast.core.errors import Forbidden, InvalidInput
from heartcast.core.names import channel_part
from heartcast.hearts.model import Cause, Change, HeartEvent
from heartcast.hearts.outbox import MAX_EVENTS, MAX_WAIT_S, Feed, cursor_of

_NO_STORE: Headers = ((b"cache-control", b"no-store"),)
_encode = msgspec.json.Encoder().encode


class EventShown(msgspec.Struct, frozen=True):
    """One heart came or went."""

    id: str
    """The cursor of a consumer that has taken everything up to this event."""
    type: Literal["heart.added", "heart.removed"]
    cause: Cause
    timestamp: str
    """When it was written."""
    effect_key: str
    """The same for every event of this user, target and kind: pay once per key."""
    heart_id: str
    target_id: str
    user_id: str
    kind: str
    hearted_at: str
    """When the heart was made, also when it has just gone."""
    count: int
    """Hearts of this target and kind after this change."""
    version: int


class EventsShown(msgspec.Struct, frozen=True):
    """A page of events, oldest first."""

    items: list[EventShown]
    cursor: str
    """Give it as ``after`` for what comes next."""
    has_more: bool
    """Whether more is there already."""


def effect_key(change: Change) -> str:
    """``kind:target:user``, percent-encoded so that it is unambiguous."""
    parts = (change.kind, change.target_id, change.user_id)
    return ":".join(channel_part(part).replace(":", "%3A") for part in parts)


def shown(event: HeartEvent, epoch: str) -> EventShown:
    """An event as it is answered."""
    number, at_ms, change = event
    return EventShown(
        cursor_of(epoch, number), "heart.added" if change.delta > 0 else "heart.removed", change.cause,
        rfc3339(at_ms), effect_key(change), change.heart_id, change.target_id, change.user_id, change.kind,
        rfc3339(change.created_ms), change.count, change.version,
    )  # fmt: skip


def routes(feed: Feed) -> list[Route]:
    """The route of events; only for the operator's own servers."""

    async def read(call: Call) -> Answer:
        if not call.identity.is_server:
            raise Forbidden("only the operator's own servers may read events")
        values = call.query_values()
        after = values.get("after", [""])[0]
        limit = int(_number(values, "limit", 100, 1, MAX_EVENTS))
        page = await feed.read(after, limit, _number(values, "wait", 0, 0, MAX_WAIT_S))
        body = EventsShown(
            [shown(event, page.epoch) for event in page.events], page.cursor, page.number < page.last
        )
        return Answer(200, _encode(body), _NO_STORE)

    return [
        Route(
            method="GET",
            path="/api/v1/events",
            handler=read,
            summary="What changed, in order: every heart that came or went.",
            tag="hearts",
            answers={200: EventsShown},
            is_patient=True,
            parameters=(
                Parameter(
                    name="after",
                    summary='The cursor of the page before; "latest" for what happens from now on; '
                    "left out: the oldest event that is kept.",
                ),
                Parameter(name="limit", summary=f"1 to {MAX_EVENTS}; 100 when left out.", type=int),
                Parameter(
                    name="wait",
                    summary=f"Seconds to wait for an event when there is none, 0 to {MAX_WAIT_S:.0f}.",
                    type=float,
                ),
            ),
        )
    ]


def _number(values: dict[str, list[str]], name: str, default: float, low: float, high: float) -> float:
    text = values.get(name, [str(default)])[0]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise InvalidInput(f"{name} must be a number from {low:g} to {high:g}, got {text[:20]!r}")
    return number
