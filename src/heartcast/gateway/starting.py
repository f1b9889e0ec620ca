"""When requests for the application are started: a few in each turn of the event loop.

Each becomes a task, and tasks that are ready all run before the loop looks at anything else. A
thousand that are started together hold up everybody for a fifth of a second. So what comes in
faster than it is worked off waits here, and the critical overtakes the rest.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

PER_TURN = 32
"""At 0.2 ms each some 6 ms: no reader of a socket waits much longer than that."""

Start = Callable[[], None]


class Starting:
    """What waits to be started."""

    def __init__(self) -> None:
        self._critical: deque[Start] = deque()
        self._others: deque[Start] = deque()
        self._left = PER_TURN
        self._is_turning = False

    def add(self, loop: asyncio.AbstractEventLoop, start: Start, *, is_critical: bool) -> None:
        """Start it in this turn of the loop if there is room, or else as soon as its time has come."""
        if not self._is_turning:
            self._is_turning = True
            loop.call_soon(self._turn, loop)
        if self._left:
            self._left -= 1
            start()
        else:
            (self._critical if is_critical else self._others).append(start)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._left = PER_TURN
        for waiting in (self._critical, self._others):
            while waiting and self._left:
                self._left -= 1
                waiting.popleft()()
        self._is_turning = self._left < PER_TURN
        if self._is_turning:
            # Behind the tasks that were just made ready.
            loop.call_soon(self._turn, loop)
