"""The same limits for many processes, kept in Redis.

One script, one round trip, the server's time: all limits of a key are read, checked and
counted in one step. Around it stands what a shared limiter needs to be no danger itself:
a time limit of 50 ms, a breaker of its own, and a policy for when Redis is slow or gone.
A key that was told to wait is refused here until then, so an abuser costs no round trip.

A key that is not there is a key that was never used, so losing Redis' memory opens the
limits once and closes them for nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from random import SystemRandom
from typing import TYPE_CHECKING, Literal

from heartcast.core.clock import Clock, SystemClock
from heartcast.core.errors import StoreUnavailable
from heartcast.resilience.breaker import Breaker, BreakerPolicy, State
from heartcast.resilience.limits.limit import Decision, Limit, check_cost
from heartcast.resilience.limits.limiter import KeyedLimiter
from heartcast.resilience.limits.rules import BucketRule, rule_of

if TYPE_CHECKING:
    from heartcast.backends.redis import RedisLink

OnError = Literal["local", "allow", "deny"]

_EXACT = 1 << 53
# Three failures in a row open it: after them nobody waits for Redis but a probe.
REDIS_BREAKER = BreakerPolicy(
    failure_rate=1.0, slow_rate=1.0, window="count", window_size=3, min_calls=3,
    open_s=1.0, max_open_s=30.0, probes=1, probes_at_once=1, probes_needed=1,
)  # fmt: skip


class SharedLimiter:
    """Limits by key, shared by all processes that use the same Redis and name.

    Args:
        link: The connection; its timeout bounds every decision.
        name: Prefix of the keys in Redis.
        limits: The limits, as values or as text.
        on_error: When Redis does not answer: ``local`` counts here with a fair share of
            the limit, ``allow`` admits, ``deny`` refuses (for what must never exceed).
        instances: Processes that share the limits, >= 1, for ``local``.
        max_denied: Keys remembered as refused, >= 0.

    Raises:
        ValueError: a limit is malformed, or cannot be counted exactly in Redis.
    """

    def __init__(
        self,
        link: RedisLink,
        name: str,
        *limits: Limit | str,
        on_error: OnError = "local",
        instances: int = 1,
        max_denied: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        from heartcast.backends.redis import Script

        if instances < 1 or max_denied < 0 or on_error not in ("local", "allow", "deny"):
            raise ValueError(f"on_error, instances: must be a policy and >= 1, got {on_error!r}, {instances}")
        parsed = [Limit.parse(limit) if isinstance(limit, str) else limit for limit in limits]
        self._local = KeyedLimiter(*[share(limit, instances) for limit in parsed])
        self._script = Script(script_text(parsed))
        self._limits = parsed
        self._titles = [limit.title for limit in parsed]
        self._link = link
        self._name = name
        self._on_error = on_error
        self._clock = clock or SystemClock()
        self._denied: dict[str, tuple[int, int]] = {}
        self._max_denied = max_denied
        self.capacity = min(limit.capacity for limit in parsed)
        self.breaker = Breaker(
            f"redis:{name}", REDIS_BREAKER, random=SystemRandom(), now_ns=self._clock.monotonic_ns()
        )
        self.round_trips = 0
        self.degraded = 0
        """Decisions made by ``on_error``."""

    def keys(self, key: str) -> list[str]:
        """The keys in Redis. The braces keep all of them in one hash slot."""
        return [key_name(self._name, key, index) for index in range(len(self._limits))]

    async def admit(self, key: str, cost: int = 1) -> int:
        """Count ``cost`` if all limits admit it.

        Returns:
            0 when admitted, otherwise the nanoseconds until it would be.

        Raises:
            ValueError: ``cost`` could never be paid, or would add units.
            WrongAnswer: something else lives at our keys; nothing was changed.
        """
        check_cost(cost, self.capacity)
        denied_ns = self._denied_ns(key, cost)
        if denied_ns:
            return denied_ns
        answer = await self._ask(key, cost, "admit")
        if answer is None:
            return self._fallback_ns(key, cost)
        wait_ns = answer[0] * 1000
        if wait_ns:
            self._deny(key, cost, wait_ns)
        return wait_ns

    async def decide(self, key: str, cost: int = 1) -> Decision:
        """``admit``, with everything a header needs."""
        return await self._decide(key, cost, "decide")

    async def peek(self, key: str, cost: int = 1) -> Decision:
        """What ``decide`` would answer, without counting anything."""
        return await self._decide(key, cost, "peek")

    async def refund(self, key: str, cost: int = 1) -> None:
        """Take back what was counted and not used; lost when Redis is away."""
        check_cost(cost, self.capacity)
        self._denied.pop(key, None)
        if await self._ask(key, cost, "refund") is None:
            self._local.refund(key, self._clock.monotonic_ns(), min(cost, self._local.capacity))

    async def _decide(self, key: str, cost: int, mode: str) -> Decision:
        check_cost(cost, self.capacity)
        answer = await self._ask(key, cost, mode)
        if answer is None:
            wait_ns = self._fallback_ns(key, cost)
            return Decision(
                not wait_ns, f"redis:{self._on_error}", self._limits[0].limit, 0, wait_ns / 1e9, 0.0
            )
        wait_us, index, left, reset_us = answer
        if wait_us and mode == "decide":
            self._deny(key, cost, wait_us * 1000)
        limit = self._limits[index - 1]
        return Decision(
            not wait_us, self._titles[index - 1], limit.limit, left, wait_us / 1e6, reset_us / 1e6
        )

    async def _ask(self, key: str, cost: int, mode: str) -> list[int] | None:
        """The script's answer, None when Redis is not to be had."""
        now_ns = self._clock.monotonic_ns
        permit = self.breaker.enter(now_ns())
        if permit < 0:
            return None
        self.round_trips += 1
        # The usual call goes without arguments: packing them is what the client spends most on.
        arguments = () if cost == 1 and mode == "admit" else (cost, mode)
        try:
            answer: list[int] = await self._link.eval(self._script, self.keys(key), arguments)
        except StoreUnavailable as error:
            if not error.retryable:
                # It answers, so it is not Redis that is broken but what somebody wrote there.
                self.breaker.ok(permit, now_ns())
                raise
            self.breaker.fail(permit, now_ns())
            return None
        except BaseException:
            self.breaker.ignore(permit, now_ns())
            raise
        self.breaker.ok(permit, now_ns())
        return answer

    def _fallback_ns(self, key: str, cost: int) -> int:
        self.degraded += 1
        if self._on_error == "allow":
            return 0
        if self._on_error == "deny":
            return 1_000_000_000
        return self._local.admit(key, self._clock.monotonic_ns(), min(cost, self._local.capacity))

    def _denied_ns(self, key: str, cost: int) -> int:
        denied = self._denied.get(key)
        if denied is None or cost < denied[0]:
            return 0
        left_ns = denied[1] - self._clock.monotonic_ns()
        if left_ns > 0:
            return left_ns
        del self._denied[key]
        return 0

    def _deny(self, key: str, cost: int, wait_ns: int) -> None:
        if len(self._denied) >= self._max_denied:
            # Forgetting a refusal costs one round trip; the oldest is the most likely to be over.
            self._denied.pop(next(iter(self._denied), ""), None)
        if self._max_denied:
            self._denied[key] = cost, self._clock.monotonic_ns() + wait_ns

    @property
    def is_degraded(self) -> bool:
        """Whether Redis is being left alone at the moment."""
        return self.breaker.state is not State.CLOSED


