"""A budget that all processes share: counted in Redis, decided here where that is possible.

Most requests find a lease for their network and either a lease or one question for
their client. A request that has to wait for Redis leaves one small object behind that
is called back; there is no task, and the handler runs in the callback.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from heartcast.api.problems import problem
from heartcast.api.rate_limit import refused
from heartcast.api.route import LATER, Answer
from heartcast.core.errors import StoreUnavailable
from heartcast.resilience.limits.shared_bucket import LATER as ASK
from heartcast.resilience.limits.shared_bucket import UNKNOWN, SharedBucket

Judged = Callable[[Answer | None], None]

_UNCOUNTED = problem(StoreUnavailable("requests cannot be counted now, so none is let in; repeat it later"))


class SharedBudget:
    """What one client, and one address prefix, may use on all processes together."""

    def __init__(self, per_client: SharedBucket, per_prefix: SharedBucket) -> None:
        self.per_client = per_client
        self.per_prefix = per_prefix
        self.refused = 0
        """Requests answered with 429."""

    def judge(self, client: str, prefix: str, cost: int, now_ns: int, judged: Judged) -> Answer | None:
        """Count ``cost`` against both limits, or against none and say which refused.

        Returns:
            None when admitted, a refusal, or ``LATER``: ``judged`` is told one of the first two.
        """
        wait_ns = self.per_client.take(client, now_ns, cost)
        if not wait_ns:
            wait_ns = self.per_prefix.take(prefix, now_ns, cost)
            if not wait_ns:
                return None
            if wait_ns == ASK:
                _Question(self, client, prefix, cost, now_ns, judged).ask_prefix()
                return LATER
            self.per_client.refund(client, now_ns, cost)
            return self.refusal(self.per_prefix, wait_ns)
        if wait_ns == ASK:
            _Question(self, client, prefix, cost, now_ns, judged).ask_client()
            return LATER
        return self.refusal(self.per_client, wait_ns)

    def refusal(self, bucket: SharedBucket, wait_ns: int) -> Answer:
        """What the client is told."""
        if wait_ns == UNKNOWN:
            return _UNCOUNTED
        self.refused += 1
        return refused(bucket.limit, math.ceil(wait_ns / 1e9))

    @property
    def capacity(self) -> int:
        """The largest cost that both limits could ever admit."""
        return min(self.per_client.limit.capacity, self.per_prefix.limit.capacity)

    @property
    def degraded(self) -> int:
        """Decisions made without Redis."""
        return self.per_client.degraded + self.per_prefix.degraded

    def tend(self, now_ns: int) -> None:
        """Send back what is not used; called several times a second."""
        self.per_client.tend(now_ns)
        self.per_prefix.tend(now_ns)

    def close(self) -> None:
        """Send back all that is held."""
        self.per_client.close()
        self.per_prefix.close()


class _Question:
    """A request that waits for Redis."""

    __slots__ = ("_budget", "_client", "_cost", "_judged", "_now_ns", "_prefix")

    def __init__(
        self, budget: SharedBudget, client: str, prefix: str, cost: int, now_ns: int, judged: Judged
    ) -> None:
        self._budget = budget
        self._client = client
        self._prefix = prefix
        self._cost = cost
        self._now_ns = now_ns
        self._judged = judged

    def ask_client(self) -> None:
        self._budget.per_client.ask(self._client, self._now_ns, self._cost, self._on_client)

    def ask_prefix(self) -> None:
        self._budget.per_prefix.ask(self._prefix, self._now_ns, self._cost, self._on_prefix)

    def _on_client(self, wait_ns: int) -> None:
        budget = self._budget
        if wait_ns:
            self._judged(budget.refusal(budget.per_client, wait_ns))
            return
        wait_ns = budget.per_prefix.take(self._prefix, self._now_ns, self._cost)
        if wait_ns == ASK:
            self.ask_prefix()
        else:
            self._on_prefix(wait_ns)

    def _on_prefix(self, wait_ns: int) -> None:
        budget = self._budget
        if not wait_ns:
            self._judged(None)
            return
        budget.per_client.refund(self._client, self._now_ns, self._cost)
        self._judged(budget.refusal(budget.per_prefix, wait_ns))
