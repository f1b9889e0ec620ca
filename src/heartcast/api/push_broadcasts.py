"""REST of broadcasts: to a topic or to everybody, with a rate, a time, and a figure of how far it got."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from heartcast.api.body import decoder
from heartcast.api.push_asked import due_of, ttl_of
from heartcast.api.push_dead_letters import limit_of
from heartcast.api.push_once import Ticket, Tickets, commit
from heartcast.api.route import PUSH_WRITE, Answer, Call, Parameter, Route
from heartcast.core.clock import rfc3339
from heartcast.core.errors import Forbidden, InvalidInput, StoreUnavailable
from heartcast.core.names import check_id
from heartcast.push.broadcast import Broadcast, Status
from heartcast.push.journal import Note
from heartcast.push.model import Extra, Priority
from heartcast.push.service import PushService
from heartcast.push.template import check_locale

_PATH = "/api/v1/broadcasts"
MAX_RATE = 100_000.0


class BroadcastRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to push to whom. Either ``topic`` or ``all``."""

    template: str
    """``news_v2``, or ``news_v2@1``; the version that is active now is used for all."""
    payload: dict[str, Any]
    topic: str | None = None
    """To its subscribers."""
    all: bool = False
    """To every known user: whoever ever subscribed to a topic or said what they want."""
    rate: float | None = None
    """Most pushes in a second; as fast as there is room when left out."""
    send_at: str | None = None
    """Not before this time: RFC 3339, or a local time with ``zone``."""
    zone: str | None = None
    """IANA time zone of a local ``send_at``."""
    ttl: float | None = None
    """Seconds after which a push is no longer worth anything, counted from its acceptance."""
    priority: Priority = Priority.NORMAL
    category: str | None = None
    collapse_key: str | None = None
    locale: str | None = None


class BroadcastFigures(msgspec.Struct, frozen=True):
    """Where its pushes are. ``accepted`` is the sum of all that follow it."""

    accepted: int
    waiting: int
    """Accepted and not ended: in a shard, deferred, or in an inbox."""
    delivered: int
    suppressed: int
    expired: int
    cancelled: int
    failed: int
    dead: int


class BroadcastState(msgspec.Struct, frozen=True):
    """Where a broadcast is."""

    id: str
    topic: str | None
    """Null: everybody who is known."""
    template: str
    version: int
    status: str
    """scheduled, running, paused, done, cancelled or failed."""
    reason: str | None
    """Why it failed."""
    rate: float | None
    due_at: str | None
    timestamp: str
    """When it was made."""
    changed_at: str
    """When it entered its status."""
    left: int
    """Users that it has not come to; those who subscribe or leave meanwhile change it."""
    figures: BroadcastFigures


class BroadcastList(msgspec.Struct, frozen=True):
    """A page of broadcasts, newest first."""

    items: list[BroadcastState]
    next_cursor: str | None
    """Give it as ``cursor`` for the next page; null: this is the last one."""


_decode = decoder(BroadcastRequest)
_encode = msgspec.json.Encoder().encode


def routes(service: PushService, tickets: Tickets) -> list[Route]:
    """The routes of broadcasts."""
    api = _BroadcastsApi(service)
    one = f"{_PATH}/{{id}}"
    steps = (
        ("pause", Status.PAUSED, "Accept no further pushes; those that were go on."),
        ("resume", Status.RUNNING, "Go on where it was paused."),
        ("cancel", Status.CANCELLED, "Accept no further pushes, and end those that have not left."),
    )
    return [
        Route(
            method="POST",
            path=_PATH,
            handler=tickets.guard(f"POST {_PATH}", api.post),
            summary="Push to each subscriber of a topic, or to everybody.",
            tag="broadcasts",
            body=BroadcastRequest,
            answers={202: BroadcastState},
        ),
        Route(
            method="GET",
            path=_PATH,
            handler=api.page,
            summary="Broadcasts, newest first.",
            tag="broadcasts",
            answers={200: BroadcastList},
            parameters=(
                Parameter(name="cursor", summary="Where the page before ended."),
                Parameter(name="limit", summary="1 to 200; 50 when left out.", type=int),
            ),
        ),
        Route(
            method="GET",
            path=one,
            handler=api.get,
            summary="How far a broadcast got, and how its pushes ended.",
            tag="broadcasts",
            answers={200: BroadcastState},
        ),
        *(
            Route(
                method="POST",
                path=f"{one}/{step}",
                handler=tickets.guard(f"POST {one}/{step}", partial(api.step, status)),
                summary=summary,
                tag="broadcasts",
                answers={200: BroadcastState},
            )
            for step, status, summary in steps
        ),
    ]


