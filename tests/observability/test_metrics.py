"""What /metrics exports, and that a scrape can be trusted."""

import re
import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from heartcast.core.quantiles import Histogram
from heartcast.observability.metrics import CATALOGUE, LATENCY_BUCKETS_S, MAX_CHILDREN, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = metrics.render()[0].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(with_process=False)


def test_values_are_read_when_scraped_and_not_before(metrics: Metrics) -> None:
    reads = []
    metrics.bind("heartcast_publications_total", lambda: reads.append(1) or len(reads) * 10)
    assert reads == []
    assert value(metrics, "heartcast_publications_total") == 10
    assert value(metrics, "heartcast_publications_total") == 20


def test_labels_come_in_the_catalogues_order(metrics: Metrics) -> None:
    metrics.bind_each(
        "push_service_push_total", lambda: {("realtime", "success"): 7, ("realtime", "late"): 1}
    )
    assert value(metrics, "push_service_push_total", route="realtime", status="success") == 7
    assert value(metrics, "push_service_push_total", route="realtime", status="late") == 1


def test_a_name_that_nothing_is_bound_to_is_absent(metrics: Metrics) -> None:
    assert b"heartcast_ws_connections" not in metrics.render()[0]


def test_a_reader_that_has_nothing_to_say_is_absent_for_that_scrape(metrics: Metrics) -> None:
    metrics.bind("heartcast_event_loop_lag_seconds", lambda: None)
    assert value(metrics, "heartcast_event_loop_lag_seconds") is None


def test_a_reader_that_raises_loses_only_its_own_metric_and_is_counted(metrics: Metrics) -> None:
    metrics.bind("heartcast_ws_connections", lambda: 1 // 0)
    metrics.bind("heartcast_channels", lambda: 3)
    found = samples(metrics)
    assert ("heartcast_ws_connections", frozenset()) not in found
    assert found["heartcast_channels", frozenset()] == 3
    assert found["heartcast_metric_read_errors_total", frozenset()] == 1


def test_a_histogram_in_microseconds_is_exported_in_seconds_with_the_articles_buckets(
    metrics: Metrics,
) -> None:
    latency = Histogram()
    for us in (500, 2_000, 900_000, 9_000_000):
        latency.add(us)
    metrics.bind_histogram("push_service_push_latency_seconds", lambda: {("realtime",): latency})
    name = "push_service_push_latency_seconds"
    bucket = {
        le: value(metrics, f"{name}_bucket", route="realtime", le=le) for le in map(str, LATENCY_BUCKETS_S)
    }
    assert bucket["0.001"] == 1
    assert bucket["0.0025"] == 2
    assert bucket["1.0"] == 3
    assert bucket["5.0"] == 3
    assert value(metrics, f"{name}_bucket", route="realtime", le="+Inf") == 4
    assert value(metrics, f"{name}_count", route="realtime") == 4
    assert value(metrics, f"{name}_sum", route="realtime") == pytest.approx(9.9025)


def test_children_beyond_the_bound_of_a_counter_are_folded_and_their_sum_kept(metrics: Metrics) -> None:
    metrics.bind_each(
        "heartcast_disconnects_total", lambda: {(str(code),): 1 for code in range(MAX_CHILDREN + 50)}
    )
    assert value(metrics, "heartcast_disconnects_total", code="other") == 50
    assert value(metrics, "heartcast_metric_children_folded") == 50


def test_children_beyond_the_bound_of_a_gauge_are_left_out(metrics: Metrics) -> None:
    metrics.bind_each(
        "heartcast_shard_depth", lambda: {(str(shard),): 1 for shard in range(MAX_CHILDREN + 1)}
    )
    assert value(metrics, "heartcast_shard_depth", shard="other") is None
    assert value(metrics, "heartcast_metric_children_folded") == 1


@pytest.mark.parametrize(
    ("bind", "name"),
    [
        ("bind", "heartcast_no_such_thing"),
        ("bind", "heartcast_shard_depth"),
        ("bind", "push_service_push_latency_seconds"),
        ("bind_each", "heartcast_channels"),
        ("bind_histogram", "heartcast_channels"),
    ],
)
def test_binding_a_name_in_a_form_that_the_catalogue_does_not_have_is_refused(
    metrics: Metrics, bind: str, name: str
) -> None:
    with pytest.raises(ValueError, match=name):
        getattr(metrics, bind)(name, dict)


def test_a_name_is_bound_once(metrics: Metrics) -> None:
    metrics.bind("heartcast_channels", lambda: 1)
    with pytest.raises(ValueError, match="bound already"):
        metrics.bind("heartcast_channels", lambda: 2)


def test_every_name_is_valid_unique_and_explained() -> None:
    names = [metric.name for metric in CATALOGUE]
    assert len(set(names)) == len(names)
    for metric in CATALOGUE:
        assert re.fullmatch(r"(heartcast|push_service|resilience4j)_[a-z0-9_]+", metric.name)
        assert metric.name.endswith("_total") is (metric.kind == "counter")
        assert metric.help.endswith(".")


def test_no_label_could_hold_a_user_or_a_target() -> None:
    labels = {label for metric in CATALOGUE for label in metric.labels}
    assert not labels & {
        "user",
        "user_id",
        "target",
        "target_id",
        "device",
        "channel",
        "client",
        "ip",
        "peer",
    }


def test_openmetrics_is_spoken_when_asked_for(metrics: Metrics) -> None:
    body, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_the_process_itself_is_exported_by_default() -> None:
    assert value(Metrics(), "process_resident_memory_bytes") > 1_000_000


def test_prometheus_own_linter_finds_no_fault_with_the_whole_catalogue(metrics: Metrics) -> None:
    for metric in CATALOGUE:
        if metric.name.startswith("heartcast_metric_"):
            continue
        labels = ("x",) * len(metric.labels)
        if metric.kind == "histogram":
            metrics.bind_histogram(metric.name, lambda labels=labels: {labels: Histogram()})
        elif labels:
            metrics.bind_each(metric.name, lambda labels=labels: {labels: 1})
        else:
            metrics.bind(metric.name, lambda: 1)
    body = metrics.render()[0]
    assert len(list(text_string_to_metric_families(body.decode()))) == len(CATALOGUE)
    if promtool := shutil.which("promtool"):
        done = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
