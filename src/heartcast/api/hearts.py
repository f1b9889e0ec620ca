"""REST for hearts.

Adding is a set and never a toggle: the first POST makes the heart and answers 201,
every later one answers 200 with the same id and time. So a client that did not see
the answer just asks again.

Who may do what: a user acts for itself, a server for everyone. Who hearted a target
is told to servers only; counts are told to everyone.
"""

from __future__ import annotations

from urllib.parse import urlencode

from heartcast.api.body import decoder
from heartcast.api.heart_batch import Batch
from heartcast.api.heart_bodies import (
    MAX_COUNTS_BY_GET,
    MAX_PAGE,
    BatchAnswer,
    BatchBody,
    BatchItem,
    CountsAnswer,
    CountsBody,
    HeartAnswer,
    HeartBody,
    HeartPage,
    ListedHeart,
    PlainCounts,
    Query,
    RemovedAnswer,
    TargetCount,
    added_answer,
    encode,
    listed,
    removed_answer,
    timestamp,
)
from heartcast.api.problems import problem
from heartcast.api.route import JSON_TYPE, Answer, Call, Identity, Parameter, Route
from heartcast.core.errors import Forbidden, InvalidInput, NotFound, StoreUnavailable
from heartcast.core.ids import is_id
from heartcast.core.names import check_id, user_text
from heartcast.hearts.model import KIND, Count, HeartKey, Outcome
from heartcast.hearts.service import HeartService
from heartcast.hearts.store.awaiting import result_of
from heartcast.resilience.shedding import Priority

PATH = "/api/v1/hearts"
_LOCATION = PATH.encode() + b"/"

_decode_heart = decoder(HeartBody)
_decode_counts = decoder(CountsBody)
_decode_batch = decoder(BatchBody)

# A NamedTuple's own constructor is a Python function: on the hot path this is twice as fast.
_new_tuple = tuple.__new__

_REMOVE_QUERY = frozenset({"target_id", "user_id", "kind"})
_LIST_QUERY = _REMOVE_QUERY | {"cursor", "limit"}
_TARGETS = frozenset({"target_id"})
_NONE: frozenset[str] = frozenset()


class _Hearts:
    """The handlers."""

    def __init__(self, service: HeartService) -> None:
        self._service = service

    def add(self, call: Call) -> None:
        body = _decode_heart(call.body)
        key = self._key(body, call.identity)
        user_id = body.user_id

        def done(result: list[Outcome] | StoreUnavailable) -> None:
            call.respond(_added(result, user_id))

        self._service.add((key,), done)

    def batch(self, call: Call) -> Answer | None:
        body = _decode_batch(call.body)
        return Batch(self._service, call, body).run(body, self._key)

    def _key(self, body: HeartBody | BatchItem, identity: Identity, pointer: str = "") -> HeartKey:
        target_id = check_id(body.target_id, pointer + "/target_id")
        user = user_text(body.user_id, pointer + "/user_id")
        if body.kind != KIND:
            self._service.check_kind(body.kind, pointer + "/kind")
        _check_may_heart(identity, user)
        return _new_tuple(HeartKey, (target_id, user, body.kind))

    def counts_by_get(self, call: Call) -> Answer | None:
        query = Query(call.query_values(), _REMOVE_QUERY, _TARGETS)
        target_ids = query.all("target_id")
        if not 1 <= len(target_ids) <= MAX_COUNTS_BY_GET:
            raise InvalidInput(
                f"must be given 1 to {MAX_COUNTS_BY_GET} times; POST takes up to 1000", pointer="/target_id"
            )
        return self._counts(call, target_ids, query.one("user_id"), query.one("kind") or KIND, "/target_id")

    def counts_by_post(self, call: Call) -> Answer | None:
        body = _decode_counts(call.body)
        return self._counts(call, body.target_ids, body.user_id, body.kind, "/target_ids")

    def _counts(
        self, call: Call, target_ids: list[str], user_id: int | str | None, kind: str, pointer: str
    ) -> Answer | None:
        for at, target_id in enumerate(target_ids):
            check_id(target_id, f"{pointer}/{at}")
        self._service.check_kind(kind)
        user = None
        if user_id is not None:
            user = user_text(user_id)
            _check_may_act(call.identity, user)
        return self._ask_counts(call, target_ids, user, kind)

    def _ask_counts(self, call: Call, target_ids: list[str], user: str | None, kind: str) -> Answer | None:
        answer: Answer | None = None
        is_late = False

        def respond(finished: Answer) -> None:
            nonlocal answer
            answer = finished
            if is_late:
                call.respond(finished)

        def counted(counts: list[Count] | StoreUnavailable) -> None:
            if isinstance(counts, StoreUnavailable):
                respond(problem(counts))
            elif user is None:
                respond(Answer(200, encode(PlainCounts(counts, self._now()))))
            else:
                self._service.hearted(user, target_ids, kind, lambda hearted: joined(counts, hearted))

        def joined(counts: list[Count], hearted: list[bool] | StoreUnavailable) -> None:
            if isinstance(hearted, StoreUnavailable):
                respond(problem(hearted))
                return
            found = [
                TargetCount(count.target_id, count.count, count.version, is_hearted)
                for count, is_hearted in zip(counts, hearted, strict=True)
            ]
            respond(Answer(200, encode(CountsAnswer(found, self._now()))))

        self._service.counts(target_ids, kind, counted)
        is_late = True
        return answer

    def _now(self) -> str:
        return timestamp(self._service.now_ms())

    def remove(self, call: Call) -> None:
        query = Query(call.query_values(), _REMOVE_QUERY, _NONE)
        target_id = check_id(query.required("target_id"), "/target_id")
        user = user_text(query.required("user_id"))
        kind = self._service.check_kind(query.one("kind") or KIND)
        _check_may_heart(call.identity, user)
        self._remove(call, HeartKey(target_id, user, kind))

    async def remove_by_id(self, call: Call) -> Answer:
        heart = await self._service.find(call.params["id"])
        if heart is None:
            raise NotFound("there is no heart with this id", code="heart_unknown")
        key = heart.key
        _check_may_heart(call.identity, key.user_id)
        removed: list[Outcome] = await result_of(lambda done: self._service.remove((key,), done))
        [outcome] = removed
        return Answer(200, encode(removed_answer(key, key.user_id, outcome)))

    def _remove(self, call: Call, key: HeartKey) -> None:
        def done(result: list[Outcome] | StoreUnavailable) -> None:
            if isinstance(result, StoreUnavailable):
                call.respond(problem(result))
            else:
                call.respond(Answer(200, encode(removed_answer(key, key.user_id, result[0]))))

        self._service.remove((key,), done)

    async def get(self, call: Call) -> Answer:
        heart = await self._service.find(call.params["id"])
        if heart is None:
            raise NotFound("there is no heart with this id", code="heart_unknown")
        _check_may_act(call.identity, heart.key.user_id)
        return Answer(200, encode(listed(heart)))

    async def list(self, call: Call) -> Answer:
        query = Query(call.query_values(), _LIST_QUERY, _NONE)
        target_id, user_id = query.one("target_id"), query.one("user_id")
        if target_id is not None:
            check_id(target_id, "/target_id")
        if user_id is not None:
            _check_may_act(call.identity, user_text(user_id))
        elif target_id is None:
            raise InvalidInput("target_id, user_id or both must be given")
        elif not call.identity.is_server:
            raise Forbidden("only a server may ask who hearted a target")
        cursor = query.one("cursor") or ""
        if cursor and not is_id(cursor):
            raise InvalidInput("must be a next_cursor of an earlier answer", pointer="/cursor")
        kind, limit = self._service.check_kind(query.one("kind") or KIND), query.limit()
        hearts = await self._service.page(
            target_id=target_id, user_id=user_id, kind=kind, after=cursor, limit=limit
        )
        next_cursor = hearts[-1].id if len(hearts) == limit else None
        page = HeartPage([listed(heart) for heart in hearts], next_cursor)
        if next_cursor is None:
            return Answer(200, encode(page))
        asked = {"target_id": target_id, "user_id": user_id, "kind": kind, "limit": limit}
        asked = {name: value for name, value in asked.items() if value is not None}
        link = f'<{PATH}?{urlencode({**asked, "cursor": next_cursor})}>; rel="next"'
        return Answer(200, encode(page), ((b"link", link.encode()),))


