"""One push that was accepted: where it is, taking it back, changing it, what devices report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from heartcast.api.body import decoder
from heartcast.api.problems import problem
from heartcast.api.push_asked import PushPatch, due_of, ttl_of
from heartcast.api.push_once import Ticket, Tickets, commit, refuse
from heartcast.api.push_state import PushState, state_of
from heartcast.api.route import PUSH_WRITE, Answer, Call, Identity, Route
from heartcast.core.errors import Forbidden, HeartcastError, InvalidInput, StoreUnavailable
from heartcast.core.names import check_id
from heartcast.push.journal import Note
from heartcast.push.model import Push, State
from heartcast.push.receipts import Event
from heartcast.push.service import PushService
from heartcast.resilience.shedding import Priority

_encode = msgspec.json.Encoder().encode
_decode_patch = decoder(PushPatch)


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device reports."""

    event: Event
    """delivered, exposed, opened, clicked or converted."""
    device_id: str = ""


_decode_receipt = decoder(Receipt)


def routes(service: PushService, tickets: Tickets) -> list[Route]:
    """The routes of a single push."""
    api = _OneApi(service)
    path = "/api/v1/pushes/{id}"
    return [
        Route(
            method="GET",
            path=path,
            handler=api.get,
            summary="Where a push is, how it ended, and what each gate said.",
            tag="push",
            answers={200: PushState},
        ),
        Route(
            method="PATCH",
            path=path,
            handler=tickets.guard(f"PATCH {path}", api.patch),
            summary="Change payload, time or ttl of a push that waits.",
            tag="push",
            body=PushPatch,
            answers={200: PushState},
        ),
        Route(
            method="POST",
            path=f"{path}/cancel",
            handler=tickets.guard(f"POST {path}/cancel", api.cancel),
            summary="Take a push back: 200 means that it will never be sent, 409 that it was too late.",
            tag="push",
            answers={200: PushState},
            priority=Priority.CRITICAL,
        ),
        Route(
            method="POST",
            path=f"{path}/receipts",
            handler=tickets.guard(f"POST {path}/receipts", api.receipt),
            summary="Report what a device did with a push; repeating it changes nothing.",
            tag="push",
            body=Receipt,
            answers={204: None},
            priority=Priority.CRITICAL,
        ),
    ]


class _OneApi:
    def __init__(self, service: PushService) -> None:
        self._service = service
        self._ttl_ms = round(service.options.ttl_s * 1000)

    def get(self, call: Call) -> Answer | None:
        self._service.recall.find(call.params["id"], partial(self._got, call))
        return None

    def _got(self, call: Call, found: Push | HeartcastError) -> None:
        who = call.identity
        if isinstance(found, Push) and not (who.may_look_at(found.user) or who.may(PUSH_WRITE)):
            found = Forbidden("this push is for another user")
        call.respond(problem(found) if isinstance(found, HeartcastError) else Answer(200, self.state(found)))

    def cancel(self, call: Call, ticket: Ticket) -> Answer | None:
        _must_be_allowed(call.identity)
        self._service.recall.find(call.params["id"], partial(self._cancel, call, ticket))
        return None

    def _cancel(self, call: Call, ticket: Ticket, found: Push | HeartcastError) -> None:
        try:
            push = _there(found)
            reply = _Reply(self, call, ticket, push)
            self._service.recall.cancel(push, reply.notes, reply.done)
        except HeartcastError as error:
            refuse(call, ticket, error)

    def patch(self, call: Call, ticket: Ticket) -> Answer | None:
        _must_be_allowed(call.identity)
        request = _decode_patch(call.body)
        due_ms = due_of(request.send_at, request.zone, self._service.wall_ms())
        ttl_ms = ttl_of(request.ttl)
        if due_ms is None and ttl_ms is None and request.payload is None:
            raise InvalidInput("must change something: payload, send_at or ttl")
        found = partial(self._patch, call, ticket, request, due_ms, ttl_ms)
        self._service.recall.find(call.params["id"], found)
        return None

    def _patch(
        self,
        call: Call,
        ticket: Ticket,
        request: PushPatch,
        due_ms: int | None,
        ttl_ms: int | None,
        found: Push | HeartcastError,
    ) -> None:
        try:
            push = _there(found)
            reply = _Reply(self, call, ticket, push)
            self._service.recall.change(
                push, payload=request.payload, due_ms=due_ms, ttl_ms=ttl_ms,
                notes=reply.notes, done=reply.done,
            )  # fmt: skip
        except HeartcastError as error:
            refuse(call, ticket, error)

    def receipt(self, call: Call, ticket: Ticket) -> Answer | None:
        receipt = _decode_receipt(call.body)
        device = check_id(receipt.device_id, "/device_id") if receipt.device_id else ""
        push = self._service.ledger.find(call.params["id"])
        if not call.identity.may_act_for(push.user):
            raise Forbidden("this push is for another user")
        now_ms = self._service.wall_ms()
        self._service.receipts.add(push, receipt.event, device, now_ms)
        if receipt.event is Event.DELIVERED and push.state is State.SENT:
            self._service.delivery.acknowledge(push.user, [push.id], now_ms)
        answer = Answer(204)
        ticket.keep(answer)
        return answer

    def state(self, push: Push) -> bytes:
        """The push's record as JSON."""
        shard = self._service.shard_of(push)
        receipts = self._service.receipts.first(push.id)
        return _encode(state_of(push, shard, self._service.chain.names, self._ttl_ms, receipts))


class _Reply:
    """The answer to a change: made when the push has changed, given when that is safe."""

    def __init__(self, api: _OneApi, call: Call, ticket: Ticket, push: Push) -> None:
        self._api = api
        self._call = call
        self._ticket = ticket
        self._push = push
        self._answer = Answer(200)

    def notes(self) -> Sequence[Note]:
        self._answer = Answer(200, self._api.state(self._push))
        return self._ticket.notes(self._answer)

    def done(self, error: StoreUnavailable | None) -> None:
        commit(self._call, self._ticket, self._answer)(error)


def _there(found: Push | HeartcastError) -> Push:
    if isinstance(found, HeartcastError):
        raise found
    return found


def _must_be_allowed(identity: Identity) -> None:
    if not identity.may(PUSH_WRITE):
        raise Forbidden(f"only the operator's own servers may do this (scope {PUSH_WRITE})")
