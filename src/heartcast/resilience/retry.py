"""Retries that cannot make an outage worse.

Three things bound them: the number of attempts, the deadline, and a budget that all
callers share. Backoff has full jitter, so that callers who failed together don't come
back together. A Retry-After is a floor under the wait. What we refused ourselves (an
open breaker, a full bulkhead) is never retried: nothing has been tried yet.

Retry only what may be repeated: reads, and writes that are idempotent.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Awaitable, Callable
from random import Random, SystemRandom
from typing import Any, ParamSpec, TypeVar, cast

import msgspec

from heartcast.core.clock import Clock, SystemClock
from heartcast.core.errors import HeartcastError, Overloaded
from heartcast.resilience.breaker.window import TimeWindow
from heartcast.resilience.errors import CircuitOpen, DeadlineExceeded
from heartcast.resilience.timeout import remaining_s

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Backoff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often to try and how long to wait between."""

    attempts: int = 3
    """Calls in all, >= 1. The third try helps rarely, a fourth hardly ever."""

    first_s: float = 0.05
    """Upper end of the first wait in seconds, > 0; doubles with each."""

    max_s: float = 2.0
    """Upper end of the longest wait in seconds, >= first_s."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts: must be >= 1, got {self.attempts}")
        if not 0 < self.first_s <= self.max_s < 1e9:
            raise ValueError(f"first_s: must be > 0 and <= max_s, got {self.first_s} and {self.max_s}")

    def wait_s(self, failures: int, random: Random, *, retry_after_s: float = 0.0) -> float:
        """Seconds to wait after so many failures, >= 1: anything between none and the cap."""
        cap_s = min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 60))
        # The jitter comes on top of what the server asked for, never below it.
        return retry_after_s + random.uniform(0.0, cap_s)


class RetryBudget:
    """How many retries all callers together may add to the load.

    Args:
        percent: Retries per 100 calls, >= 0.
        floor_per_s: Retries per second that are allowed however few calls there are, >= 0.
        window_s: Whole seconds over which both are counted, >= 1.
    """

    __slots__ = ("_floor", "_percent", "_window", "refused")

    def __init__(
        self, *, percent: int = 10, floor_per_s: int = 1, window_s: int = 10, now_ns: int = 0
    ) -> None:
        if percent < 0 or floor_per_s < 0 or window_s < 1:
            raise ValueError("percent, floor_per_s: must be >= 0, window_s >= 1")
        self._percent = percent
        self._floor = floor_per_s * window_s * 100
        # The window counts calls as calls and retries as failures.
        self._window = TimeWindow(window_s, 1_000_000_000, now_ns)
        self.refused = 0

    def call(self, now_ns: int) -> None:
        """A first attempt is made."""
        if now_ns >= self._window.due_ns:
            self._window.turn(now_ns)
        self._window.calls += 1

    def take(self, now_ns: int) -> bool:
        """Whether one more retry fits; if so it is counted."""
        window = self._window
        window.turn(now_ns)
        if window.failures * 100 + 100 > max(self._percent * window.calls, self._floor):
            self.refused += 1
            return False
        window.failures += 1
        return True


class Recovery:
    """Waiting for a dependency to come back, together.

    All callers share one count of failures in a row. Each waits longer the longer the
    outage lasts; every ``probe_every``-th failure one of them goes again at once: a real
    call, not a health page, that shows whether the dependency is back. A success makes
    the next waits short again for all.
    """

    __slots__ = ("_backoff", "_probe_every", "_random", "failures", "probes")

    def __init__(self, backoff: Backoff | None = None, *, probe_every: int = 5, random: Random) -> None:
        if probe_every < 2:
            raise ValueError(f"probe_every: must be >= 2, got {probe_every}")
        self._backoff = backoff or Backoff()
        self._probe_every = probe_every
        self._random = random
        self.failures = 0
        self.probes = 0

    def succeeded(self) -> None:
        self.failures = 0

    def failed(self, *, retry_after_s: float = 0.0) -> float:
        """Seconds to wait before the next attempt; 0.0 makes this caller the probe."""
        self.failures += 1
        if self.failures % self._probe_every == 0 and not retry_after_s:
            self.probes += 1
            return 0.0
        return self._backoff.wait_s(self.failures, self._random, retry_after_s=retry_after_s)


def may_retry(error: BaseException) -> bool:
    """The default: what may pass by itself, and was not refused by ourselves."""
    if isinstance(error, HeartcastError):
        return error.retryable and not isinstance(error, CircuitOpen | DeadlineExceeded | Overloaded)
    return isinstance(error, OSError | TimeoutError | EOFError)


class Retry:
    """Repeats a call that may be repeated.

    Args:
        budget: Shared by all callers of a dependency; None for one of its own.
        recovery: Share the waiting of an outage; None to wait alone.
        may_retry: Whether an error is worth another attempt.
    """

    def __init__(
        self,
        backoff: Backoff | None = None,
        *,
        budget: RetryBudget | None = None,
        recovery: Recovery | None = None,
        may_retry: Callable[[BaseException], bool] = may_retry,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self.backoff = backoff or Backoff()
        self._clock = clock or SystemClock()
        self.budget = budget or RetryBudget(now_ns=self._clock.monotonic_ns())
        self._recovery = recovery
        self._may_retry = may_retry
        self._random = random or SystemRandom()
        self.outcomes = {"first": 0, "retried": 0, "failed": 0, "failed_retried": 0}
        """Calls by how they ended: at the first attempt, after retries, failed at once or after retries."""

    async def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Call until it returns, or raise its last error."""
        self.budget.call(self._clock.monotonic_ns())
        failures = 0
        while True:
            try:
                result = await function()
            except Exception as error:
                failures += 1
                wait_s = self.wait_s(error, failures)
                if wait_s is None:
                    raise
            else:
                self.succeeded(failures)
                return result
            if wait_s:
                await asyncio.sleep(wait_s)

    def wait_s(self, error: Exception, failures: int) -> float | None:
        """Seconds to wait before the next attempt, None to give up and raise."""
        retry_after_s = getattr(error, "retry_after_s", 0) if isinstance(error, HeartcastError) else 0
        if failures < self.backoff.attempts and self._may_retry(error):
            wait_s = self._next_wait_s(failures, retry_after_s)
            left_s = remaining_s(self._clock)
            # A wait that outlives the deadline helps nobody.
            if (left_s is None or wait_s < left_s) and self.budget.take(self._clock.monotonic_ns()):
                return wait_s
        elif self._recovery is not None:
            self._recovery.failed()
        self.outcomes["failed_retried" if failures > 1 else "failed"] += 1
        return None

    def _next_wait_s(self, failures: int, retry_after_s: float) -> float:
        if self._recovery is not None:
            return self._recovery.failed(retry_after_s=retry_after_s)
        return self.backoff.wait_s(failures, self._random, retry_after_s=retry_after_s)

    def succeeded(self, failures: int) -> None:
        if self._recovery is not None:
            self._recovery.succeeded()
        self.outcomes["retried" if failures else "first"] += 1

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Retry every call of a function, sync or async. The sync form blocks while it waits."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def retried_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await self.call(lambda: cast("Awaitable[Any]", function(*args, **kwargs)))

            return cast("Callable[P, R]", retried_async)

        @functools.wraps(function)
        def retried(*args: P.args, **kwargs: P.kwargs) -> R:
            self.budget.call(self._clock.monotonic_ns())
            failures = 0
            while True:
                try:
                    result = function(*args, **kwargs)
                except Exception as error:
                    failures += 1
                    wait_s = self.wait_s(error, failures)
                    if wait_s is None:
                        raise
                else:
                    self.succeeded(failures)
                    return result
                time.sleep(wait_s)

        return retried