class _BroadcastsApi:
    def __init__(self, service: PushService) -> None:
        self._service = service
        self._broadcasts = service.broadcasts

    def post(self, call: Call, ticket: Ticket) -> Answer | None:
        must_push(call)
        request = _decode(call.body)
        broadcast = self._made(request)
        answer = Answer(202, self._shown(broadcast))
        self._broadcasts.begin(broadcast, ticket.notes(answer), commit(call, ticket, answer))
        return None

    def page(self, call: Call) -> Answer:
        must_push(call)
        values = call.query_values()
        limit, cursor = limit_of(values.get("limit", ["50"])[0]), values.get("cursor", [""])[0]
        found = self._broadcasts.page(cursor, limit + 1)
        more = found[limit - 1].what.id if len(found) > limit else None
        return Answer(200, _encode(BroadcastList([self._state(one) for one in found[:limit]], more)))

    def get(self, call: Call) -> Answer:
        must_push(call)
        return Answer(200, self._shown(self._broadcasts.find(call.params["id"])))

    def step(self, status: Status, call: Call, ticket: Ticket) -> Answer | None:
        must_push(call)
        broadcast = self._broadcasts.find(call.params["id"])
        reply = _Reply(lambda: self._shown(broadcast), call, ticket)
        self._broadcasts.set_status(broadcast, status, reply.notes, reply.done)
        return None

    def _made(self, request: BroadcastRequest) -> Broadcast:
        service = self._service
        if (request.topic is None) is not request.all:
            raise InvalidInput(
                "name a topic, or say that it is for all", pointer="/topic", code="conflicting_options"
            )
        if request.rate is not None and not 0 < request.rate <= MAX_RATE:
            raise InvalidInput(f"must be more than 0 and at most {MAX_RATE:.0f} a second", pointer="/rate")
        due_ms = due_of(request.send_at, request.zone, service.wall_ms()) or 0
        template = service.templates.find(request.template)
        template.check(request.payload)
        return self._broadcasts.make(
            "" if request.topic is None else check_id(request.topic, "/topic"),
            template.key,
            service.intake.packed(request.payload),
            _extra_of(request),
            request.rate or 0.0,
            due_ms,
        )

    def _shown(self, broadcast: Broadcast) -> bytes:
        return _encode(self._state(broadcast))

    def _state(self, broadcast: Broadcast) -> BroadcastState:
        what = broadcast.what
        name, _, version = what.template.rpartition("@")
        is_left = what.status in (Status.SCHEDULED, Status.RUNNING, Status.PAUSED)
        audience = self._broadcasts.audience(broadcast)
        ended = {state.value: count for state, count in broadcast.ended.items()}
        return BroadcastState(
            id=what.id,
            topic=what.topic or None,
            template=name,
            version=int(version),
            status=what.status.value,
            reason=what.reason or None,
            rate=what.per_s or None,
            due_at=rfc3339(what.due_ms) if what.due_ms else None,
            timestamp=rfc3339(what.made_ms),
            changed_at=rfc3339(what.changed_ms),
            left=audience.count_after(broadcast.reached.cursor) if is_left else 0,
            figures=BroadcastFigures(accepted=broadcast.reached.accepted, waiting=broadcast.waiting, **ended),
        )


class _Reply:
    """The answer to a step: made when it has acted, given when that is safe."""

    def __init__(self, shown: Callable[[], bytes], call: Call, ticket: Ticket) -> None:
        self._shown = shown
        self._call = call
        self._ticket = ticket
        self._answer = Answer(200)

    def notes(self) -> Sequence[Note]:
        self._answer = Answer(200, self._shown())
        return self._ticket.notes(self._answer)

    def done(self, error: StoreUnavailable | None) -> None:
        commit(self._call, self._ticket, self._answer)(error)


def _extra_of(request: BroadcastRequest) -> Extra:
    def name(text: str | None, pointer: str) -> str:
        return "" if text is None else check_id(text, pointer)

    return Extra(
        ttl_ms=ttl_of(request.ttl) or 0,
        priority=request.priority,
        category=name(request.category, "/category"),
        collapse_key=name(request.collapse_key, "/collapse_key"),
        locale="" if request.locale is None else check_locale(request.locale, "/locale"),
    )


def must_push(call: Call) -> None:
    """Refuse whoever may not push.

    Raises:
        Forbidden: it is not one of the operator's own servers.
    """
    if not call.identity.may(PUSH_WRITE):
        raise Forbidden(f"only the operator's own servers may do this (scope {PUSH_WRITE})")
