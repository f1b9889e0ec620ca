"""One hot board: the level of every item, and who leads.

Most events concern items that no list shows. So the board keeps a short list of
*leaders* and a *floor*, the best place outside that list: an event costs one log-add
and one comparison, and only an item that rises above the floor touches the list. The
list is sorted when somebody looks and the last order is nearly right by then.

Places are by level, highest first, and by id where levels are equal.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from math import exp2, inf, log1p, log2

from heartcast.ranking.decay import Decay, log_subtract
from heartcast.ranking.options import MAX_LIMIT

# Leaders after a trim and before the next one. The first must exceed MAX_LIMIT,
# by enough that un-hearts rarely force a search through all items; sorting the second
# must stay a matter of microseconds.
_KEEP = 130
_MOST = 200
_PER_LN2 = 1.4426950408889634

_NOTHING = -inf


class Board:
    """Levels and leaders of one half-life.

    Args:
        decay: Half-life and landmark.
        names: Id of the item in each slot, None where the slot is free. Shared and
            owned by ``Heat``; this board only reads it.
    """

    __slots__ = ("_floor", "_floor_name", "_is_sorted", "_leaders", "_names", "_order", "decay", "levels")

    def __init__(self, decay: Decay, names: list[str | None]) -> None:
        self.decay = decay
        self.levels = array("d")
        """Level per slot; ``-inf`` where the slot is free."""
        self._names = names
        self._leaders: set[int] = set()
        self._order: list[int] = []
        self._is_sorted = True
        self._floor = _NOTHING
        self._floor_name = ""

    def add(self, slots: Sequence[int], at_ms: Sequence[int], weights: Sequence[float]) -> None:
        """Let these slots rise; one event per position, weights > 0."""
        levels, floor = self.levels, self._floor
        landmark_ms, per_ms = self.decay.landmark_ms, self.decay.per_ms
        for slot, event_ms, weight in zip(slots, at_ms, weights, strict=True):
            b = (event_ms - landmark_ms) * per_ms
            if weight != 1:
                b += log2(weight)
            a = levels[slot]
            # decay.log_add, written out: the call would cost a third of the loop.
            if a < b:
                a, b = b, a
            levels[slot] = a = a + log1p(exp2(b - a)) * _PER_LN2
            if a >= floor:
                self._rise(slot, a)
                floor = self._floor
        self._is_sorted = False

    def add_one(self, slot: int, weight: float, at_ms: int) -> None:
        """``add`` for a single event, without its lists."""
        decay = self.decay
        b = (at_ms - decay.landmark_ms) * decay.per_ms
        if weight != 1:
            b += log2(weight)
        a = self.levels[slot]
        if a < b:
            a, b = b, a
        self.levels[slot] = a = a + log1p(exp2(b - a)) * _PER_LN2
        if a >= self._floor:
            self._rise(slot, a)
            self._is_sorted = False

    def rose(self, slots: Iterable[int]) -> None:
        """The levels of these slots were raised by somebody else: look at them."""
        for slot in slots:
            level = self.levels[slot]
            if level >= self._floor:
                self._rise(slot, level)
        self._is_sorted = False

    @property
    def floor(self) -> float:
        """No slot below this level is a leader."""
        return self._floor

    def subtract(self, slot: int, weight: float, at_ms: int) -> float:
        """Take an event away from a slot.

        Returns:
            How many halvings the slot fell by: more than ``decay.DEEP_CUT`` means that
            most digits of what is left are rounding; ``inf`` that all of them are.
        """
        was = self.levels[slot]
        level = log_subtract(was, self.decay.level(weight, at_ms))
        fell = was - level
        # What rounding hides is at most 2^-52 of what was there; below that we do not know.
        self.levels[slot] = level if fell < 52 else was - 52
        self._sink(slot)
        return fell

    def clear(self, slot: int) -> None:
        """The item of this slot is gone."""
        self.levels[slot] = _NOTHING
        self._drop(slot)

    def is_leading(self, slot: int) -> bool:
        return slot in self._leaders

    def top(self, limit: int, now_ms: int) -> list[tuple[str, float]]:
        """The first places as (item id, score now), best first."""
        if not self._is_sorted:
            self._sort()
        return self._scored(self._order[:limit], now_ms)

    def best_of(self, slots: Iterable[int], limit: int, now_ms: int) -> list[tuple[str, float]]:
        """The first places among these slots; as ``top``."""
        return self._scored(nsmallest(limit, slots, key=self._place), now_ms)

    def _scored(self, best: list[int], now_ms: int) -> list[tuple[str, float]]:
        levels, names = self.levels, self._names
        decay = self.decay
        shift = (now_ms - decay.landmark_ms) * decay.per_ms
        # An event from the far future would overflow the float; the first is the highest.
        if best and levels[best[0]] - shift > 1000:
            return [(names[slot] or "", exp2(min(levels[slot] - shift, 1000.0))) for slot in best]
        return [(names[slot] or "", exp2(levels[slot] - shift)) for slot in best]

    def refill(self, live: Iterable[int], count: int) -> None:
        """Find the leaders again if un-hearts left too few. ``live``: the slots in use."""
        if len(self._order) >= min(MAX_LIMIT, count):
            return
        self._lead(nsmallest(_KEEP + 1, live, key=self._place))

    def _place(self, slot: int) -> tuple[float, str]:
        return (-self.levels[slot], self._names[slot] or "")

    def _rise(self, slot: int, level: float) -> None:
        if slot in self._leaders:
            return
        if level == self._floor and (self._names[slot] or "") > self._floor_name:
            return
        self._leaders.add(slot)
        self._order.append(slot)
        if len(self._order) > _MOST:
            self._lead(sorted(self._order, key=self._place))

    def _lead(self, best: list[int]) -> None:
        # The best one left out sets the floor, unless everybody leads. After a trim that is
        # also the best of all: nobody outside the list stood above the floor before.
        self._floor, self._floor_name = _NOTHING, ""
        if len(best) > _KEEP:
            out = best[_KEEP]
            self._floor, self._floor_name = self.levels[out], self._names[out] or ""
        self._order = best[:_KEEP]
        self._leaders = set(self._order)
        self._is_sorted = True

    def _sink(self, slot: int) -> None:
        self._is_sorted = False
        level = self.levels[slot]
        if level < self._floor or (level == self._floor and (self._names[slot] or "") > self._floor_name):
            self._drop(slot)

    def _drop(self, slot: int) -> None:
        if slot in self._leaders:
            self._leaders.remove(slot)
            self._order.remove(slot)

    def _sort(self) -> None:
        levels = self.levels
        self._order.sort(key=levels.__getitem__, reverse=True)
        if len({levels[slot] for slot in self._order}) < len(self._order):
            self._order.sort(key=self._place)
        self._is_sorted = True
