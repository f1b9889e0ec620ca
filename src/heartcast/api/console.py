"""What operators ask about hearts; ``/console`` shows it.

    GET  /api/v1/console          what is going on: totals, the store, verdicts, lags
    GET  /api/v1/console/target   one target: counts beside a recount, who hearted it lately
    GET  /api/v1/console/user     one user: hearts, those that do not count, verdicts

Only for servers, and for keys with the scope ``console``, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from heartcast.api.heart_bodies import Query, timestamp
from heartcast.api.route import CONSOLE, Answer, Call, Parameter, Route
from heartcast.core.errors import Forbidden
from heartcast.core.names import check_id, user_text
from heartcast.hearts.abuse import AbuseGuard, Judged
from heartcast.hearts.model import HIDDEN, Heart
from heartcast.hearts.recent import Recent, Seen
from heartcast.hearts.service import HeartService
from heartcast.resilience.shedding import Priority

_PATH = "/api/v1/console"
_ID = frozenset({"id"})
_NONE: frozenset[str] = frozenset()
_MOST = 50
_encode = msgspec.json.Encoder().encode


class Verdict(msgspec.Struct):
    """A heart that does not count."""

    at: str
    reason: str
    user_id: str
    target_id: str
    network: str
    """/24 or /64; "" when it is not known."""


class Change(msgspec.Struct):
    """A heart that came or went."""

    at: str
    target_id: str
    user_id: str
    kind: str
    delta: int
    count: int
    """Of the target, after it."""


class Overview(msgspec.Struct):
    """What is going on in this process."""

    as_of: str
    added: int
    removed: int
    unchanged: int
    degraded: list[str]
    """What works only in part now."""
    judged: int | None
    """Hearts that were looked at; null: none is."""
    shadowed: dict[str, int]
    """Hearts that do not count, by reason."""
    lags: dict[str, int]
    """Events that each follower of the outbox has yet to take."""
    recent: list[Change]
    verdicts: list[Verdict]


class KindOfTarget(msgspec.Struct):
    """One kind of heart at one target."""

    kind: str
    count: int
    version: int
    rows: int
    """Its hearts, counted one by one just now."""
    drift: int
    """``count - rows``; 0 is the only good answer."""
    shadowed: int
    """Hearts that only their givers see."""


class HeartShown(msgspec.Struct):
    """A heart."""

    id: str
    target_id: str
    user_id: str
    kind: str
    is_shadowed: bool
    timestamp: str


class TargetShown(msgspec.Struct):
    """One target."""

    target_id: str
    kinds: list[KindOfTarget]
    hearts: list[HeartShown]
    """The first 50 of each kind, oldest first."""
    recent: list[Change]
    verdicts: list[Verdict]


class UserShown(msgspec.Struct):
    """One user."""

    user_id: str
    hearts: list[HeartShown]
    """The first 50 of each kind, oldest first."""
    recent: list[Change]
    verdicts: list[Verdict]


class Console:
    """The handlers.

    Args:
        lags: How far behind the followers of the outbox are.
        guard: None: no heart is judged.
    """

    def __init__(
        self,
        service: HeartService,
        recent: Recent,
        lags: Callable[[], dict[str, int]],
        guard: AbuseGuard | None,
    ) -> None:
        self._service = service
        self._recent = recent
        self._lags = lags
        self._guard = guard

    def overview(self, call: Call) -> Answer:
        _check(call)
        service, guard = self._service, self._guard
        return _answer(
            Overview(
                as_of=timestamp(service.now_ms()),
                added=service.added,
                removed=service.removed,
                unchanged=service.unchanged,
                degraded=service.degraded(),
                judged=None if guard is None else guard.judged,
                shadowed={} if guard is None else dict(guard.shadowed),
                lags=self._lags(),
                recent=_changes(self._recent.find(most=_MOST)),
                verdicts=self._verdicts(lambda judged: True),
            )
        )

    async def target(self, call: Call) -> Answer:
        _check(call)
        query = Query(call.query_values(), _ID, _NONE)
        target_id = check_id(query.required("id"), "/id")
        kinds, hearts = [], []
        for kind in await self._service.kinds():
            page = await self._service.page(
                target_id=target_id, user_id=None, kind=kind, after="", limit=_MOST
            )
            hearts += [_shown(heart) for heart in page]
            if not kind.startswith(HIDDEN):
                kinds.append(await self._kind(target_id, kind))
        return _answer(
            TargetShown(
                target_id,
                [kind for kind in kinds if kind.version or kind.shadowed],
                hearts,
                _changes(self._recent.find(target_id=target_id, most=_MOST)),
                self._verdicts(lambda judged: judged.target_id == target_id),
            )
        )

    async def _kind(self, target_id: str, kind: str) -> KindOfTarget:
        [public] = await self._service.recount([target_id], kind)
        [concealed] = await self._service.recount([target_id], HIDDEN + kind)
        return KindOfTarget(kind, public.count, public.version, public.rows, public.drift, concealed.rows)

    async def user(self, call: Call) -> Answer:
        _check(call)
        query = Query(call.query_values(), _ID, _NONE)
        user_id = user_text(query.required("id"), "/id")
        hearts = []
        for kind in await self._service.kinds():
            hearts += [_shown(heart) for heart in await self._service.stored(user_id, kind, _MOST)]
        return _answer(
            UserShown(
                user_id,
                hearts,
                _changes(self._recent.find(user_id=user_id, most=_MOST)),
                self._verdicts(lambda judged: judged.giver.user == user_id),
            )
        )

    def _verdicts(self, wanted: Callable[[Judged], bool]) -> list[Verdict]:
        if self._guard is None:
            return []
        found = [judged for judged in reversed(self._guard.recent) if wanted(judged)]
        return [
            Verdict(
                timestamp(judged.at_ms),
                judged.reason,
                judged.giver.user,
                judged.target_id,
                judged.giver.prefix,
            )
            for judged in found[:_MOST]
        ]


def _check(call: Call) -> None:
    if not call.identity.may(CONSOLE):
        raise Forbidden(f"the console is for servers and for keys with the scope {CONSOLE}")


def _answer(shown: object) -> Answer:
    return Answer(200, _encode(shown), ((b"cache-control", b"no-store"),))


def _changes(seen: Iterable[Seen]) -> list[Change]:
    return [Change(timestamp(at_ms), *change.key, change.delta, change.count) for at_ms, change in seen]


def _shown(heart: Heart) -> HeartShown:
    key = heart.key
    is_shadowed = key.kind.startswith(HIDDEN)
    kind = key.kind.removeprefix(HIDDEN)
    return HeartShown(heart.id, key.target_id, key.user_id, kind, is_shadowed, timestamp(heart.created_ms))


def routes(console: Console) -> list[Route]:
    """The routes of the console."""
    return [
        Route(
            method="GET",
            path=_PATH,
            handler=console.overview,
            summary="What is going on with hearts in this process.",
            tag="operation",
            answers={200: Overview},
            priority=Priority.CRITICAL,
        ),
        Route(
            method="GET",
            path=f"{_PATH}/target",
            handler=console.target,
            summary="One target: its counts beside a recount, and what happened lately.",
            tag="operation",
            answers={200: TargetShown},
            priority=Priority.CRITICAL,
            parameters=(Parameter(name="id", summary="The target.", is_required=True),),
        ),
        Route(
            method="GET",
            path=f"{_PATH}/user",
            handler=console.user,
            summary="One user: hearts, those that do not count, and what happened lately.",
            tag="operation",
            answers={200: UserShown},
            priority=Priority.CRITICAL,
            parameters=(Parameter(name="id", summary="The user.", is_required=True),),
        ),
    ]
