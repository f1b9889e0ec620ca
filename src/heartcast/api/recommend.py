"""REST of personal ranking: for you, similar, neighbours, sessions, and rank these.

Needs numpy (the extra ``ranking``); ``api.ranking`` has the hot lists, which do not.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from heartcast.api.body import decoder
from heartcast.api.route import Answer, Call, Parameter, Route
from heartcast.core.errors import Forbidden, InvalidInput
from heartcast.core.hashing import hash64
from heartcast.core.names import check_id, user_text
from heartcast.ranking.diversity import author_decay
from heartcast.ranking.for_you import ForYou, Pick, Wish
from heartcast.ranking.fusion import Fused, Influence, fuse
from heartcast.ranking.interactions import Floats
from heartcast.ranking.scaling import quantile
from heartcast.ranking.strategies import Strategies
from heartcast.ranking.strategy import Strategy
from heartcast.resilience.shedding import Priority

MAX_PICKS = 100
MAX_CANDIDATES = 2000
"""Candidates in one request: Pareto fronts of so many take about a millisecond."""
_MAX_SESSION = 200
_DEFAULT_PICKS = 10

_encode = msgspec.json.Encoder().encode


class Picks(msgspec.Struct, frozen=True, kw_only=True):
    """Recommended items."""

    items: list[Pick]


class Similar(msgspec.Struct, frozen=True):
    """An item that goes with another."""

    item_id: str
    similarity: float
    """Shrunk cosine of who hearted them, 0 to 1."""


class SimilarItems(msgspec.Struct, frozen=True, kw_only=True):
    """Items that go with an item."""

    items: list[Similar]


class SimilarUser(msgspec.Struct, frozen=True):
    """Somebody with a similar history."""

    user_id: str
    similarity: float


class SimilarUsers(msgspec.Struct, frozen=True, kw_only=True):
    """People like a user."""

    users: list[SimilarUser]


class SessionBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a visitor without account hearted or read, oldest first."""

    item_ids: list[str]
    n: int = _DEFAULT_PICKS
    category: str | None = None
    """Only items of this category."""
    explain: bool = False


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A measure of a candidate in the nested form; its weight is the strategy's business."""

    raw: float
    weight: float | None = None


Measure = float | Measured | None


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item to be ranked, and what is known of it. What is left out is unknown."""

    item_id: str
    author: str | None = None
    ctr: Measure = None
    cvr: Measure = None
    watch: Measure = None
    heads: dict[str, Measure] = msgspec.field(default_factory=dict)


class RankBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Candidates and how to order them."""

    candidates: list[Candidate]
    strategy: Strategy | str
    """A strategy, or the name of one."""
    n: int | None = None
    """Items wanted; null: all."""
    seed: str = ""
    """With a temperature: the same seed draws the same order."""
    author_decay: float = 1.0
    """Factor for each further item of the same author, in (0, 1]; 1 leaves authors alone."""


class Ranked(msgspec.Struct, frozen=True):
    """A candidate in its place."""

    item_id: str
    rank: int
    score: float
    propensity: float
    """Chance of being drawn at its turn; 1 without a temperature."""
    contributions: dict[str, float]
    """What each measure put into the score."""


class RankedList(msgspec.Struct, frozen=True, kw_only=True):
    """Candidates in order, and what decided it."""

    items: list[Ranked]
    influence: dict[str, InfluenceOf]


class InfluenceOf(msgspec.Struct, frozen=True, kw_only=True):
    """How far a measure decided the order."""

    weight: float
    expected: float
    effective: float


def routes(for_you: ForYou, strategies: Strategies, wall_ms: Callable[[], int]) -> list[Route]:
    """The routes of personal ranking.

    Args:
        for_you: What to show to whom.
        strategies: Strategies by name.
        wall_ms: The wall clock, in milliseconds.
    """
    read_session, read_rank = decoder(SessionBody), decoder(RankBody)

    def recommend(call: Call) -> Answer:
        user, query = _own(call), call.query_values()
        strategy, category = query.get("strategy"), query.get("category")
        wish = Wish(
            _count(call),
            wall_ms(),
            None if category is None else check_id(category[-1]),
            None if strategy is None else strategies.find(strategy[-1]).strategy,
            query.get("seed", [""])[-1],
            _flag(call, "explain"),
        )
        return _answer(Picks(items=for_you.recommend(user, wish)))

    def neighbours(call: Call) -> Answer:
        found = for_you.neighbours(_own(call), _count(call))
        return _answer(
            SimilarUsers(users=[SimilarUser(one.user_id, round(one.similarity, 6)) for one in found])
        )

    def similar(call: Call) -> Answer:
        found = for_you.similar(check_id(call.params["id"], "/id"), _count(call))
        return _answer(SimilarItems(items=[Similar(one.item_id, round(one.score, 6)) for one in found]))

    def session(call: Call) -> Answer:
        body = read_session(call.body)
        if len(body.item_ids) > _MAX_SESSION:
            raise InvalidInput(f"must be at most {_MAX_SESSION} items", pointer="/item_ids")
        items = [check_id(item_id, f"/item_ids/{place}") for place, item_id in enumerate(body.item_ids)]
        check_count(body.n, "/n")
        wish = Wish(body.n, wall_ms(), body.category, explain=body.explain)
        return _answer(Picks(items=for_you.recommend_for(items, wish)))

    def rank(call: Call) -> Answer:
        return _answer(_rank(read_rank(call.body), strategies))

    n = Parameter(name="n", summary=f"Items, 1 to {MAX_PICKS}; {_DEFAULT_PICKS} unless given.", type=int)
    explain = Parameter(name="explain", summary="1: say why.", type=bool)
    return [
        _route(
            "GET",
            "/api/v1/recommend/{user}",
            recommend,
            "What a user would want now.",
            Picks,
            (
                n,
                explain,
                Parameter(name="category", summary="Only items of this category."),
                Parameter(name="strategy", summary="Name of the strategy that orders them."),
                Parameter(name="seed", summary="The same seed draws the same order."),
            ),
        ),
        _route(
            "GET",
            "/api/v1/users/{user}/neighbors",
            neighbours,
            "The people most like a user.",
            SimilarUsers,
            (n,),
        ),
        _route(
            "GET",
            "/api/v1/items/{id}/similar",
            similar,
            "The items that go with an item.",
            SimilarItems,
            (n,),
        ),
        _route(
            "POST",
            "/api/v1/session/recommend",
            session,
            "What a visitor without account would want, by this session's items.",
            Picks,
            body=SessionBody,
        ),
        _route(
            "POST", "/api/v1/rank", rank, "Put candidates in order by a strategy.", RankedList, body=RankBody
        ),
    ]


