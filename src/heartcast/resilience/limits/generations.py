"""A map that forgets what has become worthless, without ever looking through it.

Keys are spread over many small maps. Each has two generations: writes go to the young
one. When a rule's horizon has passed since the last turn, everything in the old one is
older than the horizon and so worth nothing: the old one is dropped whole, and the young
one becomes old. No live state is ever evicted, nothing sweeps, and as the maps are small
neither a drop nor a resize stops the loop for long.
"""

from __future__ import annotations

from typing import Any


class Slot:
    """One small map and the time of its next turn."""

    __slots__ = ("due_ns", "old", "young")

    def __init__(self) -> None:
        self.young: dict[str, Any] = {}
        self.old: dict[str, Any] = {}
        self.due_ns = 0

    def turn(self, now_ns: int, horizon_ns: int) -> None:
        """Drop the old generation. Call it only when ``now_ns >= due_ns``."""
        # After a silence of two horizons the young generation is worthless too.
        self.old = self.young if now_ns < self.due_ns + horizon_ns else {}
        self.young = {}
        self.due_ns = now_ns + horizon_ns


class Generations:
    """Small maps over which keys are spread.

    Args:
        horizon_ns: Age at which a state is worth nothing.
        max_keys: Keys that may live at once; see ``has_room``.
    """

    __slots__ = ("_next", "horizon_ns", "mask", "slot_keys", "slots")

    def __init__(self, horizon_ns: int, max_keys: int) -> None:
        if max_keys < 1:
            raise ValueError(f"max_keys: must be >= 1, got {max_keys}")
        # About 125 keys a map: dropping one takes some 10 µs, and its table is so small that the
        # allocator seldom has to look for room. With 1000 keys a map there were 13 calls above
        # 1 ms in 3 million, nearly all where a table grew while others were being dropped.
        count = 1
        while count < 16384 and count * 125 < max_keys:
            count *= 2
        self.slots = [Slot() for _ in range(count)]
        self.mask = count - 1
        # Keys spread unevenly: a little room on top, so that no map is full long before the rest.
        self.slot_keys = max_keys if count == 1 else max_keys // count * 5 // 4
        self.horizon_ns = horizon_ns
        self._next = 0

    def slot(self, key: str, now_ns: int) -> Slot:
        """The map of this key, turned if it was due."""
        slot = self.slots[hash(key) & self.mask]
        if now_ns >= slot.due_ns:
            slot.turn(now_ns, self.horizon_ns)
        return slot

    def has_room(self, slot: Slot) -> bool:
        """Whether a key that is not there yet may be added."""
        return len(slot.young) + len(slot.old) < self.slot_keys

    def tend(self, now_ns: int, slots: int = 64) -> None:
        """Turn the next few maps if they are due: memory comes back even where no key asks.

        Call it from a timer; it looks at ``slots`` maps each time.
        """
        for _ in range(min(slots, len(self.slots))):
            slot = self.slots[self._next]
            self._next = (self._next + 1) & self.mask
            if now_ns >= slot.due_ns:
                slot.turn(now_ns, self.horizon_ns)

    def __len__(self) -> int:
        """Entries held, counting a key once per generation it is in."""
        return sum(len(slot.young) + len(slot.old) for slot in self.slots)
