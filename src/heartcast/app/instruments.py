"""Which number of which part stands behind each metric and each figure of the panel.

Parts count in plain integers; here the integers get their names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from heartcast import __version__
from heartcast.api.admission import Admission
from heartcast.app.pushes import Pushes
from heartcast.app.system import System
from heartcast.core.quantiles import Histogram
from heartcast.gateway.port import HttpPort
from heartcast.hearts.abuse import AbuseGuard
from heartcast.hearts.service import HeartService
from heartcast.observability.metrics import Labels, Values
from heartcast.observability.panel import Panel
from heartcast.observability.sla import SlaRatio, Timely
from heartcast.push.health import worst_of
from heartcast.push.model import State
from heartcast.push.routes import RouteHealth
from heartcast.push.service import PushService
from heartcast.realtime.hub import Hub
from heartcast.resilience.metrics import ResilienceCollector


@runtime_checkable
class _Grouped(Protocol):
    """A heart store that commits in groups."""

    waiting_keys: int
    groups: int


def panel(hub: Hub, hearts: HeartService) -> Panel:
    """What the demo page's live panel shows."""
    return Panel(
        counters={
            "hearts": lambda: hearts.added + hearts.removed,
            "deliveries": lambda: hub.deliveries,
        },
        gauges={"connections": lambda: hub.connections, "p99_ms": recent_p99_ms(hub)},
    )


def recent_p99_ms(hub: Hub) -> Callable[[], float | None]:
    """A reader of the 99th percentile of delivery time since its last call.

    A bucket ends at a power of two, so the figure is at most twice too high, never too
    low. None: nothing was delivered meanwhile.
    """
    before = list(hub.lag_buckets)

    def read() -> float | None:
        nonlocal before
        counts = [now - then for now, then in zip(hub.lag_buckets, before, strict=True)]
        before = list(hub.lag_buckets)
        left = sum(counts)
        if not left:
            return None
        bound = left * 0.01
        for exponent, count in enumerate(counts):
            left -= count
            if left <= bound:
                return float(2**exponent) / 1000
        return None

    return read


def bind(system: System) -> None:
    """Give every metric of the catalogue its number."""
    _bind_port(system)
    _bind_realtime(system)
    _bind_hearts(system)
    _bind_pushes(system)
    _bind_many(system)


def _bind_port(system: System) -> None:
    metrics, port = system.metrics, system.port
    started_s = system.clock.monotonic_s()
    metrics.bind_each("heartcast_build_info", lambda: {(__version__,): 1.0})
    metrics.bind("heartcast_uptime_seconds", lambda: system.clock.monotonic_s() - started_s)
    metrics.bind_each("heartcast_http_requests_total", lambda: _requests(port))
    metrics.bind_each("heartcast_http_responses_total", lambda: _responses(port))
    metrics.bind_each("heartcast_limiter_decisions_total", lambda: _refusals(system.admission))
    metrics.add(
        ResilienceCollector(
            breakers=system.breakers,
            shedders={"port": system.admission.shedder},
            names=system.settings.resilience.metric_names,
        )
    )
    metrics.bind("heartcast_event_loop_lag_seconds", lambda: system.loop_lag.lag_s)
    metrics.bind("heartcast_http_connections", lambda: len(port.connections))


def _refusals(admission: Admission) -> Values:
    refused: dict[tuple[str, ...], float] = {("shedding", "refused"): sum(admission.shedder.shed)}
    for name, budget in admission.budgets.items():
        refused[name, "refused"] = budget.refused
        refused[name, "degraded"] = budget.degraded
    return refused


def _requests(port: HttpPort) -> Values:
    hot = sum(sum(route.statuses.values()) for route in port.routes)
    return {("hot",): hot, ("cold",): port.counters.requests_cold}


def _responses(port: HttpPort) -> Values:
    classes: dict[tuple[str, ...], float] = {}
    for route in port.routes:
        for status, count in route.statuses.items():
            label = (f"{status // 100}xx",)
            classes[label] = classes.get(label, 0) + count
    return classes


def _bind_realtime(system: System) -> None:
    metrics, hub = system.metrics, system.realtime.hub
    metrics.bind("heartcast_ws_connections", lambda: hub.connections - hub.streams)
    metrics.bind("heartcast_sse_connections", lambda: hub.streams)
    metrics.bind("heartcast_outbound_bytes", lambda: hub.waiting_bytes)
    metrics.bind("heartcast_subscriptions", lambda: hub.subscriptions)
    metrics.bind("heartcast_channels", lambda: len(hub.rooms()))
    metrics.bind("heartcast_publications_total", lambda: hub.publications)
    metrics.bind("heartcast_deliveries_total", lambda: hub.deliveries)
    metrics.bind("heartcast_delivery_bytes_total", lambda: hub.bytes_out)
    metrics.bind_each(
        "heartcast_overflows_total",
        lambda: {("drop",): hub.dropped, ("disconnect",): hub.slow_disconnects},
    )
    metrics.bind_each(
        "heartcast_disconnects_total",
        lambda: {(str(code),): count for code, count in hub.closes.items()},
    )
    metrics.bind_each(
        "heartcast_recoveries_total", lambda: {("complete",): hub.recovered, ("failed",): hub.unrecovered}
    )
    metrics.bind_each("heartcast_repairs_total", lambda: _repairs(system))


