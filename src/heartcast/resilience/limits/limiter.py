"""Several limits on one key, all or nothing.

The push cap is the example: at most 3 in any 24 hours *and* one every ten seconds. A
request is admitted when every rule admits it, and only then is anything counted. A rule
that refused never costs the others, and the answer names the rule that refused and
when to come back.
"""

from __future__ import annotations

from typing import Any

from heartcast.resilience.limits.generations import Generations
from heartcast.resilience.limits.limit import Decision, Limit, check_cost
from heartcast.resilience.limits.rules import Rule, rule_of


class KeyedLimiter:
    """Limits by key, evaluated together and committed together. One event loop at a time.

    Args:
        limits: The limits, as values or as text (``"3/day log"``); at least one.
        max_keys: Keys that may live at once, >= 1. Over it, unknown keys share one state.

    Raises:
        ValueError: no limits, or one is malformed.
    """

    __slots__ = (
        "_latest_ns",
        "_overflow",
        "_rules",
        "_titles",
        "capacity",
        "generations",
        "overflowed",
        "refused",
    )

    def __init__(self, *limits: Limit | str, max_keys: int = 1_000_000) -> None:
        if not limits:
            raise ValueError("limits: give at least one")
        self._rules: list[Rule] = [
            rule_of(Limit.parse(limit) if isinstance(limit, str) else limit) for limit in limits
        ]
        self._titles = [rule.limit.title for rule in self._rules]
        self.capacity = min(rule.limit.capacity for rule in self._rules)
        """The largest cost that can ever be admitted by all."""
        self.generations = Generations(max(rule.horizon for rule in self._rules), max_keys)
        self._overflow: list[Any] = [None] * len(self._rules)
        self._latest_ns = 0
        self.overflowed = 0
        """Calls that were decided by the shared state because there was no room."""
        self.refused = 0
        """Calls that were told to wait."""

    def admit(self, key: str, now_ns: int, cost: int = 1) -> int:
        """Count ``cost`` against every limit if all of them admit it.

        Returns:
            0 when admitted, otherwise the nanoseconds until it would be. A refusal
            counts nothing.

        Raises:
            ValueError: ``cost`` could never be paid, or would add units.
        """
        states, now_ns = self._states(key, now_ns)
        wait_ns, _ = self._wait(states, now_ns, check_cost(cost, self.capacity))
        if wait_ns:
            self.refused += 1
            return wait_ns
        self._commit(key, states, now_ns, cost)
        return 0

    def peek(self, key: str, now_ns: int, cost: int = 1) -> Decision:
        """What ``decide`` would answer, without counting anything."""
        check_cost(cost, self.capacity)
        states, now_ns = self._states(key, now_ns)
        wait_ns, slowest = self._wait(states, now_ns, cost)
        return self._decision(states, now_ns, wait_ns, slowest)

    def decide(self, key: str, now_ns: int, cost: int = 1) -> Decision:
        """``admit``, with the rule that decided and everything a header needs."""
        check_cost(cost, self.capacity)
        states, now_ns = self._states(key, now_ns)
        wait_ns, slowest = self._wait(states, now_ns, cost)
        if wait_ns:
            self.refused += 1
        else:
            states = self._commit(key, states, now_ns, cost)
        return self._decision(states, now_ns, wait_ns, slowest)

    def refund(self, key: str, now_ns: int, cost: int = 1) -> None:
        """Take back ``cost`` that was counted and not used."""
        check_cost(cost, self.capacity)
        states, now_ns = self._states(key, now_ns)
        slot = self.generations.slot(key, now_ns)
        if key in slot.young or key in slot.old:
            slot.young[key] = [
                rule.refund(state, now_ns, cost) for rule, state in zip(self._rules, states, strict=True)
            ]

    def _states(self, key: str, now_ns: int) -> tuple[list[Any], int]:
        # The maps turn by the latest time seen, so the rules must be asked at it too.
        self._latest_ns = now_ns = max(now_ns, self._latest_ns)
        slot = self.generations.slot(key, now_ns)
        states = slot.young.get(key) or slot.old.get(key)
        if states is not None:
            return states, now_ns
        if self.generations.has_room(slot):
            return [None] * len(self._rules), now_ns
        self.overflowed += 1
        return self._overflow, now_ns

    def _wait(self, states: list[Any], now_ns: int, cost: int) -> tuple[int, int]:
        """The longest wait of all rules, and the index of that rule."""
        longest, slowest = 0, -1
        for index, rule in enumerate(self._rules):
            wait_ns = rule.wait(states[index], now_ns, cost)
            if wait_ns > longest:
                longest, slowest = wait_ns, index
        return longest, slowest

    def _commit(self, key: str, states: list[Any], now_ns: int, cost: int) -> list[Any]:
        spent = [rule.spend(state, now_ns, cost) for rule, state in zip(self._rules, states, strict=True)]
        if states is self._overflow:
            self._overflow = spent
        else:
            self.generations.slot(key, now_ns).young[key] = spent
        return spent

    def _decision(self, states: list[Any], now_ns: int, wait_ns: int, slowest: int) -> Decision:
        left = [rule.left(state, now_ns) for rule, state in zip(self._rules, states, strict=True)]
        index = slowest if wait_ns else left.index(min(left))
        rule = self._rules[index]
        return Decision(
            not wait_ns,
            self._titles[index],
            rule.limit.limit,
            max(0, left[index]),
            wait_ns / 1e9,
            rule.reset(states[index], now_ns) / 1e9,
        )


def dual_limiter(cap: Limit | str, smooth: Limit | str, *, max_keys: int = 1_000_000) -> KeyedLimiter:
    """A sliding window as the hard cap and a token bucket that smooths, both or nothing.

    Args:
        cap: An exact sliding log or a sliding counter, such as ``"3/day log"``.
        smooth: A token bucket, such as ``"1/10s burst 1"``.

    Raises:
        ValueError: the cap is not a window, or the other is not a bucket.
    """
    cap = Limit.parse(cap) if isinstance(cap, str) else cap
    smooth = Limit.parse(smooth) if isinstance(smooth, str) else smooth
    if cap.kind not in ("log", "window"):
        raise ValueError(f"cap: a bucket admits burst + refill and is no cap; write '{cap.limit}/… log'")
    if smooth.kind != "bucket":
        raise ValueError(f"smooth: must be a token bucket, got {smooth}")
    return KeyedLimiter(cap, smooth, max_keys=max_keys)