def _route(
    method: str,
    path: str,
    handler: Callable[[Call], Answer],
    summary: str,
    answer: type,
    parameters: tuple[Parameter, ...] = (),
    body: type | None = None,
) -> Route:
    return Route(
        method=method,
        path=path,
        handler=handler,
        summary=summary,
        tag="ranking",
        body=body,
        answers={200: answer},
        parameters=parameters,
        priority=Priority.BEST_EFFORT,
    )


def _answer(value: msgspec.Struct) -> Answer:
    return Answer(200, _encode(value))


def _own(call: Call) -> str:
    """The user of the path, if the caller may know what that user likes."""
    user = user_text(call.params["user"], "/user")
    if not call.identity.may_act_for(user):
        raise Forbidden("only the user and your own servers may see this", code="not_yours")
    return user


def _count(call: Call) -> int:
    values = call.query_values().get("n")
    if values is None:
        return _DEFAULT_PICKS
    text = values[-1]
    if not (text.isascii() and text.isdecimal() and len(text) <= 3):
        raise InvalidInput(f"n must be a whole number from 1 to {MAX_PICKS}", code="invalid_limit")
    return check_count(int(text), "")


def check_count(n: int, pointer: str) -> int:
    """Return ``n`` if so many items can be asked for.

    Raises:
        InvalidInput: they cannot.
    """
    if not 1 <= n <= MAX_PICKS:
        raise InvalidInput(f"n must be from 1 to {MAX_PICKS}", pointer=pointer, code="invalid_limit")
    return n


def _flag(call: Call, name: str) -> bool:
    return call.query_values().get(name, ["0"])[-1] in ("1", "true")


def _rank(body: RankBody, strategies: Strategies) -> RankedList:
    count = len(body.candidates)
    if count > MAX_CANDIDATES:
        raise InvalidInput(
            f"must be at most {MAX_CANDIDATES} candidates, got {count}",
            pointer="/candidates",
            code="too_many_candidates",
        )
    if not 0 < body.author_decay <= 1:
        raise InvalidInput("must be above 0 and at most 1", pointer="/author_decay")
    if body.n is not None and body.n < 1:
        raise InvalidInput("must be >= 1", pointer="/n")
    strategy = strategies.find(body.strategy).strategy if isinstance(body.strategy, str) else body.strategy
    values = {name: _column(body.candidates, name) for name in strategy.components()}
    fused = fuse(strategy, values, np.random.default_rng(hash64(body.seed)))
    return RankedList(
        items=_places(body, fused),
        influence={name: influence_of(one) for name, one in fused.influence.items()},
    )


def _column(candidates: list[Candidate], name: str) -> Floats:
    measures: list[Measure] = [
        getattr(one, name) if name in ("ctr", "cvr", "watch") else one.heads.get(name) for one in candidates
    ]
    return np.array(
        [np.nan if m is None else m.raw if isinstance(m, Measured) else m for m in measures], dtype=np.float64
    )


def _places(body: RankBody, fused: Fused) -> list[Ranked]:
    order = fused.order
    if body.author_decay < 1:
        # By place and not by score: a drawn order stays drawn, and factors need values >= 0.
        by_place = np.empty(len(order))
        by_place[order] = -np.arange(len(order))
        authors = [one.author for one in body.candidates]
        order = author_decay(quantile(by_place), authors, len(order), body.author_decay)
    return [
        Ranked(
            body.candidates[index].item_id,
            rank,
            float(fused.scores[index]),
            float(fused.propensities[index]),
            {name: float(column[index]) for name, column in fused.contributions.items()},
        )
        for rank, index in enumerate(order[: body.n].tolist(), 1)
    ]


def influence_of(found: Influence) -> InfluenceOf:
    """What a measure did, as it is shown."""
    return InfluenceOf(weight=found.weight, expected=found.expected, effective=found.effective)
