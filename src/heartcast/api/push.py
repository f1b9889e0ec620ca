"""REST of the push domain.

    POST  /push                            queue a push (also as POST /api/v1/pushes)
    POST  /api/v1/pushes/batch             queue up to 1,000, with a result each
    GET   /api/v1/pushes/{id}              where it is, how it ended, what each gate said
    PATCH /api/v1/pushes/{id}              change what waits
    POST  /api/v1/pushes/{id}/cancel       take it back
    POST  /api/v1/pushes/{id}/receipts     what a device did with it
    GET   /api/v1/dead-letters             and one of them, and …/{id}/retry
    GET   /api/v1/users/{id}/preferences   and PUT, DELETE
    GET   /api/v1/users/{id}/inbox         and /export; DELETE …/pushes erases
    GET   /api/v1/templates                names, versions, making, activating, previewing
    GET   /api/v1/topics                   and their subscribers
    POST  /api/v1/broadcasts               to a topic or to all; pause, resume, cancel
    GET   /api/v1/webhooks                 and one of them; PUT, DELETE
    GET   /healthz                         every shard's queues; 503 when one stands still

202 means: accepted, as safe as the journal makes it, and it will end in exactly one way
that can be asked for. Every write takes an ``Idempotency-Key``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from heartcast.api import (
    push_broadcasts,
    push_dead_letters,
    push_one,
    push_post,
    push_preferences,
    push_tail,
    push_templates,
    push_topics,
    push_users,
    push_webhooks,
)
from heartcast.api.push_composed import Compose
from heartcast.api.push_once import Tickets
from heartcast.api.push_post import MAX_BATCH, PushAccepted
from heartcast.api.route import Answer, Call, Route
from heartcast.push.health import EMPTY, ShardHealth, stood_still, worst_of
from heartcast.push.routes import RouteHealth
from heartcast.push.service import PushService
from heartcast.resilience.shedding import Priority

__all__ = ["MAX_BATCH", "PushAccepted", "routes"]


class ShardState(msgspec.Struct, frozen=True):
    """One shard of the push scheduler."""

    id: int
    pending: int
    """Pushes in the buffer that is being filled."""
    active: int
    """Pushes in the buffer that is being worked off."""
    error_rate: float
    """Share of the last thousand or so that failed, 0.0 to 1.0."""
    batch_size: int
    """Pushes of one user that may leave as one frame; the same for all shards."""
    oldest_ms: int
    """Age of the push that waits longest; 0 when nothing waits."""
    last_progress_ms: int
    """Time since a push last left; 0 when nothing waits."""


class RouteState(msgspec.Struct, frozen=True):
    """One way out. That it is not well does not make this server unhealthy."""

    name: str
    """``realtime``, ``webhook:crm`` …"""
    batch_size: int
    """Pushes that may leave together: one frame, or one array."""
    waiting: int
    """Pushes that wait for their turn here."""
    error_rate: float
    """Share of the last seconds' requests that failed, 0.0 to 1.0."""
    circuit: str
    """closed, open or half_open; "" where there is none."""
    is_disabled: bool


class Health(msgspec.Struct, frozen=True):
    """Whether pushes move."""

    status: str
    """``ok``; ``stalled`` when a shard holds something and nothing moved for 30 s; ``degraded``
    when something else works only in part."""
    shards: list[ShardState]
    routes: list[RouteState]
    """Realtime, and every endpoint that was posted to."""
    degraded: list[str] = []
    """What works only in part now, such as ``hearts_writes``."""


_encode = msgspec.json.Encoder().encode


def routes(
    service: PushService, degraded: Callable[[], list[str]] = list, compose: Compose | None = None
) -> list[Route]:
    """The domain's routes.

    Args:
        service: Takes the pushes.
        degraded: Names what works only in part now, for ``/healthz``.
        compose: Recommends for payloads that ask for it; None: recommendations are off.
    """
    tickets = Tickets(service.once, service.wall_ms)

    def answer_health(_: Call) -> Answer:
        return health([service], degraded())

    return [
        *push_post.routes(service, tickets, compose),
        *push_one.routes(service, tickets),
        *push_dead_letters.routes(service, tickets),
        *push_preferences.routes(service, tickets),
        *push_users.routes(service, tickets),
        *push_tail.routes(service),
        *push_templates.routes(service, tickets),
        *push_topics.routes(service, tickets),
        *push_broadcasts.routes(service, tickets),
        *push_webhooks.routes(service, tickets),
        *(
            Route(
                method="GET",
                path=path,
                handler=answer_health,
                summary="Every shard's queues, judged by progress.",
                tag="operation",
                answers={200: Health, 503: Health},
                is_public=True,
                priority=Priority.CRITICAL,
            )
            # The second name is what probes of long standing ask for, mostly with HEAD.
            for path in ("/healthz", "/health")
        ),
    ]


def health(
    services: Iterable[PushService],
    degraded: list[str],
    shared: Iterable[RouteHealth] = (),
    stalled: Mapping[int, int] | None = None,
) -> Answer:
    """The answer to a probe, of these services and with these names of what works only in part.

    Args:
        shared: Ways out that the services share.
        stalled: Shards that stand still for another reason than their queues, with the milliseconds.
    """
    stalled = stalled or {}
    shards, routes = [], list(shared)
    for service in services:
        size = service.delivery.merging.size
        shards += [(shard, size) for shard in service.health()]
        routes += service.route_health()
    shards = [(stood_still(shard, stalled.get(shard.id, 0)), size) for shard, size in shards]
    absent = stalled.keys() - {shard.id for shard, _ in shards}
    shards += [(stood_still(EMPTY._replace(id=shard), stalled[shard]), 1) for shard in sorted(absent)]
    is_stalled = any(shard.is_stalled for shard, _ in shards)
    status = "stalled" if is_stalled else "degraded" if degraded else "ok"
    states = [_shard_state(shard, size) for shard, size in shards]
    body = Health(status, states, [RouteState(*route) for route in worst_of(routes)], degraded)
    return Answer(503 if is_stalled else 200, _encode(body), ((b"cache-control", b"no-store"),))


def _shard_state(shard: ShardHealth, size: int) -> ShardState:
    error_rate = round(shard.error_rate, 4)
    return ShardState(
        shard.id, shard.pending, shard.active, error_rate, size, shard.oldest_ms, shard.last_progress_ms
    )
