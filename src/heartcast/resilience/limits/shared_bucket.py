"""One rate per key that many processes share, decided on the spot wherever that is possible.

``KeyedBucket``'s sibling for hot paths: no task and no future per decision. What is held
here (a lease of units that Redis has counted already) or is known to be refused is
answered by ``take`` without asking anybody. The rest is one question that goes out with
the tick's others; callers of the same key wait behind it in order, so that a burst costs
one round trip. Leases grow with the pace of their key, never beyond a tenth of a
process's share; what is not used comes back to Redis.

When Redis is slow or gone, the breaker opens at the third failure in a row and the policy
decides at once. From then on only probes are sent, and nobody waits for a probe.

Memory: one entry per key that was asked for within ``keep_s``, and ``max_denied`` refusals.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from heartcast.backends.redis import Script
from heartcast.backends.redis_pipe import pack
from heartcast.core.errors import StoreUnavailable
from heartcast.resilience.breaker import Breaker, State
from heartcast.resilience.limits.keyed import KeyedBucket
from heartcast.resilience.limits.limit import Limit
from heartcast.resilience.limits.shared import OnError, key_name, script_text, share

LATER = -1
"""Redis has to be asked: the answer comes by callback."""
UNKNOWN = -2
"""Redis is gone and the policy is to refuse what cannot be counted."""

Judged = Callable[[int], None]
"""Takes 0 when admitted, the nanoseconds to wait, or ``UNKNOWN``."""
Send = Callable[[bytes, Callable[[Any], None]], None]
"""Takes a packed command and who is told the reply or a ``StoreUnavailable``, later on the loop."""

# What somebody else wrote at our key: Redis is well, only this key cannot be counted.
_THEIRS = ("WRONGTYPE", "HCSTATE")


def script_of(limit: Limit) -> Script:
    """The script that counts this limit; the connection has to load it.

    Raises:
        ValueError: it cannot be counted exactly in Redis.
    """
    return Script(script_text([limit]))


class _Lease:
    """What is held of a key, and who waits for more."""

    __slots__ = ("is_asking", "left", "taken_ns", "units", "until_ns", "waiting")

    def __init__(self) -> None:
        self.left = 0
        self.until_ns = 0
        self.taken_ns = 0
        self.units = 0
        """How many the last question brought."""
        self.is_asking = False
        self.waiting: deque[tuple[int, Judged]] = deque()


class SharedBucket:
    """Buckets by key, counted in Redis. One event loop.

    Args:
        send: A connection that has loaded ``script_of(limit)``, loads it again where the server lost it, and
            bounds every answer.
        breaker: Redis' own; all buckets on one connection share it.
        name: Prefix of the keys in Redis.
        limit: A bucket.
        now_ns: Monotonic time, for answers that come later.
        on_error: As in ``SharedLimiter``.
        instances: Processes that share the limit, >= 1.
        ahead_s: A lease is what the last pace uses up in so many seconds, > 0.
        keep_s: An unused lease goes back after so many seconds, > ``ahead_s``.
        max_denied: Keys remembered as refused, >= 0.

    Raises:
        ValueError: the limit is no bucket, or cannot be counted exactly in Redis.
    """

    def __init__(
        self, send: Send, breaker: Breaker, name: str, limit: Limit, *, now_ns: Callable[[], int],
        on_error: OnError = "local", instances: int = 1, ahead_s: float = 0.05, keep_s: float = 0.25,
        max_denied: int = 10_000,
    ) -> None:  # fmt: skip
        if instances < 1 or not 0 < ahead_s < keep_s or max_denied < 0:
            raise ValueError("instances: must be >= 1, ahead_s > 0 and < keep_s, max_denied >= 0")
        self.limit = limit
        self.breaker = breaker
        self._send = send
        self._name = name
        self._now_ns = now_ns
        self._sha = script_of(limit).sha
        self._on_error = on_error
        self._local = KeyedBucket(share(limit, instances), max_keys=200_000)
        self._most = max(1, limit.capacity // (10 * instances))
        self._ahead_ns, self._keep_ns = round(ahead_s * 1e9), round(keep_s * 1e9)
        self._leases: dict[str, _Lease] = {}
        self._denied: dict[str, tuple[int, int]] = {}
        self._max_denied = max_denied
        self.round_trips = 0
        self.degraded = 0
        """Decisions made by ``on_error``."""
        self.failed = 0
        """Callbacks that raised; the others were told all the same."""

    def take(self, key: str, now_ns: int, cost: int = 1) -> int:
        """Decide without asking.

        Returns:
            0, the nanoseconds to wait, or ``UNKNOWN``; ``LATER`` when only ``ask`` can tell.
        """
        lease = self._leases.get(key)
        if lease is not None:
            if lease.is_asking:
                return LATER
            if lease.left >= cost and now_ns < lease.until_ns:
                lease.left -= cost
                return 0
        denied = self._denied.get(key)
        if denied is not None and cost >= denied[0]:
            if now_ns < denied[1]:
                return denied[1] - now_ns
            del self._denied[key]
        if self.breaker.state is not State.CLOSED:
            return self._decide_alone(key, now_ns, cost)
        return LATER

    def ask(self, key: str, now_ns: int, cost: int, judged: Judged) -> None:
        """Ask Redis; ``judged`` is called once, later on the loop, in the order of the calls for a key."""
        lease = self._leases.get(key)
        if lease is None:
            lease = self._leases[key] = _Lease()
        lease.waiting.append((cost, judged))
        if not lease.is_asking:
            self._ask(key, lease, now_ns, self._size(lease, now_ns))

    def refund(self, key: str, now_ns: int, cost: int) -> None:
        """Give back what was taken just now and not used."""
        lease = self._leases.get(key)
        if lease is not None and self.breaker.state is State.CLOSED:
            lease.left += cost
            lease.until_ns = max(lease.until_ns, now_ns + self._keep_ns)
        else:
            self._local.refund_key(key, now_ns, min(cost, self._local.limit.capacity))

    def tend(self, now_ns: int) -> None:
        """Send back what nobody used; call it several times a second."""
        self._local.generations.tend(now_ns)
        lapsed = []
        # In the order of their last question, so the first ones lapse first.
        for key, lease in self._leases.items():
            if not lease.is_asking:
                if now_ns < lease.until_ns:
                    break
                lapsed.append(key)
        for key in lapsed:
            self._give_back(key, self._leases.pop(key).left)

    def close(self) -> None:
        """Send back what is held."""
        leases, self._leases = self._leases, {}
        for key, lease in leases.items():
            self._give_back(key, lease.left)

    def _give_back(self, key: str, units: int) -> None:
        if units and self.breaker.state is State.CLOSED:
            command = pack("EVALSHA", self._sha, 1, key_name(self._name, key, 0), units, "refund")
            self._send(command, _ignore)

    def _size(self, lease: _Lease, now_ns: int) -> int:
        """Units to ask for: what waits, or as much as the last pace uses up in ``ahead_s``."""
        wanted = sum(cost for cost, _ in lease.waiting)
        if lease.units:
            used_ns = max(1, now_ns - lease.taken_ns)
            ahead = min(self._most, lease.units * self._ahead_ns // used_ns, lease.units * 8)
            wanted = max(wanted, ahead)
        return max(lease.waiting[0][0], min(wanted, self.limit.capacity))

    def _ask(self, key: str, lease: _Lease, now_ns: int, units: int) -> None:
        lease.is_asking = True
        permit = self.breaker.enter(now_ns)
        command = pack("EVALSHA", self._sha, 1, key_name(self._name, key, 0), units)
        self.round_trips += 1

        def replied(reply: Any) -> None:
            self._answered(key, lease, units, self._settle(permit, reply))

        self._send(command, replied)

    def _settle(self, permit: int, reply: Any) -> int | None:
        """Tell the breaker. The wait in the reply, None when there is none."""
        now_ns = self._now_ns()
        if not isinstance(reply, StoreUnavailable):
            self.breaker.ok(permit, now_ns)
            wait_ns: int = reply[0] * 1000
            return wait_ns
        if any(word in reply.detail for word in _THEIRS):
            self.breaker.ok(permit, now_ns)
        else:
            self.breaker.fail(permit, now_ns)
        return None

    def _answered(self, key: str, lease: _Lease, units: int, wait_ns: int | None) -> None:
        now_ns = self._now_ns()
        if wait_ns is None:
            self._go_on_alone(key, lease, now_ns)
        elif not wait_ns:
            self._fill(key, lease, units, now_ns)
        elif units > lease.waiting[0][0]:
            # The last units of a limit are handed out one by one.
            self._ask(key, lease, now_ns, lease.waiting[0][0])
            return
        else:
            self._deny(key, lease, units, now_ns + wait_ns)
        if lease.waiting:
            self._ask(key, lease, now_ns, self._size(lease, now_ns))
        else:
            lease.is_asking = False

    def _fill(self, key: str, lease: _Lease, units: int, now_ns: int) -> None:
        if now_ns >= lease.until_ns:
            # Held for longer, they would come on top of what the bucket holds again by now.
            self._give_back(key, lease.left)
            lease.left = 0
        lease.left += units
        lease.units, lease.taken_ns, lease.until_ns = units, now_ns, now_ns + self._keep_ns
        # Put last, for ``tend``.
        self._leases.pop(key, None)
        self._leases[key] = lease
        waiting = lease.waiting
        while waiting and lease.left >= waiting[0][0]:
            cost, judged = waiting.popleft()
            lease.left -= cost
            self._tell(judged, 0)

    def _deny(self, key: str, lease: _Lease, cost: int, until_ns: int) -> None:
        if self._max_denied:
            if len(self._denied) >= self._max_denied:
                # Forgetting a refusal costs one round trip; the oldest is most likely over.
                self._denied.pop(next(iter(self._denied)))
            self._denied[key] = cost, until_ns
        wait_ns = until_ns - self._now_ns()
        while lease.waiting and lease.waiting[0][0] >= cost:
            self._tell(lease.waiting.popleft()[1], max(1, wait_ns))

    def _go_on_alone(self, key: str, lease: _Lease, now_ns: int) -> None:
        while lease.waiting:
            cost, judged = lease.waiting.popleft()
            self._tell(judged, self._policy(key, now_ns, cost))

    def _decide_alone(self, key: str, now_ns: int, cost: int) -> int:
        permit = self.breaker.enter(now_ns)
        if permit > 0:
            # A probe with a real request, which is decided without it.
            command = pack("EVALSHA", self._sha, 1, key_name(self._name, key, 0), cost)
            self.round_trips += 1
            self._send(command, lambda reply: _ignore(self._settle(permit, reply)))
        return self._policy(key, now_ns, cost)

    def _policy(self, key: str, now_ns: int, cost: int) -> int:
        self.degraded += 1
        if self._on_error == "allow":
            return 0
        if self._on_error == "deny":
            return UNKNOWN
        return self._local.admit_key(key, now_ns, min(cost, self._local.limit.capacity))

    def _tell(self, judged: Judged, wait_ns: int) -> None:
        # One caller that raises must not keep the answer from those behind it.
        try:
            judged(wait_ns)
        except Exception:
            self.failed += 1


def _ignore(reply: Any) -> None:
    """Nobody waits for this answer."""
