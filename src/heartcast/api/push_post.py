"""Queueing pushes: one, or up to a thousand with a result each.

A plain push without an Idempotency-Key into a journal in memory is answered on the spot:
that is the hot path, and everything else takes a few steps more.
"""

from __future__ import annotations

import re
from collections.abc import Sized
from typing import Any, NamedTuple

import msgspec

from heartcast.api.body import decoder
from heartcast.api.idempotency import HEADER
from heartcast.api.problems import problem
from heartcast.api.push_asked import PlainRequest, PushRequest, extra_of
from heartcast.api.push_composed import Compose, completed
from heartcast.api.push_once import FREE, Ticket, Tickets, commit
from heartcast.api.route import PUSH_WRITE, Answer, Call, Route
from heartcast.core.clock import rfc3339
from heartcast.core.errors import Forbidden, HeartcastError, InvalidInput
from heartcast.push.intake import Taken
from heartcast.push.model import State
from heartcast.push.service import PushService
from heartcast.resilience.shedding import Priority

MAX_BATCH = 1_000
_SCOPE = "POST /api/v1/pushes"


class PushAccepted(msgspec.Struct, frozen=True):
    """The push was taken and waits."""

    id: str
    user_id: int | str
    """In the type that was sent."""
    template: str
    status: str
    """``queued``, or ``deferred`` when it has a ``send_at``."""
    shard: int
    timestamp: str
    """RFC 3339, UTC."""


class PushDuplicate(msgspec.Struct, frozen=True):
    """Its dedupe key was used by this push before; nothing new was taken."""

    id: str
    user_id: int | str
    template: str
    status: str
    """Where the first push is; ``unknown`` when its record is no longer kept."""
    deduplicated: bool = True


class PushBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to 1,000 pushes; each is taken or refused alone."""

    items: list[PushRequest]


class _RawBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    # Items are decoded one by one, so that a bad one spoils only itself.
    items: list[msgspec.Raw]


class _PlainBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    items: list[PlainRequest]


class PushResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one item: ``push`` with status 202, ``duplicate`` with 200, or ``problem``."""

    status: int
    push: PushAccepted | None = None
    duplicate: PushDuplicate | None = None
    problem: dict[str, Any] | None = None


class PushResults(msgspec.Struct, frozen=True):
    """One result per item, in the order sent."""

    results: list[PushResult]


class _Item(NamedTuple):
    result: PushResult
    taken: Taken | None = None


class _Batch(NamedTuple):
    """What became of a batch."""

    answer: bytes
    taken: list[Taken]


_decode_plain = msgspec.json.Decoder(PlainRequest).decode
_decode_push = decoder(PushRequest)
_decode_batch = decoder(_RawBatch)
_decode_plain_batch = msgspec.json.Decoder(_PlainBatch).decode
_encode = msgspec.json.Encoder().encode


class _Timestamp:
    """RFC 3339 texts, made once per millisecond: under load many pushes share one."""

    __slots__ = ("_ms", "_text")

    def __init__(self) -> None:
        self._ms = -1
        self._text = ""

    def of(self, wall_ms: int) -> str:
        if wall_ms != self._ms:
            self._ms, self._text = wall_ms, rfc3339(wall_ms)
        return self._text


def routes(service: PushService, tickets: Tickets, compose: Compose | None) -> list[Route]:
    """The routes that take pushes."""
    api = _PostApi(service, tickets, compose)
    post = {
        "method": "POST", "handler": api.post, "summary": "Queue a push to one user.", "tag": "push",
        "body": PushRequest, "answers": {202: PushAccepted, 200: PushDuplicate}, "hot": True,
        "weigh": weigh,
    }  # fmt: skip
    return [
        Route(path="/push", **post),  # type: ignore[arg-type]
        Route(path="/api/v1/pushes", **post),  # type: ignore[arg-type]
        Route(
            method="POST",
            path="/api/v1/pushes/batch",
            handler=tickets.guard("POST /api/v1/pushes/batch", api.post_batch),
            summary="Queue up to 1,000 pushes, with a result each.",
            tag="push",
            body=PushBatch,
            answers={200: PushResults},
            hot=True,
        ),
    ]


_NOT_ALLOWED = f"only the operator's own servers may push (scope {PUSH_WRITE})"


_URGENCY = re.compile(rb'"priority"\s*:\s*"(critical|low)"')
_WEIGHTS = {b"critical": Priority.CRITICAL, b"low": Priority.SHEDDABLE}


def weigh(body: bytes) -> Priority:
    """How important a push is to its sender, without taking it apart.

    A text that looks the same inside the body has its quotation marks escaped. A payload with such a
    field of its own deceives us, and with it its sender may have what it could have by asking.
    """
    found = _URGENCY.search(body)
    return Priority.NORMAL if found is None else _WEIGHTS[found[1]]


