"""A task that takes what waits as one group: ``sqlite.GroupThread``'s sibling for drivers that await.

While a group is under way the next one gathers, so that under load a round trip to the
server is shared by many callers, and without load nobody waits for company.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class GroupTask(Generic[Item]):
    """Make it on a running loop.

    Args:
        name: For debuggers.
        handle: Awaited with a group in the order submitted. It must not raise.
        weigh: How much of a group an item takes, >= 1.
        max_weight: Of a group; a heavier item goes alone.

    The queue itself has no bound: whoever submits counts what waits.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[list[Item]], Awaitable[None]],
        weigh: Callable[[Item], int],
        max_weight: int,
    ) -> None:
        self._handle = handle
        self._weigh = weigh
        self._max_weight = max_weight
        self._waiting: deque[Item] = deque()
        self._wake = asyncio.Event()
        self._is_stopping = False
        # Started here and waited for in stop(): it lives as long as its owner.
        self._task = asyncio.get_running_loop().create_task(self._run(), name=name)

    def submit(self, item: Item) -> None:
        """Hand over an item; not after ``stop``."""
        self._waiting.append(item)
        self._wake.set()

    async def stop(self) -> None:
        """Handle everything submitted so far and end the task."""
        self._is_stopping = True
        self._wake.set()
        await self._task

    async def _run(self) -> None:
        while not self._is_stopping or self._waiting:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._handle(self._take())

    def _take(self) -> list[Item]:
        waiting = self._waiting
        group = [waiting.popleft()]
        weight = self._weigh(group[0])
        while waiting:
            weight += self._weigh(waiting[0])
            if weight > self._max_weight:
                break
            group.append(waiting.popleft())
        return group
