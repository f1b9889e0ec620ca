"""REST for hearts.

    POST, DELETE  /api/v1/hearts           give one, take it back
    POST          /api/v1/hearts/batch     up to 500 of both
    DELETE        /api/v1/hearts/{id}      take one back
    GET, POST     /api/v1/hearts/counts    ``heart_counts``
    GET           /api/v1/hearts, …/{id}   ``heart_lists``

Adding is a set and never a toggle: the first POST makes the heart and answers 201,
every later one answers 200 with the same id and time. So a client that did not see
the answer just asks again.

An Idempotency-Key makes a late repetition harmless as well (``heart_once``). A heart's id is
of that heart alone, so taking it back by id needs none.

Who may do what: a user acts for itself, a server for everyone, a visitor who is nobody
gives the kinds that visitors may give.
"""

from __future__ import annotations

import secrets

from heartcast.api import heart_counts, heart_lists
from heartcast.api.auth.signing import Signer
from heartcast.api.body import decoder
from heartcast.api.cursors import Cursors
from heartcast.api.heart_access import check_may_heart
from heartcast.api.heart_batch import Batch
from heartcast.api.heart_bodies import (
    BatchAnswer,
    BatchBody,
    BatchItem,
    HeartAnswer,
    HeartBody,
    Query,
    RemovedAnswer,
    added_answer,
    encode,
    removed_answer,
)
from heartcast.api.heart_judging import Judging
from heartcast.api.heart_once import receipt_of, replayed
from heartcast.api.idempotency import HEADER
from heartcast.api.problems import problem
from heartcast.api.route import JSON_TYPE, Answer, Call, Identity, Parameter, Route
from heartcast.core.errors import Conflict, HeartcastError, InvalidInput, NotFound, StoreUnavailable
from heartcast.core.names import check_id, user_text
from heartcast.hearts.model import KIND, HeartKey, Once, Outcome, Receipt, Step
from heartcast.hearts.options import HeartOptions
from heartcast.hearts.service import HeartService
from heartcast.hearts.store import MAX_KEYS
from heartcast.hearts.store.awaiting import result_of
from heartcast.resilience.shedding import Priority

PATH = "/api/v1/hearts"
_LOCATION = PATH.encode() + b"/"

_decode_heart = decoder(HeartBody)
_decode_batch = decoder(BatchBody)

# A NamedTuple's own constructor is a Python function: on the hot path this is twice as fast.
_new_tuple = tuple.__new__

_REMOVE_QUERY = frozenset({"target_id", "user_id", "kind"})
_NONE: frozenset[str] = frozenset()


class _Hearts:
    """The handlers of writes."""

    def __init__(self, service: HeartService, options: HeartOptions, judging: Judging | None) -> None:
        self._service = service
        self._visitor_kinds = frozenset(options.visitor_kinds)
        self._judging = judging
        self._keep_ms = round(options.idempotency_s * 1000)

    def add(self, call: Call) -> None:
        body = _decode_heart(call.body)
        key = self._key(body, call.identity)
        user_id = body.user_id

        def done(result: list[Outcome] | StoreUnavailable) -> None:
            call.respond(_added(result, user_id))

        receipt = self._receipt(call, "POST")
        if self._judging is not None and self._judging.shadows(call, key):
            self._service.add_shadowed(key, done)
        elif receipt is None:
            self._service.add((key,), done)
        else:
            self._add_once(call, key, user_id, receipt)

    def _add_once(self, call: Call, key: HeartKey, user_id: int | str, receipt: Receipt) -> None:
        def done(result: Once | InvalidInput | StoreUnavailable) -> None:
            if not isinstance(result, Once):
                call.respond(problem(result))
                return
            answer = _added(result.outcomes, user_id)
            call.respond(replayed(answer) if result.is_repeated else answer)

        self._service.once(receipt, [Step(True, key)], done)

    def _receipt(self, call: Call, scope: str) -> Receipt | None:
        if call.header(HEADER) is None:  # Nearly always: nothing else is made for it.
            return None
        return receipt_of(call, scope, self._service.now_ms() + self._keep_ms)

    def batch(self, call: Call) -> Answer | None:
        return self._batch(call, _decode_batch(call.body), {})

    async def batch_in_window(self, call: Call) -> Answer | None:
        """``batch`` where hearts can be taken back for some time only: each is looked up first."""
        body = _decode_batch(call.body)
        late: dict[int, HeartcastError] = {}
        if await self._service.is_known(self._receipt(call, "batch")):
            return self._batch(call, body, late)
        for at, item in enumerate(body.items[:MAX_KEYS]):
            if item.op == "remove":
                try:
                    await self._check_undo(self._key(item, call.identity), call.identity)
                except Conflict as error:
                    late[at] = error
                except HeartcastError:
                    continue  # refused again, with its pointer, by the batch itself
        return self._batch(call, body, late)

    def _batch(self, call: Call, body: BatchBody, late: dict[int, HeartcastError]) -> Answer | None:
        judging = self._judging
        shadows = None if judging is None else lambda key: judging.shadows(call, key)
        receipt = self._receipt(call, "batch")
        return Batch(self._service, call, body, late, shadows).run(body, self._key, receipt)

    def _key(self, body: HeartBody | BatchItem, identity: Identity, pointer: str = "") -> HeartKey:
        target_id = check_id(body.target_id, pointer + "/target_id")
        user = user_text(body.user_id, pointer + "/user_id")
        if body.kind != KIND:
            self._service.check_kind(body.kind, pointer + "/kind")
        check_may_heart(identity, user, body.kind, self._visitor_kinds)
        return _new_tuple(HeartKey, (target_id, user, body.kind))

    async def remove(self, call: Call) -> Answer:
        query = Query(call.query_values(), _REMOVE_QUERY, _NONE)
        target_id = check_id(query.required("target_id"), "/target_id")
        user = user_text(query.required("user_id"))
        kind = self._service.check_kind(query.one("kind") or KIND)
        key = HeartKey(target_id, user, kind)
        receipt = self._receipt(call, "DELETE")
        return await (self._remove(call, key) if receipt is None else self._remove_once(call, key, receipt))

    async def remove_by_id(self, call: Call) -> Answer:
        heart = await self._service.find(call.params["id"])
        if heart is None:
            raise NotFound("there is no heart with this id", code="heart_unknown")
        return await self._remove(call, heart.key)

    async def _remove(self, call: Call, key: HeartKey) -> Answer:
        check_may_heart(call.identity, key.user_id, key.kind, self._visitor_kinds)
        await self._check_undo(key, call.identity)
        removed: list[Outcome] = await result_of(lambda done: self._service.remove((key,), done))
        return Answer(200, encode(removed_answer(key, key.user_id, removed[0])))

    async def _remove_once(self, call: Call, key: HeartKey, receipt: Receipt) -> Answer:
        check_may_heart(call.identity, key.user_id, key.kind, self._visitor_kinds)
        if not await self._service.is_known(receipt):
            await self._check_undo(key, call.identity)
        once: Once = await result_of(lambda done: self._service.once(receipt, [Step(False, key)], done))
        answer = Answer(200, encode(removed_answer(key, key.user_id, once.outcomes[0])))
        return replayed(answer) if once.is_repeated else answer

    async def _check_undo(self, key: HeartKey, identity: Identity) -> None:
        if not identity.is_server:
            await self._service.check_undo(key)


