"""The layers around a call, composed once and in the order that works.

From the outside in: fallback, deadline, retry or hedge, then for each attempt limit,
breaker, bulkhead, timeout. The order is not the caller's to choose, because most others
are wrong: a breaker outside the retries sees one failure where there were three, a
timeout outside the bulkhead counts our own queue as the dependency's slowness.

All of an attempt's layers run in one coroutine; each layer that is absent costs a
comparison with None.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from heartcast.core.clock import Clock, SystemClock
from heartcast.resilience.breaker.guard import Circuit
from heartcast.resilience.bulkhead import Bulkhead
from heartcast.resilience.errors import DeadlineExceeded, LimitExceeded, whole_seconds
from heartcast.resilience.hedge import Hedge
from heartcast.resilience.limits import TokenBucket
from heartcast.resilience.retry import Retry
from heartcast.resilience.timeout import AdaptiveTimeout, Alarms, deadline, remaining_s

P = ParamSpec("P")
T = TypeVar("T")


class Policy:
    """``@policy`` on an async function, or ``await policy.call(function, *args)``.

    Args:
        fallback: Called with the error when all else failed; its answer is returned.
        deadline_s: Seconds for the whole, attempts and waits together.
        retry: Attempts; not together with ``hedge``.
        hedge: A second call when the first is late.
        limit: Our own bound on attempts per time.
        circuit: The dependency's breaker.
        bulkhead: Attempts at a time.
        timeout: Seconds per attempt, or one that learns.

    Raises:
        ValueError: two layers contradict each other.
    """

    def __init__(
        self,
        *,
        fallback: Callable[[Exception], Any] | None = None,
        deadline_s: float | None = None,
        retry: Retry | None = None,
        hedge: Hedge | None = None,
        limit: TokenBucket | None = None,
        circuit: Circuit | None = None,
        bulkhead: Bulkhead | None = None,
        timeout: float | AdaptiveTimeout | None = None,
        clock: Clock | None = None,
    ) -> None:
        _check(deadline_s, retry, hedge, timeout)
        self._fallback = fallback
        self._deadline_s = deadline_s
        self.retry = retry
        self.hedge = hedge
        self.limit = limit
        self.circuit = circuit
        self.bulkhead = bulkhead
        self.timeout = timeout
        self.attempts = {"successful": 0, "failed": 0, "timeout": 0}
        """Attempts that were made, by how they ended."""
        self._alarms, self._deadlines = Alarms(), Alarms()
        self._clock = clock or SystemClock()
        self._now_ns = self._clock.monotonic_ns

    async def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call through all layers.

        Raises:
            LimitExceeded, CircuitOpen, BulkheadFull: refused by a layer, not called.
            DeadlineExceeded: the time for the whole is over.
            TimeoutError: the last attempt took too long.
        """
        try:
            if self._deadline_s is not None:
                return await self._within_deadline(lambda: self._tries(function, args, kwargs))
            return await self._tries(function, args, kwargs)
        except Exception as error:
            if self._fallback is None:
                raise
            answer: T = self._fallback(error)
            return answer

    def __call__(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Send every call of an async function through the layers."""

        @functools.wraps(function)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.call(function, *args, **kwargs)

        return guarded

    async def _within_deadline(self, tries: Callable[[], Awaitable[T]]) -> T:
        assert self._deadline_s is not None
        with deadline(self._deadline_s, self._clock):
            # An outer deadline may be nearer than ours.
            alarm = self._deadlines.set(remaining_s(self._clock) or 0.0)
            try:
                result = await tries()
            except asyncio.CancelledError:
                if self._deadlines.has_rung(alarm):
                    raise DeadlineExceeded(f"not done within {self._deadline_s} s") from None
                raise
            except BaseException:
                self._deadlines.stop(alarm)
                raise
            self._deadlines.stop(alarm)
            return result

    def _tries(
        self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Awaitable[T]:
        if self.retry is not None:
            return self.retry.call(lambda: self._attempt(function, args, kwargs))
        if self.hedge is not None:
            return self.hedge.call(lambda: self._attempt(function, args, kwargs))
        return self._attempt(function, args, kwargs)

    async def _attempt(
        self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> T:
        # Cheapest first, and what is refused here is not the dependency's fault: the
        # bulkhead is entered before the breaker is asked, so that waiting for a place
        # holds no probe and counts as nobody's slowness.
        if self.limit is not None:
            wait_ns = self.limit.admit(self._now_ns())
            if wait_ns:
                raise LimitExceeded("too many calls", retry_after_s=whole_seconds(wait_ns))
        bulkhead = self.bulkhead
        if bulkhead is None:
            return await self._through(function, args, kwargs)
        if not bulkhead.take():
            await bulkhead.enter()
        try:
            return await self._through(function, args, kwargs)
        finally:
            bulkhead.leave()

    async def _through(
        self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> T:
        """The attempt itself: breaker and timeout."""
        circuit, timeout = self.circuit, self.timeout
        started_ns = self._now_ns()
        permit = circuit.enter_at(started_ns) if circuit is not None else 0
        alarm = 0
        try:
            if timeout is not None:
                alarm = self._alarms.set(
                    timeout.timeout_s if isinstance(timeout, AdaptiveTimeout) else timeout
                )
            result = await function(*args, **kwargs)
        except BaseException as error:
            failure = self._explain(error, alarm)
            self._record(started_ns, permit, failure)
            if failure is error:
                raise
            raise failure from None
        if alarm:
            self._alarms.stop(alarm)
        self.attempts["successful"] += 1
        if circuit is not None:
            circuit.breaker.ok(permit, self._now_ns())
        if isinstance(timeout, AdaptiveTimeout):
            now_ns = self._now_ns()
            timeout.record(now_ns - started_ns, now_ns)
        return result

    def _explain(self, error: BaseException, alarm: int) -> BaseException:
        """What really happened: a cancellation may be our own timeout."""
        if not alarm:
            return error
        if isinstance(error, asyncio.CancelledError) and self._alarms.has_rung(alarm):
            return TimeoutError("the attempt took too long")
        self._alarms.stop(alarm)
        return error

    def _record(self, started_ns: int, permit: int, error: BaseException) -> None:
        if permit and self.circuit is not None:
            self.circuit.leave(permit, error)
        timed_out = isinstance(error, TimeoutError)
        self.attempts["timeout" if timed_out else "failed"] += 1
        if isinstance(self.timeout, AdaptiveTimeout):
            now_ns = self._now_ns()
            self.timeout.record(now_ns - started_ns, now_ns, timed_out=timed_out)


def _check(
    deadline_s: float | None,
    retry: Retry | None,
    hedge: Hedge | None,
    timeout: float | AdaptiveTimeout | None,
) -> None:
    timeout_s = timeout.timeout_s if isinstance(timeout, AdaptiveTimeout) else timeout
    for field, seconds in (("deadline_s", deadline_s), ("timeout", timeout_s)):
        if seconds is not None and not 0 < seconds < 1e9:
            raise ValueError(f"{field}: must be > 0 and finite, got {seconds}")
    if retry is not None and hedge is not None:
        raise ValueError("hedge: not together with retry, they would multiply; choose one")
    if deadline_s is not None and timeout_s is not None and timeout_s > deadline_s:
        raise ValueError(f"timeout: {timeout_s} s would outlive the deadline of {deadline_s} s")
    if hedge is not None and timeout_s is not None and hedge.after_s >= timeout_s:
        raise ValueError(
            f"hedge: after {hedge.after_s} s the first call has timed out already ({timeout_s} s)"
        )
