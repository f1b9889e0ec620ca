"""One token bucket, and one leaky bucket, for when there is no key: the fast calls.

The same arithmetic as ``rules.BucketRule``, arranged for speed: instead of a debt and
its time we keep the moment at which the bucket will be full again, in units of which
``flow`` pass per nanosecond. One number to compare, one to write.

Nothing here reads a clock. Callers pass ``now_ns``, which must be monotonic; a reading
that is older than the latest counts as the latest.
"""

from __future__ import annotations

from math import gcd

from heartcast.resilience.limits.limit import Decision, Limit, check_cost


class TokenBucket:
    """A bucket that refills by ``limit`` per period and holds ``limit.capacity``.

    One event loop or thread at a time.
    """

    __slots__ = ("_capacity", "_flow", "_full_at", "_latest", "_title", "_weight", "limit")

    def __init__(self, limit: Limit) -> None:
        if limit.kind not in ("bucket", "leak"):
            raise ValueError(f"kind: a bucket cannot count a {limit.kind}")
        self.limit = limit
        # Smaller numbers are faster ones: 1000/s is one unit of 10^6 per nanosecond.
        common = gcd(limit.limit, limit.period_ns)
        self._flow = limit.limit // common
        self._weight = limit.period_ns // common
        self._capacity = limit.capacity * self._weight
        self._title = limit.title
        self._full_at = 0
        self._latest = 0

    def admit(self, now_ns: int, cost: int = 1) -> int:
        """Take ``cost`` units if they are there.

        Args:
            now_ns: Monotonic time in nanoseconds.
            cost: Units to take, 1 to ``limit.capacity``.

        Returns:
            0 when admitted, otherwise the nanoseconds until it would be if nobody else
            takes any. A refusal takes nothing.

        Raises:
            ValueError: ``cost`` could never be paid, or would add units.
        """
        weight = self._weight if cost == 1 else self._weight * check_cost(cost, self.limit.capacity)
        now = now_ns * self._flow
        if now < self._latest:
            now = self._latest
        else:
            self._latest = now
        full_at = self._full_at
        if full_at < now:
            full_at = now
        full_at += weight
        excess = full_at - now - self._capacity
        if excess > 0:
            return -(-excess // self._flow)
        self._full_at = full_at
        return 0

    def left(self, now_ns: int) -> int:
        """Units that could be taken now; 0 while reservations wait."""
        now = max(now_ns * self._flow, self._latest)
        return max(0, self._capacity - max(0, self._full_at - now)) // self._weight

    def wait_ns(self, now_ns: int, cost: int = 1) -> int:
        """What ``admit`` would answer, without taking anything."""
        weight = self._weight * check_cost(cost, self.limit.capacity)
        now = max(now_ns * self._flow, self._latest)
        excess = max(self._full_at, now) + weight - now - self._capacity
        return -(-excess // self._flow) if excess > 0 else 0

    def reserve(self, now_ns: int, cost: int = 1, *, max_wait_ns: int) -> int:
        """Take ``cost`` units now or later, first come first served.

        Returns:
            The nanoseconds to wait before using them, or -1 when that would be more than
            ``max_wait_ns``; then nothing was taken.

        Raises:
            ValueError: ``cost`` could never be paid, or would add units.
        """
        wait_ns = self.wait_ns(now_ns, cost)
        if wait_ns > max_wait_ns:
            return -1
        self._latest = max(now_ns * self._flow, self._latest)
        # The debt may exceed the capacity: that is the queue, in arrival order.
        self._full_at = max(self._full_at, self._latest) + self._weight * cost
        return wait_ns

    def refund(self, cost: int = 1) -> None:
        """Give back what was taken and not used."""
        self._full_at -= self._weight * check_cost(cost, self.limit.capacity)

    def decide(self, now_ns: int, cost: int = 1) -> Decision:
        """``admit``, with everything a header needs."""
        wait_ns = self.admit(now_ns, cost)
        debt = self._full_at - self._latest
        if debt < 0:
            debt = 0
        left = self._capacity - debt
        return Decision(
            not wait_ns,
            self._title,
            self.limit.limit,
            left // self._weight if left > 0 else 0,
            wait_ns / 1e9,
            debt / self._flow / 1e9,
        )


class LeakyBucket:
    """Work leaves one by one at a steady pace; ``limit.capacity`` may queue for it."""

    __slots__ = ("_bucket", "_max_wait_ns", "limit")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        single = Limit(limit=limit.limit, period_ns=limit.period_ns, burst=1)
        self._bucket = TokenBucket(single)
        self._max_wait_ns = limit.capacity * limit.period_ns // limit.limit

    def delay_ns(self, now_ns: int) -> int:
        """The nanoseconds until this one may leave, or -1 when the queue is full."""
        return self._bucket.reserve(now_ns, max_wait_ns=self._max_wait_ns)
