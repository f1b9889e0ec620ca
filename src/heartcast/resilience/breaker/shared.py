"""Breakers of many processes, seen together, off the hot path.

Deciding stays local: a breaker that asks Redis before each call is one more thing that
fails. What is shared are counts, ten seconds at a time, so that everybody can see the
merged window of all nodes, and what an operator said, which all nodes obey. The owner
calls ``sync`` about once a second; when Redis is away nothing changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heartcast.core.clock import Clock, SystemClock
from heartcast.resilience.breaker.policy import State
from heartcast.resilience.breaker.registry import Registry

if TYPE_CHECKING:
    from heartcast.backends.redis import RedisLink

_SLOT_MS = 10_000
_SLOTS = 6
_OVERRIDES = (State.FORCED_OPEN, State.DISABLED, State.METRICS_ONLY)


class BreakerBoard:
    """One process's view of all processes' breakers.

    Args:
        name: Prefix of the keys in Redis.
    """

    def __init__(
        self, link: RedisLink, registry: Registry, *, name: str = "hc:breakers", clock: Clock | None = None
    ) -> None:
        self._link = link
        self._registry = registry
        self._overrides_key = f"{{{name}}}:overrides"
        self._counts_key = f"{{{name}}}:counts"
        self._clock = clock or SystemClock()
        self._sent: dict[int, tuple[int, int, int]] = {}
        self._obeyed: dict[str, State] = {}
        self.merged: dict[str, tuple[int, int, int]] = {}
        """(calls, failures, slow calls) of the last minute over all nodes, by dependency."""

    async def override(self, dependency: str, state: State | None) -> None:
        """Tell all nodes: forced open, disabled or metrics only; None ends it.

        Raises:
            ValueError: the state is not an operator's to give.
            StoreUnavailable: it was not heard.
        """
        if state is None:
            await self._link.run("HDEL", self._overrides_key, dependency)
        elif state in _OVERRIDES:
            await self._link.run("HSET", self._overrides_key, dependency, state.name)
        else:
            raise ValueError(
                f"state: must be forced_open, disabled or metrics_only, got {state.name.lower()}"
            )

    async def sync(self) -> None:
        """Hand in what was counted since the last time, obey overrides, read the merged window.

        Raises:
            StoreUnavailable: Redis is away; the counts are handed in next time.
        """
        slot = self._clock.wall_ms() // _SLOT_MS
        key = f"{self._counts_key}:{slot}"
        fresh, totals = self._fresh()
        commands: list[tuple[object, ...]] = [
            ("HINCRBY", key, f"{kind}:{dependency}", count)
            for dependency, counts in fresh.items()
            for kind, count in zip("cfs", counts, strict=True)
            if count
        ]
        writes = len(commands) + 1
        commands.append(("PEXPIRE", key, _SLOT_MS * (_SLOTS + 2)))
        commands.append(("HGETALL", self._overrides_key))
        commands += [("HGETALL", f"{self._counts_key}:{slot - back}") for back in range(_SLOTS)]
        answers = await self._link.run_all(commands)
        self._sent = totals
        self._obey({dependency: State[name] for dependency, name in _pairs(answers[writes])})
        self._merge(answers[writes + 1 :])

    def _fresh(self) -> tuple[dict[str, tuple[int, int, int]], dict[int, tuple[int, int, int]]]:
        """Counts since the last sync by dependency, and the totals to remember by breaker."""
        fresh: dict[str, tuple[int, int, int]] = {}
        totals = {}
        for (dependency, _), breaker in self._registry:
            now = breaker.successes + breaker.failures, breaker.failures, breaker.slow
            then = self._sent.get(id(breaker), (0, 0, 0))
            totals[id(breaker)] = now
            sums = fresh.get(dependency, (0, 0, 0))
            fresh[dependency] = (
                sums[0] + now[0] - then[0],
                sums[1] + now[1] - then[1],
                sums[2] + now[2] - then[2],
            )
        return fresh, totals

    def _obey(self, wanted: dict[str, State]) -> None:
        now_ns = self._clock.monotonic_ns()
        for (dependency, _), breaker in self._registry:
            state = wanted.get(dependency)
            if state is not None and breaker.state is not state:
                breaker.force(state, now_ns)
            elif state is None and dependency in self._obeyed and breaker.state is self._obeyed[dependency]:
                # Only what the board forced is let go: a local override is somebody else's.
                breaker.force(State.CLOSED, now_ns)
        self._obeyed = wanted

    def _merge(self, slots: list[object]) -> None:
        sums: dict[str, list[int]] = {dependency: [0, 0, 0] for (dependency, _), _ in self._registry}
        for slot in slots:
            for field, count in _pairs(slot):
                kind, _, dependency = field.partition(":")
                sums.setdefault(dependency, [0, 0, 0])["cfs".index(kind)] += int(count)
        self.merged = {dependency: (row[0], row[1], row[2]) for dependency, row in sums.items()}


def _pairs(answer: object) -> list[tuple[str, str]]:
    """A hash as the client gives it: a dictionary, or a flat list from older protocols."""
    if isinstance(answer, dict):
        return [(field.decode(), value.decode()) for field, value in answer.items()]
    assert isinstance(answer, list)
    texts = [item.decode() for item in answer]
    return list(zip(texts[::2], texts[1::2], strict=True))