class _PostApi:
    def __init__(self, service: PushService, tickets: Tickets, compose: Compose | None) -> None:
        self._service = service
        self._compose = compose
        self._intake = service.intake
        self._first_shard = service.first_shard
        self._is_durable = service.journal.is_durable
        self._tickets = tickets
        self._accepted_at = _Timestamp()
        # The port hands out one and the same list for heads that are byte for byte the same.
        self._keyless: object = None

    def post(self, call: Call) -> Answer | None:
        if not call.identity.may(PUSH_WRITE):
            raise Forbidden(_NOT_ALLOWED)
        headers = call.headers
        if headers is not self._keyless:
            if (key := call.header(HEADER)) is not None:
                return self._tickets.run(call, key, _SCOPE, self._post_any)
            self._keyless = headers
        try:
            request = _decode_plain(call.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # Not plain, or not right: the full decoder finds out which.
            return self._post_any(call, FREE)
        taken = self._intake.take(request.user_id, request.template, request.payload)
        answer = Answer(202, self._text(request, taken).encode())
        if not self._is_durable:
            self._intake.enter(taken)
            return answer
        self._intake.submit((taken,), (), commit(call, FREE, answer))
        return None

    def _text(self, request: PlainRequest, taken: Taken) -> str:
        # The same as an encoded PushAccepted, in half the time; a test compares them.
        push, shard = taken
        user_id, name, template = request.user_id, request.template, push.template
        user_json = user_id if isinstance(user_id, int) else _encode(user_id).decode()
        name_json = template.name_json if name == template.name else _encode(name).decode()
        return (
            f'{{"id":"{push.id}","user_id":{user_json},"template":{name_json},"status":"queued",'
            f'"shard":{self._first_shard + shard},"timestamp":"{self._accepted_at.of(push.accepted_ms)}"}}'
        )

    def _post_any(self, call: Call, ticket: Ticket) -> Answer | None:
        item = self._take(call.body)
        result = item.result
        answer = Answer(result.status, _encode(result.push or result.duplicate))
        taken = () if item.taken is None else (item.taken,)
        # A duplicate is told only when what it is a duplicate of is safe: it was written before.
        self._intake.submit(taken, ticket.notes(answer), commit(call, ticket, answer))
        return None

    def _take(self, body: bytes | msgspec.Raw) -> _Item:
        request = _decode_push(bytes(body))
        extra = extra_of(request, self._service.wall_ms())
        if extra is not None and (first := self._intake.duplicate_of(request.user_id, extra)):
            push = self._service.ledger.living(first) or self._service.ledger.ended_one(first)
            status = push.state.value if push else "unknown"
            return _Item(
                PushResult(200, duplicate=PushDuplicate(first, request.user_id, request.template, status))
            )
        payload = completed(request.user_id, request.payload, request.payload_from, self._compose)
        taken = self._intake.take(request.user_id, request.template, payload, extra)
        push, shard = taken
        status = State.DEFERRED.value if push.due_ms else State.QUEUED.value
        timestamp = self._accepted_at.of(push.accepted_ms)
        accepted = PushAccepted(
            push.id, request.user_id, request.template, status, self._first_shard + shard, timestamp
        )
        return _Item(PushResult(202, push=accepted), taken)

    def post_batch(self, call: Call, ticket: Ticket) -> Answer | None:
        if not call.identity.may(PUSH_WRITE):
            raise Forbidden(_NOT_ALLOWED)
        try:
            batch = self._plain_batch(_decode_plain_batch(call.body).items)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # One at least is not plain, or not right.
            batch = self._any_batch(_decode_batch(call.body).items)
        answer = Answer(200, batch.answer)
        self._intake.submit(batch.taken, ticket.notes(answer), commit(call, ticket, answer))
        return None

    def _plain_batch(self, items: list[PlainRequest]) -> _Batch:
        # Nearly all batches: the same answer as of any batch, in half the time; a test compares them.
        _check_size(items)
        all_taken: list[Taken] = []
        results: list[str] = []
        for index, request in enumerate(items):
            try:
                taken = self._intake.take(request.user_id, request.template, request.payload)
            except HeartcastError as error:
                results.append(_encode(_refused(index, error)).decode())
                continue
            all_taken.append(taken)
            results.append(f'{{"status":202,"push":{self._text(request, taken)}}}')
        return _Batch(f'{{"results":[{",".join(results)}]}}'.encode(), all_taken)

    def _any_batch(self, items: list[msgspec.Raw]) -> _Batch:
        _check_size(items)
        done = [self._item(index, item) for index, item in enumerate(items)]
        answer = _encode(PushResults([item.result for item in done]))
        return _Batch(answer, [item.taken for item in done if item.taken is not None])

    def _item(self, index: int, item: msgspec.Raw) -> _Item:
        try:
            return self._take(item)
        except HeartcastError as error:
            return _Item(_refused(index, error))


def _check_size(items: Sized) -> None:
    if not 1 <= len(items) <= MAX_BATCH:
        raise InvalidInput(f"must hold 1 to {MAX_BATCH} items, got {len(items)}", pointer="/items")


def _refused(index: int, error: HeartcastError) -> PushResult:
    if isinstance(error, InvalidInput):
        error.pointer = f"/items/{index}{error.pointer}"
    answer = problem(error)
    return PushResult(answer.status, problem=msgspec.json.decode(answer.body))
