"""REST of the push domain.

    POST /push                    queue a push (also as POST /api/v1/pushes)
    POST /api/v1/pushes/batch     queue up to 1,000, with a result each
    GET  /api/v1/pushes/{id}      where it is, and how it ended
    GET  /healthz                 every shard's queues; 503 when one stands still

202 means: accepted, and it will end in exactly one way that can be asked for.
"""

from __future__ import annotations

from typing import Any

import msgspec

from heartcast.api.body import decoder
from heartcast.api.problems import problem
from heartcast.api.route import PUSH_WRITE, Answer, Call, Identity, Route
from heartcast.core.clock import rfc3339
from heartcast.core.errors import Forbidden, HeartcastError, InvalidInput
from heartcast.push.model import Push
from heartcast.push.service import PushService, ShardHealth
from heartcast.resilience.shedding import Priority

MAX_BATCH = 1_000
BATCH_SIZE = 1
"""Pushes of one user that leave as one message; merging is not in this version."""


class PushRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to push to whom."""

    user_id: int | str
    template: str
    """``news_v2``, or ``news_v2@1`` for one version for good."""
    payload: dict[str, Any]
    """The fields that the template declares, and any others for the client."""


class PushAccepted(msgspec.Struct, frozen=True):
    """The push was taken and waits in its shard."""

    id: str
    user_id: int | str
    """In the type that was sent."""
    template: str
    status: str
    """Always ``queued``."""
    shard: int
    timestamp: str
    """RFC 3339, UTC."""


class PushBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to 1,000 pushes; each is taken or refused alone."""

    items: list[PushRequest]


class _RawBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    # Items are decoded one by one, so that a bad one spoils only itself.
    items: list[msgspec.Raw]


class PushResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one item: ``push`` with status 202, or ``problem``."""

    status: int
    push: PushAccepted | None = None
    problem: dict[str, Any] | None = None


class PushResults(msgspec.Struct, frozen=True):
    """One result per item, in the order sent."""

    results: list[PushResult]


class PushState(msgspec.Struct, frozen=True):
    """Where a push is."""

    id: str
    user_id: int | str
    template: str
    version: int
    """The version that was active when the push was accepted."""
    status: str
    """queued, sent, delivered, suppressed, expired, cancelled or failed."""
    reason: str | None
    """Why it ended so; null when the status says all."""
    shard: int
    attempts: int
    """How often it was handed to sessions of the user."""
    timestamp: str
    """When it was accepted; RFC 3339, UTC."""
    changed_at: str
    """When it entered this status."""
    attempted_at: str | None
    """The last attempt; null before the first."""


class ShardState(msgspec.Struct, frozen=True):
    """One shard of the push scheduler."""

    id: int
    pending: int
    """Pushes in the buffer that is being filled."""
    active: int
    """Pushes in the buffer that is being worked off."""
    error_rate: float
    """Share of the last thousand or so that failed, 0.0 to 1.0."""
    batch_size: int
    """Pushes of one user that leave as one message."""
    oldest_ms: int
    """Age of the push that waits longest; 0 when nothing waits."""
    last_progress_ms: int
    """Time since a push last left; 0 when nothing waits."""


class Health(msgspec.Struct, frozen=True):
    """Whether pushes move."""

    status: str
    """``ok``, or ``stalled`` when a shard holds something and nothing moved for 30 s."""
    shards: list[ShardState]


_decode_push = decoder(PushRequest)
_decode_batch = decoder(_RawBatch)
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


def routes(service: PushService) -> list[Route]:
    """The domain's routes.

    Args:
        service: Takes the pushes.
    """
    api = _PushApi(service)
    post = {
        "method": "POST", "handler": api.post, "summary": "Queue a push to one user.", "tag": "push",
        "body": PushRequest, "answers": {202: PushAccepted}, "hot": True,
        "budget": "pushes",
    }  # fmt: skip
    return [
        Route(path="/push", **post),  # type: ignore[arg-type]
        Route(path="/api/v1/pushes", **post),  # type: ignore[arg-type]
        Route(
            method="POST",
            path="/api/v1/pushes/batch",
            handler=api.post_batch,
            summary="Queue up to 1,000 pushes, with a result each.",
            tag="push",
            body=PushBatch,
            answers={200: PushResults},
            hot=True,
            priority=Priority.SHEDDABLE,
            budget="pushes",
            is_batch=True,
        ),
        Route(
            method="GET",
            path="/api/v1/pushes/{id}",
            handler=api.get,
            summary="Where a push is, and how it ended.",
            tag="push",
            answers={200: PushState},
        ),
        Route(
            method="GET",
            path="/healthz",
            handler=api.health,
            summary="Every shard's queues, judged by progress.",
            tag="operation",
            answers={200: Health, 503: Health},
            is_public=True,
            priority=Priority.CRITICAL,
        ),
    ]


class _PushApi:
    def __init__(self, service: PushService) -> None:
        self._service = service
        self._accepted_at = _Timestamp()

    def post(self, call: Call) -> Answer:
        _must_be_allowed(call.identity)
        request = _decode_push(call.body)
        push, shard = self._service.accept(request.user_id, request.template, request.payload)
        # The same bytes as an encoded PushAccepted, in half the time; a test compares them.
        user_id, name, template = request.user_id, request.template, push.template
        user_json = user_id if isinstance(user_id, int) else _encode(user_id).decode()
        name_json = template.name_json if name == template.name else _encode(name).decode()
        body = (
            f'{{"id":"{push.id}","user_id":{user_json},"template":{name_json},"status":"queued",'
            f'"shard":{shard},"timestamp":"{self._accepted_at.of(push.accepted_ms)}"}}'
        )
        return Answer(202, body.encode())

    def _accepted(self, request: PushRequest, push: Push, shard: int) -> PushAccepted:
        timestamp = self._accepted_at.of(push.accepted_ms)
        return PushAccepted(push.id, request.user_id, request.template, "queued", shard, timestamp)

    def post_batch(self, call: Call) -> Answer:
        _must_be_allowed(call.identity)
        items = _decode_batch(call.body).items
        if not 1 <= len(items) <= MAX_BATCH:
            raise InvalidInput(f"must hold 1 to {MAX_BATCH} items, got {len(items)}", pointer="/items")
        return Answer(
            200, _encode(PushResults([self._item(index, item) for index, item in enumerate(items)]))
        )

    def _item(self, index: int, item: msgspec.Raw) -> PushResult:
        try:
            request = _decode_push(item)
            push, shard = self._service.accept(request.user_id, request.template, request.payload)
        except HeartcastError as error:
            if isinstance(error, InvalidInput):
                error.pointer = f"/items/{index}{error.pointer}"
            answer = problem(error)
            return PushResult(answer.status, problem=msgspec.json.decode(answer.body))
        return PushResult(202, push=self._accepted(request, push, shard))

    def get(self, call: Call) -> Answer:
        push = self._service.find(call.params["id"])
        if not (call.identity.may_act_for(push.user) or call.identity.may(PUSH_WRITE)):
            raise Forbidden("this push is for another user")
        return Answer(200, _encode(_state(push, self._service.shard_of(push))))

    def health(self, _: Call) -> Answer:
        shards = self._service.health()
        is_stalled = any(shard.is_stalled for shard in shards)
        health = Health("stalled" if is_stalled else "ok", [_shard_state(shard) for shard in shards])
        return Answer(503 if is_stalled else 200, _encode(health), ((b"cache-control", b"no-store"),))


def _must_be_allowed(identity: Identity) -> None:
    if not identity.may(PUSH_WRITE):
        raise Forbidden(f"only the operator's own servers may push (scope {PUSH_WRITE})")


def _state(push: Push, shard: int) -> PushState:
    return PushState(
        id=push.id,
        user_id=push.user_id,
        template=push.template.name,
        version=push.template.version,
        status=push.state.value,
        reason=push.reason or None,
        shard=shard,
        attempts=push.attempts,
        timestamp=rfc3339(push.accepted_ms),
        changed_at=rfc3339(push.changed_ms),
        attempted_at=rfc3339(push.attempted_ms) if push.attempted_ms else None,
    )


def _shard_state(shard: ShardHealth) -> ShardState:
    error_rate = round(shard.error_rate, 4)
    return ShardState(
        shard.id, shard.pending, shard.active, error_rate, BATCH_SIZE, shard.oldest_ms, shard.last_progress_ms
    )
