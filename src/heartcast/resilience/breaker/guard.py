"""Breakers around code: ``with``, ``async with`` and ``@``, and which errors count.

A guard holds one permit. It asks the classifier what an exception says about the
dependency, because most exceptions say nothing: a request that was wrong, a caller that
went away, a limit of our own.
"""

from __future__ import annotations

import functools
import inspect
from asyncio import CancelledError
from collections.abc import Callable
from enum import IntEnum
from random import SystemRandom
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from heartcast.core.clock import Clock, SystemClock
from heartcast.core.errors import HeartcastError, Overloaded
from heartcast.resilience.breaker.breaker import Breaker
from heartcast.resilience.breaker.policy import BreakerPolicy
from heartcast.resilience.errors import CircuitOpen, whole_seconds

P = ParamSpec("P")
R = TypeVar("R")


class Outcome(IntEnum):
    """What a call says about the dependency."""

    OK = 0
    """It works, even if it said no."""
    FAIL = 1
    IGNORE = 2
    """Nothing: the call was cancelled or never got there."""


def classify(error: BaseException) -> Outcome:
    """The default: errors of the caller are answers, our own refusals are nothing, the rest are failures."""
    if isinstance(error, HeartcastError):
        # Overloaded is backpressure, ours or theirs (429): opening would turn "slower" into "off".
        if isinstance(error, Overloaded | CircuitOpen):
            return Outcome.IGNORE
        return Outcome.FAIL if error.retryable or type(error) is HeartcastError else Outcome.OK
    if isinstance(error, CancelledError | GeneratorExit | KeyboardInterrupt | SystemExit):
        return Outcome.IGNORE
    return Outcome.FAIL


class Circuit:
    """A breaker with a clock, to put around code.

    Args:
        name: What metrics and errors call it.
        policy: None for the defaults.
        classify: What an exception says about the dependency.
    """

    __slots__ = ("_classify", "_now_ns", "breaker")

    def __init__(
        self,
        name: str,
        policy: BreakerPolicy | None = None,
        *,
        clock: Clock | None = None,
        classify: Callable[[BaseException], Outcome] = classify,
        breaker: Breaker | None = None,
    ) -> None:
        self._now_ns = (clock or SystemClock()).monotonic_ns
        self._classify = classify
        self.breaker = breaker or Breaker(name, policy, random=SystemRandom(), now_ns=self._now_ns())

    def guard(self) -> Guard:
        """One call: ``async with circuit.guard(): …`` or ``with circuit.guard(): …``."""
        return Guard(self)

    def enter(self) -> int:
        """A permit.

        Raises:
            CircuitOpen: calls are kept away; ``retry_after_s`` says for how long.
        """
        return self.enter_at(self._now_ns())

    def enter_at(self, now_ns: int) -> int:
        """``enter`` for those who know the time already."""
        permit = self.breaker.enter(now_ns)
        if permit < 0:
            raise CircuitOpen(f"{self.breaker.name} is not called now", retry_after_s=whole_seconds(-permit))
        return permit

    def leave(self, permit: int, error: BaseException | None) -> None:
        """Hand the permit back with what the call raised, None if it returned."""
        outcome = Outcome.OK if error is None else self._classify(error)
        now_ns = self._now_ns()
        if outcome is Outcome.OK:
            self.breaker.ok(permit, now_ns)
        elif outcome is Outcome.FAIL:
            self.breaker.fail(permit, now_ns)
        else:
            self.breaker.ignore(permit, now_ns)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Guard every call of a function, sync or async."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def guarded_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with Guard(self):
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", guarded_async)

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            with Guard(self):
                return function(*args, **kwargs)

        return guarded


class Guard:
    """One guarded call. Not reusable."""

    __slots__ = ("_circuit", "_permit")

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._permit = 0

    def __enter__(self) -> None:
        self._permit = self._circuit.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._circuit.leave(self._permit, error)

    async def __aenter__(self) -> None:
        self._permit = self._circuit.enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._circuit.leave(self._permit, error)
