"""Metrics: one catalogue of names, and values that are read when somebody asks.

Hot code counts with plain integers on its own objects. Here each name is bound to a
callable that reads them; nothing is done until ``/metrics`` is scraped, so a push
costs the same whether anybody watches or not. A name that nothing was bound to is
absent from the answer, which says more than a zero that nobody counts.

Three rules keep a scrape harmless. No user, target or device is ever a label. A
metric has at most 200 children; the rest of a counter is folded into ``other``. A
reader that raises loses its own metric for that scrape and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from prometheus_client import GC_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from heartcast.core.quantiles import Histogram

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]

MAX_CHILDREN = 200
OTHER = "other"

# The articles' buckets, in seconds. 1.0 is the border between "in time" and "late",
# and their PromQL names it as le="1.0".
LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metric(NamedTuple):
    """A name that may be exported."""

    name: str
    kind: Kind
    help: str
    labels: Labels = ()


CATALOGUE: tuple[Metric, ...] = (
    # The names of the articles, so that their dashboards and rules work as printed.
    Metric(
        "push_service_push_total",
        "counter",
        "Pushes by route and end: success, late, timeout, failed, dropped, throttled, offline.",
        ("route", "status"),
    ),
    # The process.
    Metric(
        "push_service_push_latency_seconds", "histogram", "From accepted to handed to the route.", ("route",)
    ),
    Metric(
        "push_service_sla_ratio",
        "gauge",
        "Share of the last minute's pushes that were handed to the route within 1 s, of those handed over "
        "or given up; absent below 20.",
        ("route",),
    ),
    Metric("heartcast_build_info", "gauge", "Always 1; the label says which version runs.", ("version",)),
    Metric("heartcast_uptime_seconds", "gauge", "Since this process began to listen."),
    Metric("heartcast_event_loop_lag_seconds", "gauge", "How late the event loop ran its last tick."),
    Metric("heartcast_worker_restarts_total", "counter", "Supervised tasks started again after they raised."),
    # The port.
    Metric(
        "heartcast_http_requests_total",
        "counter",
        "Requests answered, by path taken: hot inside the protocol, cold by the application.",
        ("path",),
    ),
    Metric(
        "heartcast_http_responses_total",
        "counter",
        "Answers on the hot path by class of status: 2xx to 5xx.",
        ("status",),
    ),
    Metric("heartcast_http_connections", "gauge", "HTTP connections that are open."),
    # Realtime.
    Metric("heartcast_ws_connections", "gauge", "WebSocket sessions that are open."),
    Metric("heartcast_sse_connections", "gauge", "Event streams that are open."),
    Metric("heartcast_subscriptions", "gauge", "Subscriptions of all sessions."),
    Metric("heartcast_channels", "gauge", "Channels with a subscriber."),
    Metric("heartcast_publications_total", "counter", "Messages published to channels."),
    Metric("heartcast_deliveries_total", "counter", "Messages written to a subscriber's connection."),
    Metric("heartcast_delivery_bytes_total", "counter", "Bytes written to subscribers."),
    Metric("heartcast_outbound_bytes", "gauge", "Bytes that wait for sessions that do not keep up."),
    Metric(
        "heartcast_overflows_total",
        "counter",
        "Times a session's queue was full, by what was done.",
        ("policy",),
    ),
    Metric(
        "heartcast_disconnects_total",
        "counter",
        "Sessions closed, by code; 1xxx mostly by clients.",
        ("code",),
    ),
    Metric(
        "heartcast_repairs_total",
        "counter",
        "Many nodes: what came by the log instead of pub/sub (healed), channels declared lost, presence "
        "written anew, views rebuilt because another node's hearts were missing.",
        ("what",),
    ),
    Metric("heartcast_recoveries_total", "counter", "Recoveries: complete, or declared failed.", ("result",)),
    # Hearts and what follows them.
    Metric(
        "heartcast_hearts_total",
        "counter",
        "Heart writes by what they did: added, removed, unchanged.",
        ("result",),
    ),
    Metric(
        "heartcast_heart_verdicts_total",
        "counter",
        "Hearts of users and visitors by verdict: counted, or shadowed and why.",
        ("verdict", "reason"),
    ),
    Metric(
        "heartcast_heart_store_state",
        "gauge",
        "Breaker on the way to the heart store: 0 closed, 1 open, 2 half open.",
        ("calls",),
    ),
    Metric("heartcast_topic_subscriptions", "gauge", "Subscriptions of users to topics."),
    Metric("heartcast_broadcasts", "gauge", "Broadcasts whose record is kept, by status.", ("status",)),
    Metric("heartcast_stream_published_total", "counter", "Entries published to streams here."),
    Metric("heartcast_stream_delivered_total", "counter", "Entries given to readers of streams here."),
    Metric("heartcast_stream_readers", "gauge", "Readers of streams that wait."),
    Metric("heartcast_heart_writes_waiting", "gauge", "Heart writes that wait for their commit."),
    Metric("heartcast_heart_replica_reads_total", "counter", "Reads of hearts that a replica answered."),
    Metric("heartcast_heart_replica_fit", "gauge", "1 while reads of hearts may go to the replica."),
    Metric("heartcast_heart_replica_lag_seconds", "gauge", "How late the replica was when last seen."),
    Metric("heartcast_heart_commits_total", "counter", "Transactions committed by the heart store."),
    Metric(
        "heartcast_heart_count_drift",
        "gauge",
        "Hearts by which counts differed from rows in the auditor's last round; more than 0 is a fault.",
    ),
    Metric("heartcast_heart_recounts_total", "counter", "Targets that the auditor counted again."),
    Metric("heartcast_heart_repairs_total", "counter", "Counts that differed and were repaired."),
    Metric("heartcast_events_last", "gauge", "Number of the newest event of the outbox that was seen."),
    Metric("heartcast_events_trimmed_total", "counter", "Events dropped because their time was over."),
    Metric("heartcast_events_lag", "gauge", "Events that a follower has yet to take.", ("follower",)),
    Metric("heartcast_live_counts_total", "counter", "Live counts published."),
    Metric(
        "heartcast_bus_dropped_total", "counter", "Events that found the bus full; the views were rebuilt."
    ),
    Metric("heartcast_bus_failed_total", "counter", "Batches that a view raised on; it was rebuilt."),
    Metric("heartcast_hot_items", "gauge", "Items that a hot board holds.", ("board",)),
    Metric("heartcast_hot_updates_total", "counter", "Updates taken by the hot boards."),
    Metric("heartcast_taste_users", "gauge", "Users whose history recommendations are made of."),
    Metric("heartcast_taste_items", "gauge", "Items that can be recommended."),
    Metric(
        "heartcast_taste_untracked_total", "counter", "Hearts beyond ranking.taste's most users and items."
    ),
    Metric(
        "heartcast_feedback_total",
        "counter",
        "Feedback events: taken, or repeated and passed over.",
        ("what",),
    ),
    # Push.
    Metric("heartcast_pushes_accepted_total", "counter", "Pushes answered with 202."),
    Metric("heartcast_pushes_refused_total", "counter", "Pushes refused, by code.", ("code",)),
    Metric("heartcast_shard_depth", "gauge", "Pushes that wait in a shard, both buffers.", ("shard",)),
    Metric("heartcast_offline_queue", "gauge", "Pushes kept in inboxes until they are acknowledged."),
    Metric("heartcast_acks_total", "counter", "Pushes acknowledged by their user."),
    Metric("heartcast_ack_redelivery_total", "counter", "Pushes sent again because no ACK came."),
    Metric(
        "heartcast_limiter_decisions_total",
        "counter",
        "What limiters said: refused, or degraded when it was decided without Redis.",
        ("limiter", "decision"),
    ),
    Metric(
        "heartcast_gate_verdicts_total",
        "counter",
        "Pushes that a gate ended or deferred, by gate and reason.",
        ("gate", "reason"),
    ),
    Metric(
        "heartcast_idempotent_replays_total",
        "counter",
        "Requests about pushes that were answered as before, by their Idempotency-Key.",
    ),
    Metric("heartcast_batch_size", "gauge", "Pushes that may leave together on a route.", ("route",)),
    Metric("heartcast_route_waiting", "gauge", "Pushes that wait for their turn on a route.", ("route",)),
    Metric(
        "heartcast_circuit_state",
        "gauge",
        "A dependency's breaker: 0 closed, 1 open, 2 half open.",
        ("circuit",),
    ),
    Metric(
        "heartcast_webhook_posts_total",
        "counter",
        "POSTs to webhooks by answer: 2xx to 5xx, or no_answer.",
        ("result",),
    ),
    Metric("heartcast_route_retries_total", "counter", "Tries of pushes on a route beyond the first."),
    Metric("heartcast_fallbacks_total", "counter", "Pushes that went on to their fallback."),
    # This collector itself.
    Metric("heartcast_metric_read_errors_total", "counter", "Readers that raised during a scrape."),
    Metric("heartcast_metric_children_folded", "gauge", "Children beyond 200 in this scrape, all metrics."),
)

LARGEST = frozenset(
    (
        "heartcast_build_info",
        "heartcast_uptime_seconds",
        "heartcast_event_loop_lag_seconds",
        "heartcast_hot_items",
        "heartcast_taste_users",
        "heartcast_taste_items",
        "process_start_time_seconds",
        "process_max_fds",
    )
)
"""Gauges of which several processes show the largest: each has its own view of the same thing,
or adding them up would mean nothing. All but ``SMALLEST`` are added up otherwise."""

SMALLEST = frozenset(("push_service_sla_ratio",))
"""Gauges of which several processes show the smallest: what is worst must not hide."""

_BY_NAME = {metric.name: metric for metric in CATALOGUE}

Values = Mapping[Labels, float]
Histograms = Mapping[Labels, Histogram]


class Metrics(Collector):
    """Reads every bound value when it is scraped. One per system; there is no global registry.

    Args:
        with_process: Also export the standard ``process_*`` and ``python_gc_*`` metrics.
    """

    def __init__(self, *, with_process: bool = True) -> None:
        self._readers: dict[str, Callable[[], Values]] = {}
        self._histograms: dict[str, Callable[[], Histograms]] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        if with_process:
            self._registry.register(PROCESS_COLLECTOR)
            self._registry.register(GC_COLLECTOR)
        self.read_errors = 0
        """Readers that raised, since the start."""
        self._folded = 0
        self.bind("heartcast_metric_read_errors_total", lambda: self.read_errors)
        self.bind("heartcast_metric_children_folded", lambda: self._folded)

    def add(self, collector: Collector) -> None:
        """Export what another collector has, under its own names."""
        self._registry.register(collector)

    def bind(self, name: str, read: Callable[[], float | None]) -> None:
        """Export one value without labels.

        Args:
            read: Called at each scrape, on the scraping thread; None: absent this time.

        Raises:
            ValueError: the catalogue does not have the name in this form, or it is bound already.
        """
        self._check(name, has_labels=False, is_histogram=False)
        self._readers[name] = lambda: {} if (value := read()) is None else {(): value}

    def bind_each(self, name: str, read: Callable[[], Values]) -> None:
        """Export a value per combination of labels, which come in the catalogue's order.

        Raises:
            ValueError: the catalogue does not have the name in this form, or it is bound already.
        """
        self._check(name, has_labels=True, is_histogram=False)
        self._readers[name] = read

    def bind_histogram(self, name: str, read: Callable[[], Histograms]) -> None:
        """Export histograms of microseconds as seconds; the key is () where there are no labels.

        Raises:
            ValueError: the catalogue does not have the name as a histogram, or it is bound already.
        """
        self._check(name, has_labels=None, is_histogram=True)
        self._histograms[name] = read

    def _check(self, name: str, *, has_labels: bool | None, is_histogram: bool) -> None:
        metric = _BY_NAME.get(name)
        if metric is None:
            raise ValueError(f"{name}: not in the catalogue")
        if (metric.kind == "histogram") is not is_histogram:
            raise ValueError(f"{name}: is a {metric.kind}")
        if has_labels is not None and bool(metric.labels) is not has_labels:
            raise ValueError(f"{name}: has the labels {metric.labels}")
        if name in self._readers or name in self._histograms:
            raise ValueError(f"{name}: is bound already")

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The scrape: body and content type, in the format that ``accept`` asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def families(self) -> Iterable[Family]:
        """Everything that a scrape would show."""
        return self._registry.collect()

    def collect(self) -> Iterator[Family]:
        """What prometheus-client calls at each scrape."""
        self._folded = 0
        # The collector's own two come last in the catalogue, when they are known.
        for metric in CATALOGUE:
            try:
                family = self._family(metric)
            except Exception:
                # A broken reader must not blind the operator to everything else.
                self.read_errors += 1
                continue
            if family is not None:
                yield family

    def _family(self, metric: Metric) -> Family | None:
        if (read_histograms := self._histograms.get(metric.name)) is not None:
            return _histogram_family(metric, read_histograms())
        if (read := self._readers.get(metric.name)) is None:
            return None
        values = read()
        if len(values) > MAX_CHILDREN:
            self._folded += len(values) - MAX_CHILDREN
            values = _fold(metric, values)
        return _family_of(metric, values.items())


def _fold(metric: Metric, values: Values) -> Values:
    """The first 200 children; what a counter's others counted is kept as one sum."""
    pairs = list(values.items())
    kept = dict(pairs[:MAX_CHILDREN])
    if metric.kind == "counter":
        # The sum of gauges (ratios, states, sizes) would mean nothing.
        kept[(OTHER,) * len(metric.labels)] = sum(value for _, value in pairs[MAX_CHILDREN:])
    return kept


def _family_of(metric: Metric, pairs: Iterable[tuple[Labels, float]]) -> Family:
    family_type = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = family_type(metric.name, metric.help, labels=metric.labels)
    for labels, value in pairs:
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name}: expected the labels {metric.labels}, got {labels}")
        family.add_metric(labels, value)
    return family


def _histogram_family(metric: Metric, histograms: Histograms) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, histogram in histograms.items():
        family.add_metric(labels, _cumulative(histogram), sum_value=histogram.sum / 1e6)
    return family


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    """Counts at or below each bucket's border; fine buckets count where their top falls."""
    borders_us = [round(border * 1e6) for border in LATENCY_BUCKETS_S]
    counts = [0] * (len(borders_us) + 1)
    slot = 0
    for top, n in histogram.buckets():
        while slot < len(borders_us) and top > borders_us[slot]:
            slot += 1
        counts[slot] += n
    rows: list[tuple[str, float]] = []
    total = 0
    for border, n in zip((*map(str, LATENCY_BUCKETS_S), "+Inf"), counts, strict=True):
        total += n
        rows.append((border, total))
    return rows
