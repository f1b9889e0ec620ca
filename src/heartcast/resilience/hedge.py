"""Hedging: when an answer is late, ask once more and take whichever comes first.

It cuts the tail and costs load, so it is off unless asked for, draws on the same budget
as retries, and is for calls that may be repeated. The loser is cancelled and awaited:
when the winner's answer is returned nothing of this call is running any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from heartcast.core.clock import Clock, SystemClock
from heartcast.resilience.retry import RetryBudget

T = TypeVar("T")


class _Answer(Generic[T]):
    """How one of the calls ended."""

    __slots__ = ("error", "value")

    def __init__(self, value: T | None, error: Exception | None) -> None:
        self.value = value
        self.error = error


async def _settle(function: Callable[[], Awaitable[T]]) -> _Answer[T]:
    # Errors are values here: raising would make the task group cancel the other call.
    try:
        return _Answer(await function(), None)
    except Exception as error:
        return _Answer(None, error)


class Hedge:
    """Asks a second time after ``after_s``.

    Args:
        after_s: Seconds before the second call, > 0; the P95 is a good choice.
        budget: Bounds the extra load; when it is spent the first call goes on alone.
    """

    __slots__ = ("_after_s", "_budget", "_now_ns", "started", "won")

    def __init__(
        self, after_s: float, *, budget: RetryBudget | None = None, clock: Clock | None = None
    ) -> None:
        if not 0 < after_s < 1e9:
            raise ValueError(f"after_s: must be > 0 and finite, got {after_s}")
        self._after_s = after_s
        self._now_ns = (clock or SystemClock()).monotonic_ns
        self._budget = budget or RetryBudget(percent=5, floor_per_s=1, now_ns=self._now_ns())
        self.started = 0
        """Second calls that were made."""
        self.won = 0
        """Second calls whose answer was taken."""

    @property
    def after_s(self) -> float:
        return self._after_s

    async def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """The first good answer, or the last error when both fail."""
        self._budget.call(self._now_ns())
        async with asyncio.TaskGroup() as group:
            first = group.create_task(_settle(function))
            tasks = {first}
            await asyncio.wait(tasks, timeout=self._after_s)
            if not first.done() and self._budget.take(self._now_ns()):
                self.started += 1
                tasks.add(group.create_task(_settle(function)))
            answer = await self._first_good(tasks)
            self.won += answer is not None and not first.done()
            for task in tasks:
                task.cancel()
        if answer is None:
            answer = first.result()
        if answer.error is not None:
            raise answer.error
        return answer.value  # type: ignore[return-value]

    @staticmethod
    async def _first_good(tasks: set[asyncio.Task[_Answer[T]]]) -> _Answer[T] | None:
        waiting = tasks
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.result().error is None:
                    return task.result()
        return None