def _added(result: list[Outcome] | StoreUnavailable, user_id: int | str) -> Answer:
    if isinstance(result, StoreUnavailable):
        return problem(result)
    outcome = result[0]
    heart = outcome.heart
    assert heart is not None
    body = encode(added_answer(heart, user_id, outcome.count))
    location = ((b"location", _LOCATION + heart[0].encode()),)
    return _new_tuple(Answer, (201 if outcome.changed else 200, body, location, JSON_TYPE))


def routes(
    service: HeartService,
    options: HeartOptions | None = None,
    *,
    cursors: Cursors | None = None,
    judging: Judging | None = None,
) -> list[Route]:
    """The routes of hearts.

    Args:
        options: None: the defaults.
        cursors: Signs places in lists; None: with a key of this call's own.
        judging: Says which hearts are shadowed; None: none.
    """
    options = options or HeartOptions()
    cursors = cursors or Cursors(Signer([secrets.token_bytes(32)], "cursor"))
    hearts = _Hearts(service, options, judging)
    looks_first = service.has_undo_window
    return [
        Route(
            method="POST",
            path=PATH,
            handler=hearts.add,
            summary="Heart a target: 201 the first time, 200 with the same heart ever after.",
            tag="hearts",
            body=HeartBody,
            answers={201: HeartAnswer, 200: HeartAnswer},
            hot=True,
            budget="hearts",
        ),
        Route(
            method="POST",
            path=f"{PATH}/batch",
            handler=hearts.batch_in_window if looks_first else hearts.batch,
            summary="Give and take back up to 500 hearts, each with a result of its own.",
            tag="hearts",
            body=BatchBody,
            answers={200: BatchAnswer},
            hot=not looks_first,
            budget="hearts",
            is_batch=True,
            priority=Priority.SHEDDABLE,
        ),
        *heart_counts.routes(service, PATH),
        Route(
            method="DELETE",
            path=PATH,
            handler=hearts.remove,
            summary="Take a heart back; repeating it answers 200 with id null.",
            tag="hearts",
            answers={200: RemovedAnswer},
            budget="hearts",
            parameters=(
                Parameter(name="target_id", summary="What is hearted.", is_required=True),
                Parameter(name="user_id", summary="Who hearts.", is_required=True),
                Parameter(name="kind", summary='Kind of heart, "heart" when not given.'),
            ),
        ),
        Route(
            method="DELETE",
            path=f"{PATH}/{{id}}",
            handler=hearts.remove_by_id,
            summary="Take a heart back by its id.",
            tag="hearts",
            answers={200: RemovedAnswer},
            budget="hearts",
        ),
        *heart_lists.routes(service, PATH, cursors, options.who_hearted),
    ]
