"""What is done again and again: a few functions per pause, one timer for each pause."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from heartcast.push.workers import Loop

Chore = Callable[[int], object]
"""``chore(now_ms)``: does a little, in a few milliseconds."""


class Chores:
    """Calls each chore when its pause is over, with the wall time.

    Args:
        by_pause_s: Chores by the seconds between two calls, in the order in which they are called.
    """

    def __init__(
        self, loop: Loop, wall_ms: Callable[[], int], by_pause_s: Mapping[float, Sequence[Chore]]
    ) -> None:
        self._loop = loop
        self._wall_ms = wall_ms
        self._by_pause_s = by_pause_s
        self._timers: dict[float, Any] = {}

    def start(self) -> None:
        for pause_s in self._by_pause_s:
            self._set(pause_s)

    def _set(self, pause_s: float) -> None:
        self._timers[pause_s] = self._loop.call_later(pause_s, partial(self._do, pause_s))

    def _do(self, pause_s: float) -> None:
        # First the timer: a chore that raises must not be the last of its kind.
        self._set(pause_s)
        now_ms = self._wall_ms()
        for chore in self._by_pause_s[pause_s]:
            chore(now_ms)

    def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers = {}
