"""A timing wheel: one timer for all pings, deadlines and redeliveries.

A timer per connection costs memory while nothing happens and a heap operation when
it does. Here a deadline is an entry in the slot of its tick; setting and cancelling
are O(1), and an idle wheel costs one empty slot per tick. The price is that a
deadline fires up to one tick late, never early.

Nothing here reads a clock: the owner calls ``advance(now_s)`` from its one timer.
"""

from __future__ import annotations

from collections.abc import Callable


class Timer:
    """One deadline. ``cancel`` it, or it calls back once."""

    __slots__ = ("callback", "tick")

    def __init__(self, tick: int, callback: Callable[[], None]) -> None:
        self.tick = tick
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Never call back. Repeating it, or after the call, does nothing."""
        # The entry stays in its slot until that slot comes round: finding it now
        # would cost a search, keeping it costs two words.
        self.callback = None


class TimingWheel:
    """Deadlines by tick.

    Args:
        tick_s: Length of a tick in seconds, > 0.
        slots: Ticks in one turn; deadlines further away go round more than once.
        now_s: Monotonic time at which the wheel starts.
    """

    __slots__ = ("_slots", "_tick", "_tick_s", "failed")

    def __init__(self, tick_s: float, slots: int, now_s: float) -> None:
        if tick_s <= 0 or slots < 1:
            raise ValueError(f"tick_s must be > 0 and slots >= 1, got {tick_s} and {slots}")
        self._tick_s = tick_s
        self._slots: list[list[Timer]] = [[] for _ in range(slots)]
        self._tick = int(now_s / tick_s)
        self.failed = 0
        """Callbacks that raised; the others of their tick ran all the same."""

    def at(self, deadline_s: float, callback: Callable[[], None]) -> Timer:
        """Call back at the first ``advance`` at or after this monotonic time."""
        tick = max(-int(-deadline_s // self._tick_s), self._tick + 1)
        timer = Timer(tick, callback)
        self._slots[tick % len(self._slots)].append(timer)
        return timer

    def advance(self, now_s: float) -> None:
        """Fire everything that is due, oldest tick first."""
        target = int(now_s / self._tick_s)
        if target - self._tick >= len(self._slots):
            # The owner slept longer than a turn: every slot is visited once.
            self._tick = target - len(self._slots)
        while self._tick < target:
            self._tick += 1
            self._fire_slot(self._tick % len(self._slots), target)

    def _fire_slot(self, index: int, target: int) -> None:
        timers = self._slots[index]
        if not timers:
            return
        self._slots[index] = []
        for timer in timers:
            callback = timer.callback
            if callback is None:
                continue
            if timer.tick > target:
                self._slots[index].append(timer)
                continue
            timer.callback = None
            try:
                callback()
            except Exception:
                self.failed += 1
