"""Waiting for a limit instead of being refused: first come, first served.

A token bucket can say exactly when the next unit is there, so waiting is a reservation
and one sleep: nobody polls, and nobody overtakes. Who is cancelled while waiting gives
the units back.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

from heartcast.core.clock import Clock, SystemClock
from heartcast.resilience.errors import LimitExceeded, whole_seconds
from heartcast.resilience.limits.bucket import TokenBucket
from heartcast.resilience.limits.limit import Limit

P = ParamSpec("P")
T = TypeVar("T")


class Throttle:
    """``async with throttle:`` or ``@throttle`` on an async function.

    Args:
        limit: A token or leaky bucket, as a value or as text.
        wait_s: Longest wait in seconds, >= 0; more than that is refused at once.
    """

    __slots__ = ("_clock", "_wait_ns", "bucket", "waiting")

    def __init__(self, limit: Limit | str, *, wait_s: float = 1.0, clock: Clock | None = None) -> None:
        if not 0 <= wait_s < 1e9:
            raise ValueError(f"wait_s: must be >= 0 and finite, got {wait_s}")
        self.bucket = TokenBucket(Limit.parse(limit) if isinstance(limit, str) else limit)
        self._wait_ns = round(wait_s * 1e9)
        self._clock = clock or SystemClock()
        self.waiting = 0
        """Callers whose turn has not come yet."""

    async def acquire(self, cost: int = 1) -> None:
        """Take units, now or as soon as it is our turn.

        Raises:
            LimitExceeded: our turn would come later than ``wait_s``; nothing was taken.
            ValueError: ``cost`` could never be paid, or would add units.
        """
        now_ns = self._clock.monotonic_ns()
        wait_ns = self.bucket.reserve(now_ns, cost, max_wait_ns=self._wait_ns)
        if wait_ns < 0:
            after_ns = self.bucket.wait_ns(now_ns, cost)
            raise LimitExceeded(f"more than {self.bucket.limit}", retry_after_s=whole_seconds(after_ns))
        if not wait_ns:
            return
        self.waiting += 1
        try:
            await asyncio.sleep(wait_ns / 1e9)
        except BaseException:
            self.bucket.refund(cost)
            raise
        finally:
            self.waiting -= 1

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Units are used up by starting; there is nothing to give back."""

    def __call__(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Throttle every call of an async function."""

        @functools.wraps(function)
        async def throttled(*args: P.args, **kwargs: P.kwargs) -> T:
            await self.acquire()
            return await function(*args, **kwargs)

        return throttled
