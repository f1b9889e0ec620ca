"""Several processes as one scrape."""

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from heartcast.core.quantiles import Histogram
from heartcast.observability.merging import merged, snapshot
from heartcast.observability.metrics import LARGEST, Metrics


def process(deliveries: int, uptime_s: float, latencies_us: list[int]) -> Metrics:
    metrics = Metrics()
    metrics.bind("heartcast_deliveries_total", lambda: deliveries)
    metrics.bind("heartcast_uptime_seconds", lambda: uptime_s)
    metrics.bind_each("heartcast_shard_depth", lambda: {("1",): deliveries, (f"only-{deliveries}",): 1})
    histogram = Histogram()
    for us in latencies_us:
        histogram.add(us)
    metrics.bind_histogram("push_service_push_latency_seconds", lambda: {("realtime",): histogram})
    return metrics


def values(text: bytes) -> dict[str, float]:
    return {
        sample.name + str(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_counts_are_added_and_what_has_no_sum_is_the_largest() -> None:
    processes = [process(3, 10.0, [500, 2_000]), process(4, 99.0, [500])]
    body, content_type = merged([snapshot(one) for one in processes])
    found = values(body)
    assert content_type.startswith("text/plain")
    assert found["heartcast_deliveries_total[]"] == 7
    assert found["heartcast_uptime_seconds[]"] == 99.0
    assert found["heartcast_shard_depth[('shard', '1')]"] == 7
    assert found["heartcast_shard_depth[('shard', 'only-3')]"] == 1
    assert found["push_service_push_latency_seconds_count[('route', 'realtime')]"] == 3
    assert found["push_service_push_latency_seconds_bucket[('le', '0.001'), ('route', 'realtime')]"] == 2
    assert found["process_resident_memory_bytes[]"] > 0


def test_one_process_merged_is_what_it_shows_itself() -> None:
    metrics = process(3, 10.0, [500])
    own, together = values(metrics.render()[0]), values(merged([snapshot(metrics)])[0])
    moving = {"process_cpu_seconds_total[]", "process_open_fds[]"}
    assert {name for name in own if "python_gc" not in name} - moving <= set(together)
    assert together["heartcast_deliveries_total[]"] == own["heartcast_deliveries_total[]"] == 3


def test_the_scraper_chooses_the_format() -> None:
    body, content_type = merged([snapshot(process(1, 1, []))], "application/openmetrics-text;version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_bytes_that_are_no_snapshot_are_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        merged([b"something else"])


def test_every_gauge_that_is_not_added_up_exists() -> None:
    from heartcast.observability.metrics import CATALOGUE

    known = {metric.name for metric in CATALOGUE} | {"process_start_time_seconds", "process_max_fds"}
    assert known >= LARGEST
