"""/metrics, the panel's figures, and the two probes."""

import json

import pytest

from heartcast.api.operation import routes
from heartcast.api.route import Answer, Call
from heartcast.observability.metrics import Metrics
from heartcast.observability.panel import Panel


class Operation:
    def __init__(self) -> None:
        self.metrics = Metrics(with_process=False)
        self.panel = Panel({"hearts": lambda: 3}, {"connections": lambda: 2})
        self.why_not_ready: str | None = None
        self._handlers = {
            route.path: route.handler
            for route in routes(self.metrics, self.panel, lambda: self.why_not_ready)
        }

    def get(self, path: str, *headers: tuple[bytes, bytes]) -> Answer:
        answer = self._handlers[path](Call(headers=list(headers), respond=lambda answer: None))
        assert isinstance(answer, Answer)
        return answer


@pytest.fixture
def operation() -> Operation:
    return Operation()


@pytest.mark.parametrize("path", ["/metrics", "/actuator/prometheus"])
def test_metrics_are_served_under_both_names(operation: Operation, path: str) -> None:
    operation.metrics.bind("heartcast_channels", lambda: 5)
    answer = operation.get(path)
    assert answer.status == 200
    assert answer.content_type.startswith(b"text/plain")
    assert b"\nheartcast_channels 5.0\n" in answer.body


def test_the_scraper_chooses_the_format(operation: Operation) -> None:
    answer = operation.get("/metrics", (b"accept", b"application/openmetrics-text;version=1.0.0"))
    assert answer.content_type.startswith(b"application/openmetrics-text")


def test_the_panel_shows_the_last_sample(operation: Operation) -> None:
    operation.panel.sample(10.0)
    figures = json.loads(operation.get("/api/v1/panel").body)
    assert figures["gauges"] == {"connections": 2}
    assert figures["rates"] == {"hearts": 0.0}
    assert figures["history"] == {"hearts": [0.0], "connections": [2]}


def test_it_is_live_while_it_answers_and_ready_when_traffic_is_wanted(operation: Operation) -> None:
    assert operation.get("/livez").status == 200
    assert operation.get("/readyz").status == 200


def test_while_draining_it_is_live_but_not_ready_and_says_why(operation: Operation) -> None:
    operation.why_not_ready = "heartcast is stopping"
    answer = operation.get("/readyz")
    assert answer.status == 503
    assert json.loads(answer.body)["code"] == "not_ready"
    assert json.loads(answer.body)["detail"] == "heartcast is stopping"
    assert dict(answer.headers)[b"retry-after"] == b"1"
    assert operation.get("/livez").status == 200


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/panel", "/livez", "/readyz"])
def test_no_cache_may_keep_what_is_true_only_now(operation: Operation, path: str) -> None:
    assert (b"cache-control", b"no-store") in operation.get(path).headers
