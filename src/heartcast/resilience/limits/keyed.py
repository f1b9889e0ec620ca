"""A token bucket per key: one dictionary look-up from a single bucket.

A key that nobody used for the time a bucket takes to fill is forgotten, which is the
same as remembering it: an absent key is a full bucket. The memory is bounded, and no
live bucket is ever evicted to make room. Over ``max_keys`` the keys that are not known
yet share one bucket: a flood of invented keys limits itself and nobody else.
"""

from __future__ import annotations

from heartcast.resilience.limits.bucket import TokenBucket
from heartcast.resilience.limits.generations import Generations, Slot
from heartcast.resilience.limits.limit import Decision, Limit, check_cost


class KeyedBucket(TokenBucket):
    """Buckets by key. One event loop at a time.

    Args:
        max_keys: Keys that may live at once, >= 1.
    """

    # The parent's own numbers serve the keys that found no room.
    __slots__ = ("_mask", "_slots", "generations", "overflowed", "refused")

    def __init__(self, limit: Limit, *, max_keys: int = 1_000_000) -> None:
        super().__init__(limit)
        self.generations = Generations(-(-self._capacity // self._flow), max_keys)
        self._slots = self.generations.slots
        self._mask = self.generations.mask
        self.overflowed = 0
        """Calls that were decided by the shared bucket because there was no room."""
        self.refused = 0
        """Calls that were told to wait."""

    def admit_key(self, key: str, now_ns: int, cost: int = 1) -> int:
        """Take ``cost`` units from the key's bucket if they are there.

        Returns:
            0 when admitted, otherwise the nanoseconds until it would be.

        Raises:
            ValueError: ``cost`` could never be paid, or would add units.
        """
        weight = self._weight if cost == 1 else self._weight * check_cost(cost, self.limit.capacity)
        slot = self._slots[hash(key) & self._mask]
        if now_ns >= slot.due_ns:
            slot.turn(now_ns, self.generations.horizon_ns)
        now = now_ns * self._flow
        if now < self._latest:
            now = self._latest
        else:
            self._latest = now
        young = slot.young
        if key in young:
            full_at = young[key]
            if full_at < now:
                full_at = now
        else:
            full_at = self._recall(slot, key, now)
            if full_at < 0:
                return self.admit(now_ns, cost)
        full_at += weight
        excess: int = full_at - now - self._capacity
        if excess > 0:
            self.refused += 1
            return -(-excess // self._flow)
        young[key] = full_at
        return 0

    def _recall(self, slot: Slot, key: str, now: int) -> int:
        """When the bucket of a key that is not in the young generation is full; -1: no room for it."""
        full_at: int | None = slot.old.get(key)
        if full_at is not None:
            return max(full_at, now)
        if self.generations.has_room(slot):
            return now
        self.overflowed += 1
        return -1

    def decide_key(self, key: str, now_ns: int, cost: int = 1) -> Decision:
        """``admit_key``, with everything a header needs."""
        wait_ns = self.admit_key(key, now_ns, cost)
        slot = self._slots[hash(key) & self._mask]
        full_at = slot.young.get(key) or slot.old.get(key) or self._latest
        debt = full_at - self._latest
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

    def refund_key(self, key: str, now_ns: int, cost: int = 1) -> None:
        """Give back what was taken and not used; a key that is full again stays full."""
        weight = self._weight * check_cost(cost, self.limit.capacity)
        slot = self.generations.slot(key, now_ns)
        full_at = slot.young.get(key) or slot.old.get(key)
        if full_at is not None:
            slot.young[key] = max(full_at - weight, 0)
