"""Who is let in now: shedding when the server is full, limits per client.

Two questions before a handler runs. Is there room for a request of this priority?
If not: 503. Has this client used up its budget? If so: 429. Both refusals say when to
come back, and both are decided by plain arithmetic on the hot path.

Hearts and pushes have separate budgets. A budget has a limit per *client* (the user,
or the key that a server shows) and one per *address prefix* (/24, /64), which is wide
enough for an office behind one address: it stops floods, not colleagues.

Budgets are kept in this process, or in Redis for all processes (``api.shared_budget``).
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal, Protocol

import msgspec

from heartcast.api.problems import problem
from heartcast.api.rate_limit import refused
from heartcast.api.route import Answer, Call, Identity, Route
from heartcast.core.clock import Clock
from heartcast.core.errors import Overloaded
from heartcast.core.hashing import hash64
from heartcast.resilience.limits import KeyedBucket, Limit
from heartcast.resilience.shedding import Priority, Shedder, ShedPolicy

BUDGETS = ("hearts", "pushes")
Judged = Callable[[Answer | None], None]

_ITEM_BYTES = 40
"""No item of a batch is shorter, so counting bytes never counts fewer items than there are."""
_MAX_CLIENTS = 200_000
"""Clients remembered per limit; beyond it newcomers share one bucket, see ``KeyedBucket``."""

_PEEK_MASK = 63


class LimitOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``[limits]`` part of the settings. Limits read like ``"5/s burst 30"``."""

    is_on: bool | None = None
    """null: on where callers need credentials, off in dev mode on loopback."""

    hearts_per_client: str = "5/s burst 50"
    """A person who hearts a page of articles at once stays below it; a script does not."""

    hearts_per_prefix: str = "500/s burst 5000"
    """A company or a campus behind one address stays below it."""

    pushes_per_client: str = "20000/s burst 40000"
    """Per API key: keeps one sender's loop from starving the others."""

    pushes_per_prefix: str = "50000/s burst 100000"
    """Per network of senders."""

    backend: Literal["local", "redis"] = "local"
    """``local``: each process counts alone. ``redis``: all processes count together."""

    redis_url: str = ""
    """Where they count; "": the server of ``cluster.redis_url``, or else of ``hearts.redis_url``.
    Never logged."""

    on_error: Literal["local", "allow", "deny"] = "local"
    """While Redis is slow or gone: count here with a fair share, let everybody in, or answer 503."""

    instances: int = 1
    """Processes that share the budgets, >= 1: what a fair share is."""

    timeout_s: float = 0.05
    """Longest wait for Redis in seconds, 0.005 to 1; slower is as good as gone."""

    shed: ShedPolicy = msgspec.field(default_factory=ShedPolicy)
    """From which load on which priority is refused."""

    def __post_init__(self) -> None:
        for name in ("hearts_per_client", "hearts_per_prefix", "pushes_per_client", "pushes_per_prefix"):
            try:
                limit = Limit.parse(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            if limit.kind != "bucket":
                raise ValueError(f'{name}: must be a rate such as "5/s burst 30", got {limit}')
        if self.instances < 1:
            raise ValueError(f"instances: must be >= 1, got {self.instances}")
        if not 0.005 <= self.timeout_s <= 1:
            raise ValueError(f"timeout_s: must be between 0.005 and 1, got {self.timeout_s}")

    def limit(self, budget: str, part: str) -> Limit:
        """The limit of a budget per ``client`` or ``prefix``, named after the part."""
        return Limit.parse(getattr(self, f"{budget}_per_{part}"), name=part)


class AnyBudget(Protocol):
    """Where requests are counted."""

    refused: int
    """Requests answered with 429."""

    @property
    def capacity(self) -> int:
        """The largest cost that could ever be admitted."""
        ...

    @property
    def degraded(self) -> int:
        """Decisions made without the place where requests are counted."""
        ...

    def judge(self, client: str, prefix: str, cost: int, now_ns: int, judged: Judged) -> Answer | None:
        """None when admitted, a refusal, or ``LATER``: then ``judged`` is told one of the first two."""
        ...

    def tend(self, now_ns: int) -> None:
        """Forget a little of what is idle; called several times a second."""
        ...


class Budget:
    """What one client, and one address prefix, may use in this process."""

    degraded = 0

    def __init__(self, per_client: Limit, per_prefix: Limit) -> None:
        self._per_client = KeyedBucket(per_client, max_keys=_MAX_CLIENTS)
        self._per_prefix = KeyedBucket(per_prefix, max_keys=_MAX_CLIENTS)
        self.refused = 0

    def judge(self, client: str, prefix: str, cost: int, now_ns: int, judged: Judged) -> Answer | None:
        """Count ``cost`` against both limits, or against none and say which refused."""
        if self._per_client.admit_key(client, now_ns, cost):
            return self._refuse(self._per_client, client, cost, now_ns)
        if self._per_prefix.admit_key(prefix, now_ns, cost):
            self._per_client.refund_key(client, now_ns, cost)
            return self._refuse(self._per_prefix, prefix, cost, now_ns)
        return None

    @property
    def capacity(self) -> int:
        return min(self._per_client.limit.capacity, self._per_prefix.limit.capacity)

    def tend(self, now_ns: int) -> None:
        self._per_client.generations.tend(now_ns)
        self._per_prefix.generations.tend(now_ns)

    def _refuse(self, bucket: KeyedBucket, key: str, cost: int, now_ns: int) -> Answer:
        self.refused += 1
        # A refusal takes nothing, so asking again only finds out what the headers need.
        decision = bucket.decide_key(key, now_ns, cost)
        return refused(bucket.limit, math.ceil(decision.retry_after_s), remaining=decision.remaining)


class Admission:
    """Decides before the handlers do.

    Args:
        limits_on: Whether clients are limited.
        shared: Budgets by name that all processes share; None: this process counts alone.
    """

    def __init__(
        self,
        options: LimitOptions,
        clock: Clock,
        *,
        limits_on: bool,
        shared: Mapping[str, AnyBudget] | None = None,
    ) -> None:
        self._now_ns = clock.monotonic_ns
        self.shedder = Shedder(options.shed)
        self.peek: Callable[[], None] = _nothing
        """Called after every 64 requests: a look at the load that cannot wait for its timer."""
        self._asked = 0
        alone = {
            name: Budget(options.limit(name, "client"), options.limit(name, "prefix")) for name in BUDGETS
        }
        self.budgets: Mapping[str, AnyBudget] = (shared or alone) if limits_on else {}

    def tend(self) -> None:
        """Keep the memory of clients in bounds; called several times a second."""
        for budget in self.budgets.values():
            budget.tend(self._now_ns())

    def shed(self, route: Route | None, body: bytes) -> Answer | None:
        """The refusal for want of room; None when there is room. Asked before anything else.

        Args:
            route: None where nothing answers: a "not found" is as important as what was meant.
        """
        shedder = self.shedder
        self._asked += 1
        if not self._asked & _PEEK_MASK:
            self.peek()
        if shedder.level == Priority.BEST_EFFORT:
            return None
        if route is None:
            priority = Priority.NORMAL
        else:
            priority = route.priority if route.weigh is None else route.weigh(body)
        return _NO_ROOM if shedder.refuses(priority) else None

    def limit(self, route: Route, call: Call, judged: Judged) -> Answer | None:
        """The refusal of a client that has used up its budget; None when it has not.

        Asked when the caller is known. A batch counts as its items. ``LATER`` means that
        ``judged`` is called with the one or the other, once, from the loop.
        """
        budget = self.budgets.get(route.budget or "")
        if budget is None:
            return None
        cost = min(max(1, len(call.body) // _ITEM_BYTES), budget.capacity) if route.is_batch else 1
        client = _client_of(call.identity, call)
        return budget.judge(client, prefix_of(call.peer), cost, self._now_ns(), judged)


_NO_ROOM = problem(Overloaded("the server is too busy for this now; repeat it later", code="shed"))


def _nothing() -> None:
    """Nobody looks."""


def _client_of(identity: Identity, call: Call) -> str:
    if identity.user is not None:
        return identity.user
    # A server is known by the key that it shows; the key itself is not kept.
    shown = call.header(b"x-api-key") or call.header(b"authorization")
    return f"key {hash64(shown.decode('latin-1'))}" if shown else f"at {call.peer}"


@lru_cache(maxsize=65_536)
def prefix_of(peer: str) -> str:
    """The network an address belongs to: /24 of IPv4, /64 of IPv6; "" when it is no address."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return ""
    bits = 24 if address.version == 4 else 64
    return str(ipaddress.ip_network(f"{peer.partition('%')[0]}/{bits}", strict=False))
