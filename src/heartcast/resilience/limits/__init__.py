"""Limits: how much of something may happen.

Pick by the shape of the question. ``TokenBucket`` and ``KeyedBucket`` for a rate, at the
cost of a comparison; ``KeyedLimiter`` for several limits on one key, all or nothing;
``LeakyBucket`` for a steady pace out. All take the time and answer 0 or the wait in
nanoseconds; ``decide`` answers a ``Decision`` for headers. ``shared`` has the same
limits for many processes, in Redis.
"""

from heartcast.resilience.limits.bucket import LeakyBucket, TokenBucket
from heartcast.resilience.limits.keyed import KeyedBucket
from heartcast.resilience.limits.limit import Decision, Limit
from heartcast.resilience.limits.limiter import KeyedLimiter, dual_limiter
from heartcast.resilience.limits.throttle import Throttle

__all__ = [
    "Decision",
    "KeyedBucket",
    "KeyedLimiter",
    "LeakyBucket",
    "Limit",
    "Throttle",
    "TokenBucket",
    "dual_limiter",
]
