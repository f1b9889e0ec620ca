"""A wheel of pushes by wall time: one list per tick, no timer each.

An entry costs a pointer. It is looked at when its slot comes round, and stays there for
another turn when its time has not come: times may be as far away as they like. A push
that ended meanwhile is passed over by whoever is called, so nothing is ever taken out.

Wall clocks jump. Forward: everything due fires. Back: the wheel turns back with it, and
what is due then is due when the clock says so.
"""

from __future__ import annotations

from heartcast.push.model import Push

TICK_MS = 100
_SLOTS = 512


class PushWheel:
    """Entries of (push, wall time) of one shard."""

    __slots__ = ("_slots", "_tick", "entries")

    def __init__(self, now_ms: int) -> None:
        self._slots: list[list[tuple[int, Push]]] | None = None
        self._tick = now_ms // TICK_MS
        self.entries = 0
        """Entries in it, those of ended pushes included."""

    def put(self, push: Push, due_ms: int) -> None:
        """Give the push back at the first ``advance`` at or after this time."""
        if self._slots is None:
            # Most shards of most servers never defer anything.
            self._slots = [[] for _ in range(_SLOTS)]
        tick = max(-(-due_ms // TICK_MS), self._tick + 1)
        self._slots[tick % _SLOTS].append((due_ms, push))
        self.entries += 1

    def advance(self, now_ms: int) -> list[Push]:
        """Everything that is due, in the order of its time; what ended long ago is dropped on the way."""
        target = now_ms // TICK_MS
        if not self.entries or target <= self._tick:
            self._tick = target
            return []
        due: list[tuple[int, Push]] = []
        for tick in range(max(self._tick + 1, target - _SLOTS + 1), target + 1):
            self._visit(tick % _SLOTS, now_ms, due)
        self._tick = target
        # Equal times: as they were put in, which is the order of their acceptance.
        due.sort(key=lambda entry: entry[0])
        return [push for _, push in due]

    def pushes(self) -> list[Push]:
        """All pushes in it that have not ended."""
        slots = self._slots or []
        return [push for slot in slots for _, push in slot if not push.state.is_terminal]

    def _visit(self, index: int, now_ms: int, due: list[tuple[int, Push]]) -> None:
        assert self._slots is not None
        slot = self._slots[index]
        if not slot:
            return
        ready = [entry for entry in slot if entry[0] <= now_ms]
        kept = [entry for entry in slot if entry[0] > now_ms and not entry[1].state.is_terminal]
        self._slots[index] = kept
        self.entries -= len(slot) - len(kept)
        due += ready
