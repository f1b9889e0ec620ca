"""The heat of every item on every board, in flat arrays.

An item owns a *slot*, a position in arrays that hold how many of its events are
counted, the time of the oldest of them, and one level per board: about 220 bytes an
item with three boards, id included. Where numpy is installed large batches are grouped
by item and added as arrays; without it, or for a handful of events, one by one. Both
give the same levels to the last few bits.

The number of items is bounded. Above it the coldest make room: of a few dozen items in
turn those go that stand lowest on every board; a leader of any board never does.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

from heartcast.ranking.board import Board
from heartcast.ranking.decay import DEEP_CUT, Decay

try:
    from heartcast.ranking import bulk
except ImportError:  # numpy is optional: it only makes large batches faster
    _BULK_FROM = 1 << 62
else:
    # Below this many events the fixed cost of some thirty array calls is not earned back.
    _BULK_FROM = 512

LATEST_MS = 253_402_300_799_999
"""Last millisecond of the year 9999: no wall time is later."""

_BIGGEST_WEIGHT = 1e15
# Candidates looked at and items forgotten in one step of eviction.
_LOOKED_AT = 64
_FORGOTTEN = 8


class Heat:
    """Items by slot.

    Args:
        decays: One per board.
        max_items: Items kept at most, >= 1000.
    """

    __slots__ = ("_counts", "_free", "_hand", "_max_items", "_names", "_oldest_ms", "_slots", "boards",
                 "doubtful", "evicted", "refused", "unmatched")  # fmt: skip

    def __init__(self, decays: Sequence[Decay], max_items: int) -> None:
        self._max_items = max_items
        self._slots: dict[str, int] = {}
        self._names: list[str | None] = []
        self._counts = array("q")
        self._oldest_ms = array("q")
        self._free: list[int] = []
        self._hand = 0
        self.boards = [Board(decay, self._names) for decay in decays]
        self.doubtful: set[str] = set()
        """Items of which so much was taken away that rounding shows in what is left."""
        self.evicted = 0
        """Items forgotten for want of room."""
        self.refused = 0
        """Events with a weight or a time that no event can have."""
        self.unmatched = 0
        """Events to take away that are not among those counted."""

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._slots

    def slots(self, item_ids: Iterable[str]) -> set[int]:
        """The slots of those of the items that have one."""
        find = self._slots.get
        return {slot for item_id in item_ids if (slot := find(item_id)) is not None}

    def live(self) -> Iterator[int]:
        """The slots in use."""
        return iter(self._slots.values())

    def apply(self, events: Sequence[tuple[str, float, int]]) -> None:
        """Take (item id, weight, at_ms) events; a negative weight takes one away.

        What is added is added first: an event to take away is never missed because it
        stands before its counterpart.
        """
        if len(events) == 1:
            self._apply_one(*events[0])
            return
        if len(events) >= _BULK_FROM and self._apply_bulk(events):
            return
        slots: list[int] = []
        times_ms: list[int] = []
        weights: list[float] = []
        removals: list[tuple[str, float, int]] = []
        find, oldest_ms, counts = self._slots.get, self._oldest_ms, self._counts
        for event in events:
            item_id, weight, at_ms = event
            if not 0 <= at_ms <= LATEST_MS or not 0 < abs(weight) < _BIGGEST_WEIGHT:
                self.refused += 1
                continue
            if weight < 0:
                removals.append(event)
                continue
            slot = find(item_id)
            if slot is None:
                slot = self._admit(item_id, at_ms)
            elif at_ms < oldest_ms[slot]:
                oldest_ms[slot] = at_ms
            counts[slot] += 1
            slots.append(slot)
            times_ms.append(at_ms)
            weights.append(weight)
        for board in self.boards:
            board.add(slots, times_ms, weights)
        for item_id, weight, at_ms in removals:
            self._take_away(item_id, -weight, at_ms)
        if len(self._slots) > self._max_items:
            self._evict()

    def _apply_one(self, item_id: str, weight: float, at_ms: int) -> None:
        if not 0 <= at_ms <= LATEST_MS or not 0 < abs(weight) < _BIGGEST_WEIGHT:
            self.refused += 1
            return
        if weight < 0:
            self._take_away(item_id, -weight, at_ms)
            return
        slot = self._slots.get(item_id)
        if slot is None:
            slot = self._admit(item_id, at_ms)
        elif at_ms < self._oldest_ms[slot]:
            self._oldest_ms[slot] = at_ms
        self._counts[slot] += 1
        for board in self.boards:
            board.add_one(slot, weight, at_ms)
        if len(self._slots) > self._max_items:
            self._evict()

    def forget(self, item_id: str) -> None:
        """Drop an item from every board. An item that is not there is no error."""
        slot = self._slots.pop(item_id, None)
        if slot is None:
            return
        for board in self.boards:
            board.clear(slot)
        self._names[slot] = None
        self._counts[slot] = 0
        self._free.append(slot)
        self.doubtful.discard(item_id)

    def _admit(self, item_id: str, at_ms: int) -> int:
        if self._free:
            slot = self._free.pop()
            self._names[slot] = item_id
            self._oldest_ms[slot] = at_ms
        else:
            slot = len(self._names)
            self._names.append(item_id)
            self._counts.append(0)
            self._oldest_ms.append(at_ms)
            for board in self.boards:
                board.levels.append(float("-inf"))
        self._slots[item_id] = slot
        return slot

    def _apply_bulk(self, events: Sequence[tuple[str, float, int]]) -> bool:
        """Take many events as arrays; False, and nothing done, unless all of them add."""
        found = bulk.columns(events, LATEST_MS, _BIGGEST_WEIGHT)
        if found is None:
            return False
        ids, weights, times_ms = found
        known = self._slots
        try:
            slots = [known[item_id] for item_id in ids]
        except KeyError:  # some are new, as is usual only at the start
            for item_id, at_ms in zip(ids, times_ms.tolist(), strict=True):
                if item_id not in known:
                    self._admit(item_id, at_ms)
            slots = [known[item_id] for item_id in ids]
        bulk.count(self._counts, self._oldest_ms, slots, times_ms)
        bulk.add(self.boards, slots, times_ms, weights)
        if len(self._slots) > self._max_items:
            self._evict()
        return True

    def _take_away(self, item_id: str, weight: float, at_ms: int) -> None:
        slot = self._slots.get(item_id)
        # Older than everything counted here: it was counted before the item was last
        # forgotten, and must not be taken from what came since.
        if slot is None or at_ms < self._oldest_ms[slot]:
            self.unmatched += 1
            return
        self._counts[slot] -= 1
        if self._counts[slot] == 0:
            self.forget(item_id)
            return
        fell = max([board.subtract(slot, weight, at_ms) for board in self.boards])
        if fell > DEEP_CUT:
            self.doubtful.add(item_id)

    def _evict(self) -> None:
        while len(self._slots) > self._max_items:
            candidates = self._candidates()
            if not candidates:
                return  # every item leads some board: bounded by the boards themselves
            places = dict.fromkeys(candidates, 0)
            for board in self.boards:
                for place, slot in enumerate(sorted(candidates, key=board.levels.__getitem__)):
                    places[slot] = max(places[slot], place)
            for slot in sorted(candidates, key=places.__getitem__)[:_FORGOTTEN]:
                self.forget(self._names[slot] or "")
                self.evicted += 1

    def _candidates(self) -> list[int]:
        found: list[int] = []
        for _ in range(len(self._names)):
            self._hand = (self._hand + 1) % len(self._names)
            if self._names[self._hand] is not None and not self._leads(self._hand):
                found.append(self._hand)
                if len(found) == _LOOKED_AT:
                    break
        return found

    def _leads(self, slot: int) -> bool:
        return any(board.is_leading(slot) for board in self.boards)
