"""The two calls of an event loop that plain callbacks need, moved by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from heartcast.testing.clock import ManualClock


class ManualTimer:
    """What ``call_later`` gives."""

    def __init__(self, due_s: float, callback: Callable[[], Any]) -> None:
        self.due_s = due_s
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class ManualTurns:
    """``call_soon`` and ``call_later`` on a ``ManualClock``.

    Args:
        on_time: Called with the monotonic time after every step of it, like the owner
            of a timing wheel would be.
    """

    def __init__(self, clock: ManualClock, on_time: Callable[[float], None] | None = None) -> None:
        self._clock = clock
        self._on_time = on_time
        self._soon: deque[Callable[[], Any]] = deque()
        self._later: list[ManualTimer] = []

    def call_soon(self, callback: Callable[[], Any]) -> None:
        self._soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], Any]) -> ManualTimer:
        timer = ManualTimer(self._clock.monotonic_s() + delay, callback)
        self._later.append(timer)
        return timer

    def turn(self) -> bool:
        """Run one callback that is due now; False when there is none."""
        if not self._soon:
            return False
        self._soon.popleft()()
        return True

    def settle(self) -> None:
        """Run everything that is due now."""
        while self.turn():
            pass

    def advance(self, seconds: float, step_s: float = 0.05) -> None:
        """Let time pass in steps, running what becomes due in each."""
        self.settle()
        for _ in range(max(1, round(seconds / step_s))):
            self._clock.advance(step_s)
            now_s = self._clock.monotonic_s()
            due = [timer for timer in self._later if timer.due_s <= now_s + 1e-9 or timer.is_cancelled]
            self._later = [timer for timer in self._later if timer not in due]
            for timer in sorted(due, key=lambda timer: timer.due_s):
                if not timer.is_cancelled:
                    timer.callback()
            if self._on_time is not None:
                self._on_time(now_s)
            self.settle()
