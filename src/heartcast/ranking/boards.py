"""The hot boards: what people like right now, today, this week.

Every heart raises its item on each board; an un-heart takes away exactly what the heart
once added, and the item whose last heart goes disappears. The boards are a view: they
are built from the store at start, follow the bus, and are rebuilt when they missed
something. Nothing here reads a clock; callers pass ``now_ms``.

Order and scores equal a recomputation from all events, as long as

* the item was not forgotten for want of room (``HotOptions.max_items``), and
* the difference exceeds rounding, about 1e-12 of a score. Taking away nearly all of a
  score leaves less precision than that: such items are in ``doubtful`` until ``recount``
  is given their events again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from heartcast.ranking.decay import Decay
from heartcast.ranking.heat import Heat
from heartcast.ranking.options import HotOptions

Event = tuple[str, float, int]
"""Item id, weight (negative: take away), wall time in milliseconds."""

# Events that may happen while a rebuild runs; beyond it the rebuild must start again.
_MAX_MISSED = 1_000_000
_CHUNK = 8192
# Events that wait for company: adding a thousand as arrays costs each a quarter of what it costs alone.
_MAX_WAITING = 1024


class HotBoards:
    """Items by time-decayed score, on several boards.

    Not for sharing between threads.

    Args:
        options: Which boards, and how much they may hold.
        landmark_ms: Wall time that levels count from; the time of start is best.
    """

    def __init__(self, options: HotOptions, landmark_ms: int) -> None:
        self._options = options
        self._landmark_ms = landmark_ms
        self._names = {name: index for index, name in enumerate(options.half_lives_s())}
        self._filled = self._empty()
        self._waiting: list[Event] = []
        self._next: Heat | None = None
        self._missed: list[Event] = []
        self.is_stale = False
        """Whether events were missed and ``rebuild`` is due."""
        self.applied = 0
        """Events taken so far."""

    @property
    def _heat(self) -> Heat:
        """The boards with everything on them that was taken: whoever looks sees no event late."""
        self._take_waiting()
        return self._filled

    def _take_waiting(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._filled.apply(waiting)

    @property
    def names(self) -> list[str]:
        """The boards, in the order of the options."""
        return list(self._names)

    @property
    def items(self) -> int:
        """Items on the boards."""
        return len(self._heat)

    @property
    def evicted(self) -> int:
        """Items forgotten for want of room since the last rebuild."""
        return self._heat.evicted

    @property
    def refused(self) -> int:
        """Events refused since the last rebuild: a weight of 0, NaN or beyond 1e15, or no wall time."""
        return self._heat.refused

    @property
    def doubtful(self) -> set[str]:
        """Items to ``recount``: rounding shows in their score. A copy."""
        return set(self._heat.doubtful)

    def __contains__(self, board: str) -> bool:
        return board in self._names

    def apply(self, events: Sequence[Event]) -> None:
        """Take events, oldest first; late ones count just as well.

        Args:
            events: (item id, weight, at_ms). A weight below 0 takes away the event of that
                weight and time; ``at_ms`` is then when the event to take away happened.
        """
        self.applied += len(events)
        self._waiting += events
        if len(self._waiting) >= _MAX_WAITING:
            self._take_waiting()
        if self._next is not None:
            self._remember(events)

    def top(self, board: str, limit: int, now_ms: int) -> list[tuple[str, float]]:
        """The hottest items, best first, equal scores by item id.

        Args:
            board: One of ``names``.
            limit: Items at most, 1 to 100.
            now_ms: Wall time to which scores have decayed.

        Returns:
            (item id, score): 1.0 is one heart this very moment.

        Raises:
            KeyError: there is no such board.
        """
        ladder = self._heat.boards[self._names[board]]
        ladder.refill(self._heat.live(), len(self._heat))
        return ladder.top(limit, now_ms)

    def among(self, board: str, item_ids: Iterable[str], limit: int, now_ms: int) -> list[tuple[str, float]]:
        """The hottest of these items, which may repeat; as ``top``. Looks at each of them.

        Raises:
            KeyError: there is no such board.
        """
        return self._heat.boards[self._names[board]].best_of(self._heat.slots(item_ids), limit, now_ms)

    def recount(self, item_id: str, events: Iterable[tuple[float, int]]) -> None:
        """Replace all that is known of an item by these (weight, at_ms), all weights > 0."""
        self._heat.forget(item_id)
        self._heat.apply([(item_id, weight, at_ms) for weight, at_ms in events])

    def mark_stale(self) -> None:
        """Events were missed: a rebuild that is under way is no good either."""
        self.is_stale = True
        self._next = None
        self._missed = []

    def rebuild(self, events: Iterable[Event]) -> None:
        """Start over from every event there is that was not taken away, in any order."""
        self.begin_rebuild()
        rest = iter(events)
        while chunk := list(islice(rest, _CHUNK)):
            self.feed(chunk)
        self.finish_rebuild()

    def begin_rebuild(self) -> None:
        """Start filling fresh boards in steps, while the old ones stay in use.

        Events applied from now on are added to the fresh boards at the end, so the events
        fed must be those that existed now.
        """
        self._next = self._empty()
        self._missed = []

    def feed(self, events: Sequence[Event]) -> None:
        """Some of the events of a rebuild. Ignored when none is under way any more."""
        if self._next is not None:
            self._next.apply(events)

    def finish_rebuild(self) -> bool:
        """Put the fresh boards in place.

        Returns:
            False when the rebuild was overtaken (``mark_stale``, or too many events
            meanwhile): nothing changed and it must be begun again.
        """
        fresh, missed = self._next, self._missed
        if fresh is None:
            return False
        fresh.apply(missed)
        self._filled, self._waiting = fresh, []
        self._next, self._missed = None, []
        self.is_stale = False
        return True

    def _remember(self, events: Sequence[Event]) -> None:
        self._missed.extend(events)
        if len(self._missed) > _MAX_MISSED:
            self.mark_stale()

    def _empty(self) -> Heat:
        half_lives_s = self._options.half_lives_s().values()
        return Heat(
            [Decay(half_life_s, self._landmark_ms) for half_life_s in half_lives_s], self._options.max_items
        )
