"""How the last calls went: three running totals, whatever the window's length.

A time window keeps one row of counts per second and subtracts the oldest; a count
window keeps one flag per call. Both answer in constant time. There is no sketch of
latencies: "the P95 is above T" says exactly that more than 5 % of the calls took longer
than T, so counting slow calls is enough, and exact.
"""

from __future__ import annotations

from collections import deque


class TimeWindow:
    """Calls of the last ``slots`` slots.

    Args:
        slots: Parts of the window, >= 1.
        slot_ns: Length of a part in nanoseconds, >= 1.
    """

    __slots__ = ("_base", "_rows", "_slot_ns", "calls", "due_ns", "failures", "slow")

    def __init__(self, slots: int, slot_ns: int, now_ns: int) -> None:
        self._slot_ns = slot_ns
        self._rows: deque[tuple[int, int, int]] = deque([(0, 0, 0)] * (slots - 1), slots - 1)
        self.clear(now_ns)

    def clear(self, now_ns: int) -> None:
        rows = self._rows
        rows.extend([(0, 0, 0)] * (rows.maxlen or 0))
        self._base = (0, 0, 0)
        self.calls = self.failures = self.slow = 0
        # Aligned to whole slots, so that a row means the same second in every process.
        self.due_ns = now_ns - now_ns % self._slot_ns + self._slot_ns
        """From this time on ``turn`` must be called before counting or reading."""

    def turn(self, now_ns: int) -> None:
        """Let go what is too old."""
        turns = (now_ns - self.due_ns) // self._slot_ns + 1
        if turns <= 0:
            return
        self.due_ns += turns * self._slot_ns
        for _ in range(min(turns, len(self._rows) + 1)):
            # The row of the slot that ends is what came since the last turn.
            calls, failures, slow = self._base
            self._rows.append((self.calls - calls, self.failures - failures, self.slow - slow))
            self._drop()

    def _drop(self) -> None:
        # What is in the rows is the window; the totals are recomputed from a handful of them.
        self.calls = sum(row[0] for row in self._rows)
        self.failures = sum(row[1] for row in self._rows)
        self.slow = sum(row[2] for row in self._rows)
        self._base = (self.calls, self.failures, self.slow)

    def add(self, failed: bool, slow: bool) -> None:
        self.calls += 1
        if failed:
            self.failures += 1
        if slow:
            self.slow += 1

    def add_failure(self) -> None:
        """A call that was counted already turned out to have failed."""
        self.failures += 1


class CountWindow:
    """The last ``size`` calls."""

    __slots__ = ("_flags", "_size", "calls", "due_ns", "failures", "slow")

    def __init__(self, size: int) -> None:
        self._size = size
        self._flags: deque[int] = deque()
        self.due_ns = 0
        """Always: each call pushes one out."""
        self.clear(0)

    def clear(self, now_ns: int) -> None:
        self._flags.clear()
        self.calls = self.failures = self.slow = 0

    def turn(self, now_ns: int) -> None:
        """Nothing ages here."""

    def add(self, failed: bool, slow: bool) -> None:
        if self.calls == self._size:
            oldest = self._flags.popleft()
            self.failures -= oldest & 1
            self.slow -= oldest >> 1
        else:
            self.calls += 1
        self._flags.append(failed | slow << 1)
        self.failures += failed
        self.slow += slow

    def add_failure(self) -> None:
        """A call that was counted already turned out to have failed."""
        for index in range(len(self._flags) - 1, -1, -1):
            if self._flags[index] == 2:
                self._flags[index] = 3
                self.failures += 1
                return
