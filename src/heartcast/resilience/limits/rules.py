"""The rules of counting, as arithmetic on a state that the caller keeps.

Each rule is a function from (state, time, cost) to a wait, and from there to the next
state. ``None`` is the state of a key that was never seen, and a state is worth no more
than ``None`` once it is older than the rule's ``horizon``: forgetting it loses nothing.

Times are whole numbers in the unit the rule was made with: nanoseconds in process,
microseconds when the same rule stands as the model for the script in Redis. Everything
is exact. A clock that steps back stands still for the key until it has caught up.
"""

from __future__ import annotations

from math import gcd
from typing import Any, Protocol

from heartcast.resilience.limits.limit import Limit


class Rule(Protocol):
    """One way of counting. Stateless; shared by all keys."""

    limit: Limit
    horizon: int
    """A state this old is the same as none."""

    def wait(self, state: Any, now: int, cost: int) -> int:
        """0 if ``cost`` fits now, otherwise the time until it does."""
        ...

    def spend(self, state: Any, now: int, cost: int) -> Any:
        """The state after ``cost``; call it only when ``wait`` said 0."""
        ...

    def refund(self, state: Any, now: int, cost: int) -> Any:
        """The state after taking back ``cost`` that was spent before."""
        ...

    def left(self, state: Any, now: int) -> int:
        """How much could be spent now."""
        ...

    def reset(self, state: Any, now: int) -> int:
        """Time until the state is the same as none."""
        ...


class BucketRule:
    """Token bucket: state is (debt, time). One unit weighs ``weight``, ``flow`` flows back per time."""

    __slots__ = ("capacity", "flow", "horizon", "limit", "weight")

    def __init__(self, limit: Limit, unit_ns: int = 1) -> None:
        self.limit = limit
        # One unit weighs the period and `limit` flows back per tick of time, so that
        # nothing is ever rounded: the debt is an integer whatever the rate is.
        flow, weight = limit.limit * unit_ns, limit.period_ns
        common = gcd(flow, weight)
        self.flow, self.weight = flow // common, weight // common
        self.capacity = limit.capacity * self.weight
        self.horizon = -(-self.capacity // self.flow)

    def _debt(self, state: tuple[int, int] | None, now: int) -> int:
        if state is None:
            return 0
        debt, at = state
        return max(0, debt - max(0, now - at) * self.flow)

    def wait(self, state: tuple[int, int] | None, now: int, cost: int) -> int:
        excess = self._debt(state, now) + cost * self.weight - self.capacity
        return -(-excess // self.flow) if excess > 0 else 0

    def spend(self, state: tuple[int, int] | None, now: int, cost: int) -> tuple[int, int]:
        return self._debt(state, now) + cost * self.weight, max(now, state[1]) if state else now

    def refund(self, state: tuple[int, int] | None, now: int, cost: int) -> tuple[int, int] | None:
        if state is None:
            return None
        return max(0, self._debt(state, now) - cost * self.weight), max(now, state[1])

    def left(self, state: tuple[int, int] | None, now: int) -> int:
        return (self.capacity - self._debt(state, now)) // self.weight

    def reset(self, state: tuple[int, int] | None, now: int) -> int:
        return -(-self._debt(state, now) // self.flow)


class LogRule:
    """Exact sliding window: state is the stamps of the last ``limit`` units, oldest first."""

    __slots__ = ("horizon", "limit", "window")

    def __init__(self, limit: Limit, unit_ns: int = 1) -> None:
        self.limit = limit
        # A period that is no multiple of the unit becomes longer, never shorter.
        self.window = -(-limit.period_ns // unit_ns)
        self.horizon = self.window

    def wait(self, state: tuple[int, ...] | None, now: int, cost: int) -> int:
        # The unit that must have left the window for `cost` more to fit.
        nth = self.limit.limit - cost + 1
        if state is None or len(state) < nth:
            return 0
        return max(0, state[-nth] + self.window - max(now, state[-1]))

    def spend(self, state: tuple[int, ...] | None, now: int, cost: int) -> tuple[int, ...]:
        if state is None:
            return (now,) * cost
        now = max(now, state[-1])
        return (*state, *(now,) * cost)[-self.limit.limit :]

    def refund(self, state: tuple[int, ...] | None, now: int, cost: int) -> tuple[int, ...] | None:
        return (state or ())[:-cost] or None

    def left(self, state: tuple[int, ...] | None, now: int) -> int:
        if not state:
            return self.limit.limit
        now = max(now, state[-1])
        return self.limit.limit - sum(stamp + self.window > now for stamp in state)

    def reset(self, state: tuple[int, ...] | None, now: int) -> int:
        if not state:
            return 0
        return max(0, state[-1] + self.window - max(now, state[-1]))


class WindowRule:
    """Sliding counter: state is (window number, count before, count now).

    The previous window's count is taken to have been spread evenly. Constant memory,
    and the price is known: a window that straddles two can hold up to twice the limit
    in the worst case, so use a log where the cap is a promise.
    """

    __slots__ = ("horizon", "limit", "window")

    def __init__(self, limit: Limit, unit_ns: int = 1) -> None:
        self.limit = limit
        self.window = -(-limit.period_ns // unit_ns)
        self.horizon = 2 * self.window

    def _at(self, state: tuple[int, int, int] | None, now: int) -> tuple[int, int, int, int]:
        """(window number, count before, count now, time into the window)."""
        index, into = divmod(now, self.window)
        if state is None:
            return index, 0, 0, into
        then, before, count = state
        if then > index:
            # The clock stepped back: it stands still at the start of the later window.
            return then, before, count, 0
        if then == index:
            return index, before, count, into
        return index, count if then + 1 == index else 0, 0, into

    def wait(self, state: tuple[int, int, int] | None, now: int, cost: int) -> int:
        _, before, count, into = self._at(state, now)
        window, room = self.window, self.limit.limit - cost
        if before * (window - into) + count * window <= room * window:
            return 0
        if count <= room:
            return max(0, window - (room - count) * window // before - into)
        return window - into + max(0, window - room * window // count)

    def spend(self, state: tuple[int, int, int] | None, now: int, cost: int) -> tuple[int, int, int]:
        index, before, count, _ = self._at(state, now)
        return index, before, count + cost

    def refund(self, state: tuple[int, int, int] | None, now: int, cost: int) -> tuple[int, int, int]:
        index, before, count, _ = self._at(state, now)
        return index, before, max(0, count - cost)

    def left(self, state: tuple[int, int, int] | None, now: int) -> int:
        _, before, count, into = self._at(state, now)
        return max(0, self.limit.limit - count - -(-before * (self.window - into) // self.window))

    def reset(self, state: tuple[int, int, int] | None, now: int) -> int:
        _, before, count, into = self._at(state, now)
        if count:
            return 2 * self.window - into
        return self.window - into if before else 0


def rule_of(limit: Limit, unit_ns: int = 1) -> Rule:
    """The rule that counts this limit, in ticks of ``unit_ns`` nanoseconds."""
    if limit.kind == "log":
        return LogRule(limit, unit_ns)
    if limit.kind == "window":
        return WindowRule(limit, unit_ns)
    # A leaky bucket that answers yes or no is a token bucket; as a queue it is LeakyBucket.
    return BucketRule(limit, unit_ns)
