"""Counts of targets, plain or as one user sees them.

A GET is answered with an entity tag, and with 304 when nothing changed since. Versions only
grow, so for the targets of one URL their sum says which answer it is: nothing is hashed.

While the store cannot be asked, the last counts known are told, marked ``stale``.
"""

from __future__ import annotations

import secrets
from functools import lru_cache

from heartcast.api.body import decoder
from heartcast.api.heart_access import check_may_act
from heartcast.api.heart_bodies import (
    MAX_COUNTS_BY_GET,
    CountsAnswer,
    CountsBody,
    PlainCounts,
    Query,
    TargetCount,
    encode,
    timestamp,
)
from heartcast.api.problems import problem
from heartcast.api.route import Answer, Call, Parameter, Route, query_values
from heartcast.core.errors import InvalidInput, StoreUnavailable
from heartcast.core.names import check_ids, user_text
from heartcast.hearts.model import KIND, Count
from heartcast.hearts.service import HeartService
from heartcast.resilience.shedding import Priority

_QUERY = frozenset({"target_id", "user_id", "kind"})
_TARGETS = frozenset({"target_id"})

_decode = decoder(CountsBody)


class _Counts:
    """The handlers."""

    def __init__(self, service: HeartService) -> None:
        self._service = service
        # What lives in memory counts from the start again after a restart.
        self._lifetime = b"" if service.is_durable else b"." + secrets.token_hex(4).encode()

    def by_get(self, call: Call) -> Answer | None:
        target_ids, user_id, kind = _asked(call.query)
        return self._check_and_ask(call, target_ids, user_id, kind, "/target_id", is_get=True)

    def by_post(self, call: Call) -> Answer | None:
        body = _decode(call.body)
        return self._check_and_ask(
            call, body.target_ids, body.user_id, body.kind, "/target_ids", is_get=False
        )

    def _check_and_ask(
        self,
        call: Call,
        target_ids: list[str],
        user_id: int | str | None,
        kind: str,
        pointer: str,
        *,
        is_get: bool,
    ) -> Answer | None:
        check_ids(target_ids, pointer)
        self._service.check_kind(kind)
        user = None
        if user_id is not None:
            user = user_text(user_id)
            check_may_act(call.identity, user)
        return self._ask(call, target_ids, user, kind, is_get)

    def _ask(
        self, call: Call, target_ids: list[str], user: str | None, kind: str, is_get: bool
    ) -> Answer | None:
        answer: Answer | None = None
        is_late = False

        def respond(finished: Answer) -> None:
            nonlocal answer
            answer = finished
            if is_late:
                call.respond(finished)

        def counted(counts: list[Count] | StoreUnavailable) -> None:
            if isinstance(counts, StoreUnavailable):
                respond(self._last_known(target_ids, kind) or problem(counts))
            elif user is None:
                body = encode(PlainCounts(counts, self._now()))
                respond(self._tagged(call, counts, body) if is_get else Answer(200, body))
            else:
                self._service.seen_by(user, counts, kind, seen)

        def seen(counts: list[tuple[Count, bool]] | StoreUnavailable) -> None:
            if isinstance(counts, StoreUnavailable):
                respond(self._last_known(target_ids, kind) or problem(counts))
                return
            found = [
                TargetCount(count.target_id, count.count, count.version, is_hearted)
                for count, is_hearted in counts
            ]
            body = encode(CountsAnswer(found, self._now()))
            respond(self._tagged(call, found, body) if is_get else Answer(200, body))

        self._service.counts(target_ids, kind, counted)
        is_late = True
        return answer

    def _last_known(self, target_ids: list[str], kind: str) -> Answer | None:
        known = self._service.last_known(target_ids, kind)
        if known is None:
            return None
        counts, since_ms = known
        age_s = max(0, self._service.now_ms() - since_ms) // 1000
        body = encode(PlainCounts(counts, timestamp(since_ms), stale=True))
        return Answer(200, body, ((b"age", b"%d" % age_s), (b"cache-control", b"no-store")))

    def _tagged(self, call: Call, counts: list[Count] | list[TargetCount], body: bytes) -> Answer:
        # The count is in it because a heart that only its giver sees moves no version.
        versions, hearts = sum([one.version for one in counts]), sum([one.count for one in counts])
        etag = b'W/"%d-%d%b"' % (versions, hearts, self._lifetime)
        headers = ((b"etag", etag), (b"cache-control", b"no-cache"))
        if call.header(b"if-none-match") == etag:
            return Answer(304, b"", headers, b"")
        return Answer(200, body, headers)

    def _now(self) -> str:
        return timestamp(self._service.now_ms())


# Whoever has a page open asks the same again and again; a hundred targets take longer to read than to count.
@lru_cache(maxsize=256)
def _asked(query: bytes) -> tuple[list[str], str | None, str]:
    """Targets, user and kind that a query string names. Shared: not to be changed."""
    asked = Query(query_values(query), _QUERY, _TARGETS)
    target_ids = asked.all("target_id")
    if not 1 <= len(target_ids) <= MAX_COUNTS_BY_GET:
        raise InvalidInput(
            f"must be given 1 to {MAX_COUNTS_BY_GET} times; POST takes up to 1000", pointer="/target_id"
        )
    return target_ids, asked.one("user_id"), asked.one("kind") or KIND


def routes(service: HeartService, path: str) -> list[Route]:
    """The routes of counts.

    Args:
        path: Where hearts are.
    """
    counts = _Counts(service)
    return [
        Route(
            method="GET",
            path=f"{path}/counts",
            handler=counts.by_get,
            summary="Counts of up to 100 targets; 304 when If-None-Match says they are known.",
            tag="hearts",
            answers={200: CountsAnswer, 304: None},
            parameters=(
                Parameter(
                    name="target_id",
                    summary="A target; give it once for each.",
                    is_required=True,
                    is_list=True,
                ),
                Parameter(name="user_id", summary="Also say which of them this user hearts."),
                Parameter(name="kind", summary='Kind of heart, "heart" when not given.'),
            ),
            hot=True,
            priority=Priority.SHEDDABLE,
        ),
        Route(
            method="POST",
            path=f"{path}/counts",
            handler=counts.by_post,
            summary="Counts of up to 1000 targets.",
            tag="hearts",
            body=CountsBody,
            answers={200: CountsAnswer},
            hot=True,
            priority=Priority.SHEDDABLE,
        ),
    ]