def _repairs(system: System) -> Values:
    shared, news = system.realtime.shared, system.heart_news
    repairs: dict[tuple[str, ...], float] = {}
    if shared is not None:
        repairs = {(what,): count for what, count in shared.repairs().items()}
    if news is not None:
        repairs["hearts",] = news.gaps
    return repairs


def _bind_hearts(system: System) -> None:
    metrics, hearts, boards = system.metrics, system.hearts, system.boards
    metrics.bind_each(
        "heartcast_hearts_total",
        lambda: {
            ("added",): hearts.added,
            ("removed",): hearts.removed,
            ("unchanged",): hearts.unchanged,
        },
    )
    if (gates := hearts.gates) is not None:
        metrics.bind_each(
            "heartcast_heart_store_state",
            lambda: {(gate.breaker.name,): float(gate.breaker.state) for gate in gates},
        )
    if (abuse := system.abuse) is not None:
        metrics.bind_each("heartcast_heart_verdicts_total", lambda: _verdicts(abuse))
    metrics.bind("heartcast_live_counts_total", lambda: system.live_counts.published)
    metrics.bind("heartcast_bus_dropped_total", lambda: system.bus.dropped)
    metrics.bind("heartcast_bus_failed_total", lambda: system.bus.failed)
    metrics.bind_each("heartcast_hot_items", lambda: {(name,): boards.items for name in boards.names})
    metrics.bind("heartcast_hot_updates_total", lambda: boards.applied)
    if system.personal is not None:
        for_you, intake = system.personal.for_you, system.personal.intake
        metrics.bind("heartcast_taste_users", lambda: for_you.taste.users)
        metrics.bind("heartcast_taste_items", lambda: for_you.taste.items)
        metrics.bind("heartcast_taste_untracked_total", lambda: for_you.taste.untracked)
        metrics.bind_each(
            "heartcast_feedback_total", lambda: {("taken",): intake.taken, ("repeated",): intake.repeated}
        )

    feed, auditor = system.effects.feed, system.effects.auditor
    metrics.bind("heartcast_heart_count_drift", lambda: auditor.drift)
    metrics.bind("heartcast_heart_recounts_total", lambda: auditor.recounted)
    metrics.bind("heartcast_heart_repairs_total", lambda: auditor.repaired)
    metrics.bind("heartcast_events_last", lambda: feed.last)
    metrics.bind("heartcast_events_trimmed_total", lambda: feed.trimmed)
    metrics.bind_each("heartcast_events_lag", lambda: {(name,): lag for name, lag in feed.lags().items()})
    if isinstance(store := system.heart_store, _Grouped):
        metrics.bind("heartcast_heart_writes_waiting", lambda: store.waiting_keys)
        metrics.bind("heartcast_heart_commits_total", lambda: store.groups)
    if (replica := getattr(system.heart_store, "replica", None)) is not None:
        metrics.bind("heartcast_heart_replica_reads_total", lambda: replica.reads)
        metrics.bind("heartcast_heart_replica_fit", lambda: float(replica.is_fit))
        metrics.bind("heartcast_heart_replica_lag_seconds", lambda: replica.lag_s)


def _verdicts(abuse: AbuseGuard) -> Values:
    verdicts: dict[tuple[str, ...], float] = {
        ("shadowed", reason): hearts for reason, hearts in abuse.shadowed.items()
    }
    verdicts["counted", ""] = abuse.judged - sum(verdicts.values())
    return verdicts


def _in_inboxes(service: PushService) -> int:
    known = len(service.ledger.live) + len(service.ledger.timed)
    return known - service.queued - service.waiting.near


# The article's numbers: 0, 1, 2.
_CIRCUIT_STATES = ("closed", "open", "half_open")
# The articles' border between in time and late.
_IN_TIME_US = 1_000_000
# The articles' words for the ends of a push.
_ENDS = {
    State.DELIVERED: "success",
    State.EXPIRED: "timeout",
    State.FAILED: "failed",
    State.DEAD: "failed",
    State.SUPPRESSED: "throttled",
    State.CANCELLED: "dropped",
}


def _ends(ended: Mapping[State, int], elsewhere: Mapping[tuple[str, str], int]) -> Values:
    counts: dict[tuple[str, ...], float] = {}
    for state, word in _ENDS.items():
        counts["realtime", word] = counts.get(("realtime", word), 0) + ended[state]
    # What is known of the other routes is not realtime's.
    for (route, word), count in elsewhere.items():
        counts["realtime", word] -= count
        counts[route, word] = count
    return counts


