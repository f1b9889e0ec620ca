"""REST of strategies: how candidates are ordered, changed while serving.

GET  /api/v1/ranking/strategies                    all, with their versions
PUT  /api/v1/ranking/strategies/{name}             a new version, which counts from now on
POST /api/v1/ranking/strategies/{name}/activate    back to another version
POST /api/v1/ranking/strategies/preview            what it would do, on live candidates
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from heartcast.api.body import decoder
from heartcast.api.recommend import InfluenceOf, check_count, influence_of
from heartcast.api.route import ADMIN, Answer, Call, Route
from heartcast.core.errors import Forbidden, StoreUnavailable
from heartcast.core.names import user_text
from heartcast.ranking.for_you import ForYou, Pick, Wish
from heartcast.ranking.store import RankingStore
from heartcast.ranking.strategies import Named, Strategies
from heartcast.ranking.strategy import Strategy

_encode = msgspec.json.Encoder().encode


class NamedList(msgspec.Struct, frozen=True, kw_only=True):
    """All strategies."""

    strategies: list[Named]


class Activate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version is to count."""

    version: int


class PreviewBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A strategy to try, and for whom."""

    strategy: Strategy
    user_id: int | str
    n: int = 10
    category: str | None = None
    against: str | None = None
    """Name of the strategy to compare with; null: what is recommended without any."""


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody would be shown."""

    now: list[Pick]
    """As things are."""
    then: list[Pick]
    """By the strategy tried."""
    influence: dict[str, InfluenceOf]
    """How far each measure would decide the order of this user's candidates."""


def routes(
    strategies: Strategies, for_you: ForYou, store: RankingStore, wall_ms: Callable[[], int]
) -> list[Route]:
    """The routes of strategies.

    Args:
        strategies: All of them; change when the store has the change.
        for_you: Whose candidates previews are made of.
        store: Keeps them.
        wall_ms: The wall clock, in milliseconds.
    """
    read_strategy, read_activate, read_preview = decoder(Strategy), decoder(Activate), decoder(PreviewBody)
    # One change at a time: the next version follows from the one before.
    changing = asyncio.Lock()

    def every(call: Call) -> Answer:
        _must_be_admin(call)
        return Answer(200, _encode(NamedList(strategies=strategies.all())))

    def one(call: Call) -> Answer:
        _must_be_admin(call)
        return Answer(200, _encode(strategies.find(call.params["name"])))

    async def put(call: Call) -> Answer:
        _must_be_admin(call)
        strategy = read_strategy(call.body)
        async with changing:
            return await _use(strategies.revised(call.params["name"], strategy, wall_ms()))

    async def activate(call: Call) -> Answer:
        _must_be_admin(call)
        version = read_activate(call.body).version
        async with changing:
            return await _use(strategies.activated(call.params["name"], version))

    async def _use(named: Named) -> Answer:
        kept: asyncio.Future[StoreUnavailable | None] = asyncio.get_running_loop().create_future()
        store.put([strategies.packed(named)], kept.set_result)
        if (error := await kept) is not None:
            raise error
        strategies.use(named)
        return Answer(200, _encode(named))

    def preview(call: Call) -> Answer:
        _must_be_admin(call)
        body = read_preview(call.body)
        user = user_text(body.user_id)
        check_count(body.n, "/n")
        against = None if body.against is None else strategies.find(body.against).strategy
        then = Wish(body.n, wall_ms(), body.category, body.strategy, seed="preview")
        influence = for_you.influence(user, then)
        return Answer(
            200,
            _encode(
                Preview(
                    now=for_you.recommend(user, then._replace(strategy=against)),
                    then=for_you.recommend(user, then),
                    influence={name: influence_of(found) for name, found in influence.items()},
                )
            ),
        )

    path = "/api/v1/ranking/strategies"
    return [
        Route(
            method="GET", path=path, handler=every, summary="All strategies, with their versions.",
            tag="ranking", answers={200: NamedList},
        ),
        Route(
            method="POST", path=f"{path}/preview", handler=preview,
            summary="What a strategy would show to somebody, beside what is shown now.", tag="ranking",
            body=PreviewBody, answers={200: Preview},
        ),
        Route(
            method="GET", path=f"{path}/{{name}}", handler=one, summary="A strategy and its versions.",
            tag="ranking", answers={200: Named},
        ),
        Route(
            method="PUT", path=f"{path}/{{name}}", handler=put,
            summary="Give a strategy a new version, which counts from now on.", tag="ranking", body=Strategy,
            answers={200: Named},
        ),
        Route(
            method="POST", path=f"{path}/{{name}}/activate", handler=activate,
            summary="Let another version of a strategy count.", tag="ranking", body=Activate,
            answers={200: Named},
        ),
    ]  # fmt: skip


def _must_be_admin(call: Call) -> None:
    if not call.identity.may(ADMIN):
        raise Forbidden("only the operator's own servers may see and change strategies (scope admin)")