def _added(result: list[Outcome] | StoreUnavailable, user_id: int | str) -> Answer:
    if isinstance(result, StoreUnavailable):
        return problem(result)
    outcome = result[0]
    heart = outcome.heart
    assert heart is not None
    body = encode(added_answer(heart, user_id, outcome.count))
    location = ((b"location", _LOCATION + heart[0].encode()),)
    return _new_tuple(Answer, (201 if outcome.changed else 200, body, location, JSON_TYPE))


def _check_may_heart(identity: Identity, user: str) -> None:
    if not identity.may_heart_for(user):
        raise Forbidden("this token may not give or take back hearts of this user")


def _check_may_act(identity: Identity, user: str) -> None:
    if not identity.may_act_for(user):
        raise Forbidden("this token may not act for this user")


_TARGET = Parameter(name="target_id", summary="What is hearted.")
_USER = Parameter(name="user_id", summary="Who hearts.")
_KIND = Parameter(name="kind", summary='Kind of heart, "heart" when not given.')


def routes(service: HeartService) -> list[Route]:
    """The routes of hearts."""
    hearts = _Hearts(service)
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
            handler=hearts.batch,
            summary="Give and take back up to 500 hearts, each with a result of its own.",
            tag="hearts",
            body=BatchBody,
            answers={200: BatchAnswer},
            hot=True,
            budget="hearts",
            is_batch=True,
            priority=Priority.SHEDDABLE,
        ),
        Route(
            method="GET",
            path=f"{PATH}/counts",
            handler=hearts.counts_by_get,
            summary="Counts of up to 100 targets.",
            tag="hearts",
            answers={200: CountsAnswer},
            parameters=(
                Parameter(
                    name="target_id",
                    summary="A target; give it once for each.",
                    is_required=True,
                    is_list=True,
                ),
                Parameter(name="user_id", summary="Also say which of them this user hearts."),
                _KIND,
            ),
            hot=True,
            priority=Priority.SHEDDABLE,
        ),
        Route(
            method="POST",
            path=f"{PATH}/counts",
            handler=hearts.counts_by_post,
            summary="Counts of up to 1000 targets.",
            tag="hearts",
            body=CountsBody,
            answers={200: CountsAnswer},
            hot=True,
            priority=Priority.SHEDDABLE,
        ),
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
                _KIND,
            ),
        ),
        Route(
            method="GET",
            path=PATH,
            handler=hearts.list,
            summary="Hearts of a target, of a user, or of both; oldest first.",
            tag="hearts",
            answers={200: HeartPage},
            parameters=(
                _TARGET,
                _USER,
                _KIND,
                Parameter(name="cursor", summary="next_cursor of the page before."),
                Parameter(name="limit", summary=f"Most hearts in the answer, 1 to {MAX_PAGE}.", type=int),
            ),
        ),
        Route(
            method="GET",
            path=f"{PATH}/{{id}}",
            handler=hearts.get,
            summary="One heart.",
            tag="hearts",
            answers={200: ListedHeart},
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
    ]
