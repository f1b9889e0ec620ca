"""Whether a shard's pushes move: health is judged by progress, not by being alive."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from heartcast.push.routes import RouteHealth
from heartcast.push.shard import Shard


class ShardHealth(NamedTuple):
    """One shard, for ``/healthz``."""

    id: int
    pending: int
    active: int
    error_rate: float
    oldest_ms: int
    """Age of the push that waits longest; 0 when nothing waits."""
    last_progress_ms: int
    """Milliseconds since a push last left; 0 when nothing waits."""
    is_stalled: bool


EMPTY = ShardHealth(0, 0, 0, 0.0, 0, 0, is_stalled=False)


def stood_still(shard: ShardHealth, still_ms: int) -> ShardHealth:
    """A shard of which something else than its queues says that it does not move; 0: nothing does."""
    if not still_ms:
        return shard
    return shard._replace(last_progress_ms=max(shard.last_progress_ms, still_ms), is_stalled=True)


def health_of(shard: Shard, now_s: float, now_ms: int, stalled_after_ms: float) -> ShardHealth:
    """One shard's queues, and whether they move.

    Args:
        now_s: Monotonic.
        stalled_after_ms: How long nothing may move while something waits.
    """
    oldest = shard.oldest
    age_ms = max(0, now_ms - oldest.accepted_ms) if oldest else 0
    # A shard that was empty for an hour has not stalled because a push just came.
    still_ms = min(round((now_s - shard.progress_s) * 1000), age_ms)
    is_stalled = still_ms > stalled_after_ms
    return ShardHealth(
        shard.id, len(shard.pending), shard.left, shard.error_rate, age_ms, still_ms, is_stalled
    )


def worst_of(routes: Iterable[RouteHealth]) -> list[RouteHealth]:
    """Each way out once, where several services have it: the worst of each figure, and all that waits."""
    found: dict[str, RouteHealth] = {}
    for route in routes:
        other = found.get(route.name, route)
        found[route.name] = RouteHealth(
            route.name,
            max(other.batch_size, route.batch_size),
            route.waiting + (other.waiting if other is not route else 0),
            max(other.error_rate, route.error_rate),
            max(other.circuit, route.circuit, key=_BY_SEVERITY.index),
            other.is_disabled or route.is_disabled,
        )
    return list(found.values())


_BY_SEVERITY = ("", "closed", "half_open", "open")