def _routes(pushes: Pushes) -> list[RouteHealth]:
    return worst_of(pushes.route_health())


def _posts(pushes: Pushes) -> Values:
    counts: dict[tuple[str, ...], float] = {}
    # The services of many nodes' shards share one.
    for posts in {service.posts for service in pushes.services()}:
        for result, count in posts.counts().items():
            counts[result,] = counts.get((result,), 0) + count
    return counts


def _timely(pushes: Pushes) -> dict[Labels, Timely]:
    """Pushes that reached a route within a second, and all that reached it or never will."""
    elsewhere = pushes.route_ends.get(("webhook", "failed"), 0)
    given_up = sum(pushes.ended[state] for state in (State.EXPIRED, State.FAILED, State.DEAD)) - elsewhere
    return {
        ("realtime",): _timely_of(pushes.latency, given_up),
        ("webhook",): _timely_of(pushes.post_latency, elsewhere),
    }


def _timely_of(latency: Histogram, given_up: int) -> Timely:
    in_time = sum(count for top, count in latency.buckets() if top <= _IN_TIME_US)
    return Timely(in_time, latency.count + given_up)


def _verdicts_of_gates(pushes: Pushes) -> Values:
    counts: dict[Labels, float] = {}
    for service in pushes.services():
        for verdict, count in service.passage.held.items():
            counts[verdict] = counts.get(verdict, 0) + count
    return counts


def _bind_pushes(system: System) -> None:
    metrics, pushes = system.metrics, system.pushes
    ended, services = pushes.ended, pushes.services
    metrics.bind_each("push_service_push_total", lambda: _ends(ended, pushes.route_ends))
    metrics.bind_histogram(
        "push_service_push_latency_seconds",
        lambda: {("realtime",): pushes.latency, ("webhook",): pushes.post_latency},
    )
    metrics.bind_each("push_service_sla_ratio", SlaRatio(system.clock.monotonic_s, lambda: _timely(pushes)))
    metrics.bind_each("heartcast_gate_verdicts_total", lambda: _verdicts_of_gates(pushes))
    metrics.bind(
        "heartcast_idempotent_replays_total", lambda: sum(service.once.replayed for service in services())
    )
    metrics.bind("heartcast_acks_total", lambda: ended[State.DELIVERED])
    metrics.bind("heartcast_offline_queue", lambda: sum(map(_in_inboxes, services())))
    metrics.bind("heartcast_pushes_accepted_total", lambda: pushes.accepted)
    metrics.bind_each("heartcast_pushes_refused_total", lambda: {("full",): pushes.refused})
    metrics.bind_each(
        "heartcast_shard_depth",
        lambda: {
            (str(service.first_shard + shard.id),): shard.waiting
            for service in services()
            for shard in service.pool.shards
        },
    )
    metrics.bind_each(
        "heartcast_batch_size", lambda: {(route.name,): route.batch_size for route in _routes(pushes)}
    )
    metrics.bind_each(
        "heartcast_route_waiting", lambda: {(route.name,): route.waiting for route in _routes(pushes)}
    )
    metrics.bind_each(
        "heartcast_circuit_state",
        lambda: {
            (route.name,): float(_CIRCUIT_STATES.index(route.circuit))
            for route in _routes(pushes)
            if route.circuit in _CIRCUIT_STATES
        },
    )
    metrics.bind_each("heartcast_webhook_posts_total", lambda: _posts(pushes))
    metrics.bind(
        "heartcast_route_retries_total", lambda: sum(service.outgoing.retried for service in services())
    )
    metrics.bind(
        "heartcast_fallbacks_total", lambda: sum(service.outgoing.fallen_back for service in services())
    )
    metrics.bind(
        "heartcast_ack_redelivery_total", lambda: sum(service.delivery.redelivered for service in services())
    )
    metrics.bind(
        "heartcast_worker_restarts_total",
        lambda: sum(worker.crashes for service in services() for worker in service.pool.workers),
    )


def _broadcasts(pushes: Pushes) -> Values:
    counts: dict[tuple[str, ...], float] = {}
    for service in pushes.services():
        for status, count in service.broadcasts.by_status().items():
            counts[status,] = counts.get((status,), 0) + count
    return counts


def _bind_many(system: System) -> None:
    """Pushes to many, and streams."""
    metrics, services, streams = system.metrics, system.pushes.services, system.streams
    metrics.bind(
        "heartcast_topic_subscriptions", lambda: sum(service.topics.subscriptions for service in services())
    )
    metrics.bind_each("heartcast_broadcasts", lambda: _broadcasts(system.pushes))
    metrics.bind("heartcast_stream_published_total", lambda: streams.published)
    metrics.bind("heartcast_stream_delivered_total", lambda: streams.delivered)
    metrics.bind("heartcast_stream_readers", lambda: streams.waiting)
