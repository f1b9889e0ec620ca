"""Something to be done for every channel once in a while, a part at a time.

Ten thousand channels every five seconds are a thousand each half second, not a burst.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

_PARTS = 10


class Rounds:
    """Calls ``visit`` for each of ``channels`` once per ``round_s``.

    Args:
        channels: Asked at the beginning of each round.
        round_s: Seconds of a round, > 0.
    """

    def __init__(
        self, channels: Callable[[], Iterable[str]], visit: Callable[[str], None], round_s: float
    ) -> None:
        self._channels = channels
        self._visit = visit
        self._part_s = round_s / _PARTS
        self._left: deque[str] = deque()
        self._each = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._part_s, self._turn)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self) -> None:
        self.start()
        if not self._left:
            self._left.extend(self._channels())
            self._each = -(-len(self._left) // _PARTS)
        for _ in range(min(self._each, len(self._left))):
            self._visit(self._left.popleft())
