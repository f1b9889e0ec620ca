"""A bulkhead: no more than so many calls of one kind at a time, and a short queue.

The queue is first come first served and bounded in length and in time. ``try_enter`` is
the fast form that never waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

from heartcast.resilience.errors import BulkheadFull


class Bulkhead:
    """``async with bulkhead:`` around what must not be crowded.

    Args:
        limit: Calls at a time, >= 1. May be changed while in use.
        queue: Callers that may wait, >= 0.
        wait_s: Longest wait in seconds, > 0.
    """

    __slots__ = ("_queue", "_wait_s", "_waiting", "in_flight", "limit", "name", "refused")

    def __init__(self, limit: int, *, queue: int = 0, wait_s: float = 1.0, name: str = "bulkhead") -> None:
        if limit < 1 or queue < 0 or not 0 < wait_s < 1e9:
            raise ValueError(f"limit: must be >= 1, queue >= 0, wait_s > 0; got {limit}, {queue}, {wait_s}")
        self.name = name
        self.limit = limit
        self._queue = queue
        self._wait_s = wait_s
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.in_flight = 0
        self.refused = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def take(self) -> bool:
        """``try_enter`` for those who will wait otherwise: counts no refusal."""
        if self.in_flight >= self.limit or self._waiting:
            return False
        self.in_flight += 1
        return True

    def try_enter(self) -> bool:
        """Take a place if one is free and nobody waits for it. Whoever took one calls ``leave``."""
        if self.take():
            return True
        self.refused += 1
        return False

    def leave(self) -> None:
        """Give the place back, to the first who waits."""
        self.in_flight -= 1
        while self._waiting and self.in_flight < self.limit:
            place = self._waiting.popleft()
            if not place.done():
                self.in_flight += 1
                place.set_result(None)

    async def enter(self) -> None:
        """Take a place, waiting for it if there is room to wait.

        Raises:
            BulkheadFull: no place and no room in the queue, or none within ``wait_s``.
        """
        if self.take():
            return
        if len(self._waiting) >= self._queue:
            self.refused += 1
            raise BulkheadFull(f"{self.name}: {self.limit} calls are under way")
        await self._wait()

    async def _wait(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(self._wait_s):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                # The place came in the same moment as the cancellation: pass it on.
                self.leave()
            else:
                self._waiting.remove(place)
            if isinstance(error, TimeoutError):
                self.refused += 1
                raise BulkheadFull(f"{self.name}: no place within {self._wait_s} s") from None
            raise

    async def __aenter__(self) -> None:
        await self.enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
