"""Recommendations: the models, who feeds them, what is kept, and their routes, where numpy is there.

Nothing else in the product needs numpy, so it is an extra, and nothing that imports it
may be imported before this module has looked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from heartcast.api.push_composed import Recommended
from heartcast.api.route import Route
from heartcast.app.settings import Settings
from heartcast.app.views import FeedbackSource, HotView, TasteView
from heartcast.core.clock import Clock
from heartcast.core.errors import SettingsError
from heartcast.core.ids import IdSource
from heartcast.ranking.boards import HotBoards
from heartcast.ranking.catalogue import Catalogue
from heartcast.ranking.feedback import Feedback, confidence
from heartcast.ranking.options import RankingOptions
from heartcast.ranking.store import RankingStore

if TYPE_CHECKING:
    from heartcast.ranking.for_you import ForYou
    from heartcast.ranking.intake import FeedbackIntake
    from heartcast.ranking.rates import Rates
    from heartcast.ranking.seen import Seen
    from heartcast.ranking.strategies import Strategies

LEARN_S = 10.0
"""Seconds between two fits of the rates' priors."""
_FORGET_EVERY = 360
"""Fits between two rounds of forgetting old feedback: an hour."""

_log = structlog.get_logger("heartcast")


@dataclass(kw_only=True)
class Personal:
    """The parts of recommending."""

    for_you: ForYou
    view: TasteView
    catalogue: Catalogue
    rates: Rates
    seen: Seen
    strategies: Strategies
    intake: FeedbackIntake
    store: RankingStore
    routes: list[Route]
    options: RankingOptions
    clock: Clock
    loop: asyncio.AbstractEventLoop
    _timer: asyncio.TimerHandle | None = None
    _fits: int = 0

    def compose(self, user: str, wanted: Recommended) -> list[dict[str, Any]]:
        """What a push to this user is to carry, best first.

        Raises:
            NotFound: there is no such strategy.
        """
        from heartcast.ranking.for_you import Wish

        strategy = None if wanted.strategy is None else self.strategies.find(wanted.strategy).strategy
        wish = Wish(wanted.n, self.clock.wall_ms(), wanted.category, strategy, explain=True)
        return [
            {"item_id": pick.item_id, "score": pick.score, "because": pick.because}
            for pick in self.for_you.recommend(user, wish)
        ]

    async def restore(self) -> None:
        """Learn from the feedback of earlier processes, and begin to fit and forget.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        async for events in read_log(self.store, self.store.position):
            self.rates.apply(events)
            self.seen.apply(events)
        self._tick()

    async def close(self) -> None:
        """Keep what waits; learn nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        await self.store.close()

    def _tick(self) -> None:
        now_ms = self.clock.wall_ms()
        self.rates.learn(now_ms)
        if self._fits % _FORGET_EVERY == 0:
            kept = self.options.feedback
            self.store.forget(now_ms - round(kept.keep_s * 1000), kept.max_events)
        self._fits += 1
        self._timer = self.loop.call_later(LEARN_S, self._tick)


async def read_log(store: RankingStore, until: int) -> AsyncIterator[list[Feedback]]:
    """The feedback up to a position, read piece by piece beside the loop.

    Raises:
        StoreUnavailable: it cannot be read to its end.
    """
    pieces = store.feedback(until)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