def key_name(name: str, key: str, index: int) -> str:
    """Where the state of a key's n-th limit is kept in Redis."""
    # A brace inside the key would end the tag early and part a key's limits.
    if "{" in key or "}" in key or "%" in key:
        key = key.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
    return f"{{{name}:{key}}}:{index}"


def share(limit: Limit, instances: int) -> Limit:
    """What one of so many processes may admit alone; at least one unit."""
    return Limit(
        limit=max(1, limit.limit // instances),
        period_ns=limit.period_ns,
        burst=0 if limit.kind in ("log", "window") else max(1, limit.capacity // instances),
        kind=limit.kind,
        name=limit.title,
    )


def script_text(limits: Sequence[Limit]) -> str:
    """The script for these limits: their numbers, then the text that is the same for all.

    Raises:
        ValueError: a limit cannot be counted exactly in Redis.
    """
    rules = ", ".join("{{'{}', {}, {}, {}}}".format(*_numbers(limit)) for limit in limits)
    body = files(__package__).joinpath("redis.lua").read_text("utf-8")
    return f"local RULES = {{ {rules} }}\n{body}"


def _numbers(limit: Limit) -> tuple[str, int, int, int]:
    rule = rule_of(limit, unit_ns=1000)
    if isinstance(rule, BucketRule):
        kind, first, second, largest = "bucket", rule.flow, rule.weight, 2 * rule.capacity
    else:
        window = -(-limit.period_ns // 1000)
        kind, first, second, largest = limit.kind, limit.limit, window, 2 * limit.limit * window
    # Lua counts in doubles. What is not exact there is refused here, before it is wrong.
    if largest >= _EXACT:
        raise ValueError(f"limit: {limit} is too large to be counted exactly in Redis; use a shorter period")
    return kind, first, second, limit.capacity


class Leases:
    """Takes many units of a hot key in one trip and hands them out here.

    The price is exactness at the edge: each process may hold a lease, so up to
    ``instances`` times the largest lease is counted before it is used. It is never more
    than the limit that is admitted, only, for a moment, less.

    Args:
        limiter: One limit of many per second; leases are a tenth of a process's share at most.
        instances: Processes that share it, >= 1.
        ahead_s: A lease is what is used in so many seconds, > 0.
        keep_s: A lease is void after so many seconds, > ``ahead_s``.
    """

    def __init__(
        self, limiter: SharedLimiter, *, instances: int = 1, ahead_s: float = 0.05, keep_s: float = 0.25,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        if instances < 1 or not 0 < ahead_s < keep_s:
            raise ValueError(
                f"instances: must be >= 1, ahead_s > 0 and < keep_s; got {instances}, {ahead_s}, {keep_s}"
            )
        self._limiter = limiter
        self._most = max(1, limiter.capacity // (10 * instances))
        self._ahead_ns, self._keep_ns = round(ahead_s * 1e9), round(keep_s * 1e9)
        self._clock = clock or SystemClock()
        self._held: dict[str, list[int]] = {}

    def take(self, key: str) -> bool:
        """Take one unit from what is held here: no await, no round trip."""
        lease = self._held.get(key)
        if lease is None or lease[0] <= 0 or self._clock.monotonic_ns() >= lease[1]:
            return False
        lease[0] -= 1
        return True

    async def admit(self, key: str) -> int:
        """0 when admitted, otherwise the nanoseconds to wait. Raises as ``SharedLimiter.admit``."""
        if self.take(key):
            return 0
        units = self._size(key)
        wait_ns = await self._limiter.admit(key, units)
        if wait_ns and units > 1:
            # The last units of a limit are handed out one by one.
            units, wait_ns = 1, await self._limiter.admit(key, 1)
        if wait_ns:
            return wait_ns
        now_ns = self._clock.monotonic_ns()
        held = self._held.get(key)
        left = held[0] if held is not None and now_ns < held[1] else 0
        # The key is put last, so that the first is the one that was refilled longest ago.
        self._held.pop(key, None)
        self._held[key] = [left + units - 1, now_ns + self._keep_ns, now_ns, units]
        self._forget(now_ns)
        return 0

    def _size(self, key: str) -> int:
        """Units for the next lease: as many as the last pace uses up in ``ahead_s``."""
        lease = self._held.get(key)
        if lease is None:
            return 1
        _, _, taken_ns, units = lease
        used_ns = max(1, self._clock.monotonic_ns() - taken_ns)
        return max(1, min(self._most, units * self._ahead_ns // used_ns, units * 8))

    def _forget(self, now_ns: int) -> None:
        for key in list(self._held)[:2]:
            if now_ns >= self._held[key][1] + self._keep_ns:
                del self._held[key]

    async def close(self) -> None:
        """Give back what is held."""
        now_ns = self._clock.monotonic_ns()
        for key, (units, until_ns, _, _) in self._held.items():
            if units and now_ns < until_ns:
                await self._limiter.refund(key, units)
        self._held.clear()
