"""Where hearts meet ranking: the two domains do not know each other.

Views follow the bus of hearts: ``HotView`` feeds the hot boards, ``TasteView`` the
recommendations. When events were lost, and at start, ``Views`` rebuilds them all from one
scan of the store, while what they had stays in use.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from heartcast.hearts.model import KIND, Heart, HeartChanged
from heartcast.ranking.boards import HotBoards
from heartcast.ranking.feedback import Feedback, confidence
from heartcast.ranking.live import LiveHot

if TYPE_CHECKING:  # numpy is an extra
    from heartcast.ranking.for_you import ForYou
    from heartcast.ranking.interactions import Ints
    from heartcast.ranking.taste import Event, Taste

# Events that may happen while a model is filled; beyond it the rebuild must start again.
_MAX_MISSED = 1_000_000
# Events that a fresh model takes in one go: about 5 ms.
_MISSED_CHUNK = 200


class View(Protocol):
    """What can be filled anew from all hearts in steps."""

    def begin(self) -> None:
        """Start afresh. The hearts to come are those that exist now."""
        ...

    def feed(self, hearts: list[Heart]) -> None:
        """Some of the hearts."""
        ...

    async def finish(self) -> bool:
        """Put what was filled in place of what there was.

        Returns:
            False when events were lost meanwhile: nothing changed, and it must begin again.
        """
        ...


class Views:
    """Fills views from the store, all from one scan.

    Args:
        scan: Every heart there is, in batches (``HeartStore.scan``).
        flush: Hands over what waits on the bus (``Bus.flush``).
        views: The views, all of them followers of that bus.
    """

    def __init__(
        self,
        scan: Callable[[Callable[[], None]], AsyncIterator[list[Heart]]],
        flush: Callable[[], None],
        views: Sequence[View],
    ) -> None:
        self._scan = scan
        self._flush = flush
        self._views = views

    async def rebuild(self) -> None:
        """Fill the views anew from the store, while what they have stays in use.

        Raises:
            StoreUnavailable: the store could not be read to its end; the views are as before.
        """
        is_done = False
        while not is_done:
            async for hearts in self._scan(self._begin):
                for view in self._views:
                    view.feed(hearts)
            # False: events were lost again meanwhile, and everything must start over.
            is_done = all([await view.finish() for view in self._views])

    def _begin(self) -> None:
        # What is scanned was announced, but may still wait on the bus: on the fresh boards
        # it would count a second time.
        self._flush()
        for view in self._views:
            view.begin()


class Log(Protocol):
    """What a view asks of the log of feedback."""

    @property
    def position(self) -> int:
        """Place of the newest event that was taken."""
        ...


class FeedbackSource(NamedTuple):
    """The feedback that was kept, for a rebuild."""

    log: Log
    read: Callable[[int], AsyncIterator[list[Feedback]]]
    """Reads the log up to a position, in pieces."""


Hot = Callable[[list[Feedback]], list[tuple[str, float, int]]]
"""Feedback as what it counts on the hot boards: (item id, weight, at_ms)."""


class HotView:
    """A view of the bus (``core.bus.Subscriber``) that keeps the hot boards.

    Args:
        wanted: Called when a rebuild is due; whoever owns tasks then runs ``Views.rebuild``.
    """

    def __init__(self, boards: HotBoards, live: LiveHot, wanted: Callable[[], None]) -> None:
        self._boards = boards
        self._live = live
        self._wanted = wanted
        self._feedback: tuple[FeedbackSource, Hot] | None = None
        self._until = 0

    def also_heat_by(self, source: FeedbackSource, hot: Hot) -> None:
        """Let a rebuild count feedback as well as hearts."""
        self._feedback = source, hot

    def apply(self, events: list[HeartChanged]) -> None:
        self.heat(
            [
                (event.key.target_id, float(event.delta), event.created_ms)
                for event in events
                if event.key.kind == KIND
            ]
        )

    def heat(self, events: list[tuple[str, float, int]]) -> None:
        """Take (item id, weight, at_ms), of hearts or of feedback."""
        if events:
            self._live.apply(events)

    def mark_stale(self) -> None:
        self._boards.mark_stale()
        self._wanted()

    def begin(self) -> None:
        self._boards.begin_rebuild()
        if self._feedback is not None:
            self._until = self._feedback[0].log.position

    def feed(self, hearts: list[Heart]) -> None:
        self._boards.feed(
            [(heart.key.target_id, 1.0, heart.created_ms) for heart in hearts if heart.key.kind == KIND]
        )

    async def finish(self) -> bool:
        if self._feedback is not None:
            source, hot = self._feedback
            async for events in source.read(self._until):
                self._boards.feed(hot(events))
        return self._boards.finish_rebuild()


class TasteView:
    """A view of the bus that keeps what recommendations are made of.

    Hearts come by the bus, what else people do by ``learn``; a rebuild scans the one and reads the
    log of the other.

    Args:
        for_you: Who recommends, and keeps the model in use.
        fresh: Makes an empty model.
        wanted: As for ``HotView``.
    """

    def __init__(self, for_you: ForYou, fresh: Callable[[], Taste], wanted: Callable[[], None]) -> None:
        self._for_you = for_you
        self._fresh = fresh
        self._wanted = wanted
        self._feedback: tuple[FeedbackSource, dict[str, float]] | None = None
        self._until = 0
        self._next: Taste | None = None
        self._parts: list[Ints] = []
        self._missed: list[Event] = []

    def also_learn_by(self, source: FeedbackSource, weights: dict[str, float]) -> None:
        """Let a rebuild learn from feedback as well as from hearts.

        Args:
            weights: Confidence in an event by kind.
        """
        self._feedback = source, weights

    def apply(self, events: list[HeartChanged]) -> None:
        self.learn(
            [
                (event.key.user_id, event.key.target_id, float(event.delta))
                for event in events
                if event.key.kind == KIND
            ]
        )

    def learn(self, events: list[Event]) -> None:
        """Take (user id, item id, confidence), of hearts or of feedback."""
        self._for_you.apply(events)
        if self._next is not None:
            self._missed += events
            if len(self._missed) > _MAX_MISSED:
                self.mark_stale()

    def mark_stale(self) -> None:
        self._forget()
        self._wanted()

    def begin(self) -> None:
        self._forget()
        self._next = self._fresh()
        if self._feedback is not None:
            self._until = self._feedback[0].log.position

    def feed(self, hearts: list[Heart]) -> None:
        if self._next is not None:
            self._parts.append(
                self._next.number(
                    [
                        (heart.key.user_id, heart.key.target_id, heart.created_ms, 1.0)
                        for heart in hearts
                        if heart.key.kind == KIND
                    ]
                )
            )

    async def finish(self) -> bool:
        await self._feed_feedback()
        fresh = self._next
        if fresh is None:
            return False
        parts, self._parts = self._parts, []
        # A second per million hearts; requests go on meanwhile.
        await asyncio.to_thread(fresh.load_numbered, parts)
        taken = 0
        while self._next is fresh and taken < len(self._missed):
            some = self._missed[taken : taken + _MISSED_CHUNK]
            fresh.apply(some)
            taken += len(some)
            await asyncio.sleep(0)
        if self._next is not fresh:
            return False
        fresh.settle()
        self._for_you.use(fresh)
        self._forget()
        return True

    async def _feed_feedback(self) -> None:
        if self._feedback is None:
            return
        fresh, (source, weights) = self._next, self._feedback
        async for events in source.read(self._until):
            if fresh is None or self._next is not fresh:
                return
            known = [
                (event.user_id, event.item_id, event.at_ms, sure)
                for event in events
                if (sure := confidence(event, weights))
            ]
            self._parts.append(fresh.number(known))

    def _forget(self) -> None:
        self._next, self._parts, self._missed = None, [], []
