"""The 429 of a client that has used up its budget, with the headers that say how to go on.

``RateLimit-Policy`` and ``RateLimit`` as in draft-ietf-httpapi-ratelimit-headers-10: q is
the quota, r what is left, t the seconds until there is more. ``Retry-After`` as in RFC 9110.
"""

from __future__ import annotations

from heartcast.api.problems import status_problem
from heartcast.api.route import Answer
from heartcast.resilience.limits import Limit


def refused(limit: Limit, wait_s: int, *, remaining: int = 0) -> Answer:
    """The refusal.

    Args:
        limit: The one that refused; its name is what clients see.
        wait_s: Seconds until the same request would be admitted.
        remaining: Units that are left for smaller requests.
    """
    name, wait_s = limit.title.encode(), max(1, wait_s)
    headers = (
        (b"retry-after", b"%d" % wait_s),
        (b"ratelimit-policy", b'"%b";q=%d' % (name, limit.limit)),
        (b"ratelimit", b'"%b";r=%d;t=%d' % (name, remaining, wait_s)),
    )
    return status_problem(429, f"too many requests; come back in {wait_s} s", "rate_limited", headers=headers)
