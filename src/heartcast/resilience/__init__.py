"""Limits, breakers, retries, shedding: usable alone, without the server.

    from heartcast.resilience import Backoff, Bulkhead, Circuit, Limit, Policy, Retry, TokenBucket

    policy = Policy(
        deadline_s=2.0,
        retry=Retry(Backoff(attempts=3)),
        limit=TokenBucket(Limit.parse("100/s burst 20")),
        circuit=Circuit("profiles"),
        bulkhead=Bulkhead(64),
        timeout=0.5,
    )

    @policy
    async def profile(user: str) -> bytes: ...

What decides is plain arithmetic that is told the time, so that tests can move it. What
is refused inside is a value; exceptions are made at the edge. Shared limits are in
``limits.shared``, shared breakers in ``breaker.shared``: only these need Redis.
"""

from heartcast.resilience.adaptive import Aimd, Gradient
from heartcast.resilience.breaker import (
    HEARTS,
    Breaker,
    BreakerPolicy,
    Circuit,
    GatePolicy,
    Outcome,
    Registry,
    SloGate,
    State,
)
from heartcast.resilience.bulkhead import Bulkhead
from heartcast.resilience.errors import BulkheadFull, CircuitOpen, DeadlineExceeded, LimitExceeded, Shed
from heartcast.resilience.hedge import Hedge
from heartcast.resilience.limits import (
    Decision,
    KeyedBucket,
    KeyedLimiter,
    LeakyBucket,
    Limit,
    Throttle,
    TokenBucket,
    dual_limiter,
)
from heartcast.resilience.policy import Policy
from heartcast.resilience.retry import Backoff, Recovery, Retry, RetryBudget
from heartcast.resilience.shedding import LoopLag, Priority, Shedder, ShedPolicy
from heartcast.resilience.supervisor import Supervisor, Worker
from heartcast.resilience.timeout import AdaptiveTimeout, TimeoutPolicy, deadline, remaining_s

__all__ = [
    "HEARTS",
    "AdaptiveTimeout",
    "Aimd",
    "Backoff",
    "Breaker",
    "BreakerPolicy",
    "Bulkhead",
    "BulkheadFull",
    "Circuit",
    "CircuitOpen",
    "DeadlineExceeded",
    "Decision",
    "GatePolicy",
    "Gradient",
    "Hedge",
    "KeyedBucket",
    "KeyedLimiter",
    "LeakyBucket",
    "Limit",
    "LimitExceeded",
    "LoopLag",
    "Outcome",
    "Policy",
    "Priority",
    "Recovery",
    "Registry",
    "Retry",
    "RetryBudget",
    "Shed",
    "ShedPolicy",
    "Shedder",
    "SloGate",
    "State",
    "Supervisor",
    "Throttle",
    "TimeoutPolicy",
    "TokenBucket",
    "Worker",
    "deadline",
    "dual_limiter",
    "remaining_s",
]
