"""What a real server tells those who watch it."""

import json
import shutil
import subprocess
from urllib.request import Request, urlopen

from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from heartcast.testing.server import RunningServer


def get(server: RunningServer, path: str) -> bytes:
    with urlopen(server.url + path) as answer:
        return answer.read()


def values(server: RunningServer) -> dict[str, float]:
    """Samples by name and labels as they are written: ``name{label="value"}``."""
    return {
        sample.name + str(sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(get(server, "/metrics").decode())
        for sample in family.samples
    }


def heart(server: RunningServer, target: str, user: str) -> None:
    body = json.dumps({"target_id": target, "user_id": user}).encode()
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{server.url}/api/v1/hearts", body, headers)) as answer:
        assert answer.status in (200, 201)


def test_hearts_are_counted_by_what_they_did(server: RunningServer) -> None:
    before = values(server)
    for user in ("a", "b", "a"):
        heart(server, "counted", user)
    after = values(server)
    name = "heartcast_hearts_total['{}']".format
    assert after[name("added")] - before[name("added")] == 2
    hot = "heartcast_http_requests_total['hot']"
    assert after[hot] - before[hot] == 3


def test_no_reader_fails_and_nothing_is_folded(server: RunningServer) -> None:
    found = values(server)
    assert found["heartcast_metric_read_errors_total[]"] == 0
    assert found["heartcast_metric_children_folded[]"] == 0


def test_prometheus_own_linter_finds_no_fault(server: RunningServer) -> None:
    body = get(server, "/metrics")
    assert body.endswith(b"\n")
    if promtool := shutil.which("promtool"):
        done = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")


def test_the_panel_has_the_four_figures_of_the_page(server: RunningServer) -> None:
    figures = json.loads(get(server, "/api/v1/panel"))
    assert set(figures["rates"]) >= {"hearts", "deliveries"}
    assert set(figures["gauges"]) >= {"connections", "p99_ms"}


def test_a_running_server_is_live_and_ready(server: RunningServer) -> None:
    assert json.loads(get(server, "/livez")) == {"status": "live"}
    assert json.loads(get(server, "/readyz")) == {"status": "ready"}


def test_its_log_has_no_line_per_request_and_no_token(server: RunningServer) -> None:
    body = json.dumps({"user_id": "u456"}).encode()
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{server.url}/api/v1/dev/token", body, headers)) as answer:
        token = json.load(answer)["token"]
    before = server.log.read_text()
    with urlopen(
        Request(f"{server.url}/api/v1/panel", headers={"Authorization": f"Bearer {token}"})
    ) as answer:
        assert answer.status == 200
    heart(server, "quiet", "u456")
    assert server.log.read_text() == before
    assert token not in before


def test_streams_and_sockets_are_told_apart(server: RunningServer) -> None:
    sockets, streams = "heartcast_ws_connections[]", "heartcast_sse_connections[]"
    with (
        urlopen(f"{server.url}/api/v1/stream?channel=public:a") as stream,
        connect(server.websocket_url),
    ):
        assert stream.readline().startswith(b"retry:")
        during = values(server)

    assert (during[sockets], during[streams]) == (1, 1)
    assert during["heartcast_outbound_bytes[]"] == 0