def personal(
    settings: Settings,
    boards: HotBoards,
    hot_view: HotView,
    clock: Clock,
    loop: asyncio.AbstractEventLoop,
    rebuild_wanted: Callable[[], None],
) -> Personal | None:
    """Make them, or None where recommendations are off.

    Args:
        boards: What is hot, for the part that is.
        hot_view: Feeds it, from now on by feedback too.
        rebuild_wanted: Called when the view missed events.

    Raises:
        SettingsError: they were asked for and the extra is missing, or their file cannot be opened.
    """
    options = settings.ranking
    if not _is_on(options):
        return None
    from heartcast.api import feedback, items, recommend, strategies
    from heartcast.api import rates as rate_routes
    from heartcast.ranking import catalogue as catalogues
    from heartcast.ranking import strategies as strategy_book
    from heartcast.ranking.for_you import ForYou
    from heartcast.ranking.heads import Heads
    from heartcast.ranking.intake import FeedbackIntake
    from heartcast.ranking.rates import Rates
    from heartcast.ranking.seen import Seen
    from heartcast.ranking.taste import Taste

    store = _open_store(settings, loop)
    rules, known = options.for_you, catalogues.Catalogue(options.max_described)
    rates = Rates(options.feedback.half_life_s, options.taste.max_items, clock.wall_ms())
    seen = Seen(options.taste.max_users, rules.tired_after, rules.rest_s)
    heads = Heads(rates, _predictors(options), _predictor_failed)
    named = strategy_book.Strategies()
    known.restore(store.documents(catalogues.SHELF))
    named.restore(store.documents(strategy_book.SHELF))

    def fresh() -> Taste:
        return Taste(options.taste)

    for_you = ForYou(
        fresh(), boards, rules, loop.call_later,
        catalogue=known, seen=seen, measure=heads.measure, exposures=rates.exposures,
    )  # fmt: skip
    source, weights = FeedbackSource(store, partial(read_log, store)), options.feedback
    view = TasteView(for_you, fresh, rebuild_wanted)
    if any(weights.taste.values()):
        view.also_learn_by(source, weights.taste)
    hot = partial(hot_events, weights=weights.hot)
    if any(weights.hot.values()):
        hot_view.also_heat_by(source, hot)

    def follow(events: list[Feedback]) -> None:
        rates.apply(events)
        seen.apply(events)
        view.learn(
            [
                (event.user_id, event.item_id, sure)
                for event in events
                if (sure := confidence(event, weights.taste))
            ]
        )
        hot_view.heat(hot(events))

    intake = FeedbackIntake(store, [follow])
    return Personal(
        for_you=for_you, view=view, catalogue=known, rates=rates, seen=seen, strategies=named, intake=intake,
        store=store, options=options, clock=clock, loop=loop,
        routes=[
            *recommend.routes(for_you, named, clock.wall_ms),
            *feedback.routes(intake, clock.wall_ms, IdSource(clock).next),
            *items.routes(known, store),
            *rate_routes.routes(rates, clock.wall_ms),
            *strategies.routes(named, for_you, store, clock.wall_ms),
        ],
    )  # fmt: skip


def hot_events(events: list[Feedback], weights: dict[str, float]) -> list[tuple[str, float, int]]:
    """What feedback counts on the hot boards, as (item id, weight, at_ms)."""
    return [
        (event.item_id, weight, event.at_ms)
        for event in events
        if (weight := weights.get(event.kind.value, 0.0))
    ]


def _open_store(settings: Settings, loop: asyncio.AbstractEventLoop) -> RankingStore:
    if settings.in_memory:
        from heartcast.ranking.store.memory import MemoryRankingStore

        return MemoryRankingStore()
    from heartcast.ranking.store.sqlite import FILE_NAME, SqliteRankingStore

    return SqliteRankingStore(Path(settings.data_dir) / FILE_NAME, loop)


def _predictors(options: RankingOptions) -> dict[str, Any]:
    return {name: _imported(name, where) for name, where in options.predictors.items()}


def _imported(name: str, where: str) -> Any:
    module, _, attribute = where.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"cannot import {where}: {error}", path=f"ranking.predictors.{name}") from error


def _predictor_failed(name: str, error: Exception) -> None:
    _log.error("a predictor failed; its rates are used instead", predictor=name, exc_info=error)


def _is_on(options: RankingOptions) -> bool:
    if options.recommendations == "off":
        return False
    try:
        for library in ("numpy", "scipy.sparse"):
            import_module(library)
    except ImportError as error:
        if options.recommendations == "auto":
            return False
        raise SettingsError(
            f"recommendations need the extra: pip install 'heartcast[ranking]' ({error})",
            path="ranking.recommendations",
        ) from error
    return True
