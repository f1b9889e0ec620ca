"""The way to a store that may fail: a breaker for its callbacks.

A store that is down is not asked again and again by everybody: after enough failures callers
are told at once to come back, and a few probes find out when it works again. Being told to
wait because much is waiting already says nothing about the store and opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

from heartcast.core.clock import Clock
from heartcast.core.errors import StoreBusy, StoreUnavailable
from heartcast.resilience.breaker import Breaker, BreakerPolicy, State
from heartcast.resilience.errors import whole_seconds

T = TypeVar("T")


class Gate:
    """Guards calls that answer by ``done(result | StoreUnavailable)``.

    Args:
        name: What metrics and health call it.
        random: Dice for the jitter of breaks.
    """

    def __init__(self, name: str, policy: BreakerPolicy, clock: Clock, random: Random) -> None:
        self._now_ns = clock.monotonic_ns
        self.breaker = Breaker(name, policy, random=random, now_ns=self._now_ns())

    def enter(
        self, done: Callable[[T | StoreUnavailable], None]
    ) -> Callable[[T | StoreUnavailable], None] | None:
        """What to hand to the store in place of ``done``; None when the store is not to be asked
        now, and ``done`` was told so."""
        breaker = self.breaker
        permit = breaker.enter(self._now_ns())
        if permit < 0:
            wait_s = whole_seconds(-permit)
            done(
                StoreUnavailable("the heart store fails; it is left alone for a while", retry_after_s=wait_s)
            )
            return None

        def leave(result: T | StoreUnavailable) -> None:
            now_ns = self._now_ns()
            if not isinstance(result, StoreUnavailable):
                breaker.ok(permit, now_ns)
            elif isinstance(result, StoreBusy):
                breaker.ignore(permit, now_ns)
            else:
                breaker.fail(permit, now_ns)
            done(result)

        return leave

    @property
    def is_closed(self) -> bool:
        """Whether calls pass, as they do when all is well."""
        return self.breaker.state is State.CLOSED
