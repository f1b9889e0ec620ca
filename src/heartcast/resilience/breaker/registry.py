"""Breakers by dependency and partition, so that one bad route or host trips alone.

Partitions come from outside (a host, a route), so their number is bounded. What makes
room is a breaker that knows nothing: closed, with no call under way and an empty window.
If there is none, new partitions share one breaker per dependency: a breaker that is
doing its work is never dropped for one that might not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from heartcast.resilience.breaker.breaker import Breaker, Change
from heartcast.resilience.breaker.policy import BreakerPolicy, State


class Registry:
    """All breakers of a process.

    Args:
        policies: Policy by dependency; others get the default.
        max_partitions: Breakers kept, >= 1.
    """

    def __init__(
        self,
        policies: dict[str, BreakerPolicy] | None = None,
        *,
        random: Random,
        max_partitions: int = 1024,
        on_change: Callable[[Change], None] | None = None,
    ) -> None:
        if max_partitions < 1:
            raise ValueError(f"max_partitions: must be >= 1, got {max_partitions}")
        self._policies = policies or {}
        self._random = random
        self._max_partitions = max_partitions
        self._on_change = on_change
        self._breakers: dict[tuple[str, str], Breaker] = {}

    def get(self, dependency: str, partition: str = "", *, now_ns: int) -> Breaker:
        """The breaker of this partition, made if need be."""
        key = dependency, partition
        found = self._breakers.pop(key, None)
        if found is None:
            if partition and len(self._breakers) >= self._max_partitions and not self._make_room(now_ns):
                return self.get(dependency, now_ns=now_ns)
            found = self._make(dependency, now_ns)
        # Most recently used last: room is made from the front.
        self._breakers[key] = found
        return found

    def add(self, breaker: Breaker) -> None:
        """Take in a breaker that somebody else made, under its own name.

        Raises:
            ValueError: there is one of that name.
        """
        key = breaker.name, ""
        if key in self._breakers:
            raise ValueError(f"name: there is a breaker {breaker.name!r} already")
        if self._on_change is not None:
            breaker.on_change(self._on_change)
        self._breakers[key] = breaker

    def _make(self, dependency: str, now_ns: int) -> Breaker:
        # Metrics know the dependency only: partitions are too many for a label.
        breaker = Breaker(dependency, self._policies.get(dependency), random=self._random, now_ns=now_ns)
        if self._on_change is not None:
            breaker.on_change(self._on_change)
        return breaker

    def _make_room(self, now_ns: int) -> bool:
        for key, breaker in self._breakers.items():
            if not key[1]:
                # The one that is shared by those without room stays.
                continue
            breaker.window.turn(now_ns)
            if breaker.state is State.CLOSED and not breaker.in_flight and not breaker.window.calls:
                del self._breakers[key]
                return True
        return False

    def __iter__(self) -> Iterator[tuple[tuple[str, str], Breaker]]:
        return iter(self._breakers.items())

    def __len__(self) -> int:
        return len(self._breakers)
