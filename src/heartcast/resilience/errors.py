"""What the kit raises at its edges. Inside, a refusal is a value.

    Unavailable
    ├── CircuitOpen        the breaker keeps calls away from a dependency that fails
    ├── DeadlineExceeded   the time for the whole call, or for one attempt, is over
    └── Overloaded
        ├── LimitExceeded  the caller's own budget is spent (429)
        ├── BulkheadFull   too many such calls are under way (503)
        └── Shed           less important work was turned away (503)

Each carries ``retry_after_s``, whole seconds, and every raise makes a fresh object: one
that is raised again and again would collect the tracebacks of all of its raises.
"""

from __future__ import annotations

from heartcast.core.errors import Overloaded, Unavailable


def whole_seconds(wait_ns: int) -> int:
    """A wait as Retry-After says it: rounded up, at least 1."""
    return max(1, -(-wait_ns // 1_000_000_000))


class CircuitOpen(Unavailable):
    code = "circuit_open"


class DeadlineExceeded(Unavailable):
    code = "deadline_exceeded"


class LimitExceeded(Overloaded):
    code = "rate_limited"


class BulkheadFull(Overloaded):
    code = "bulkhead_full"


class Shed(Overloaded):
    code = "shed"
