"""``kill -9`` between publishing and reading, and a stop while readers wait."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heartcast.testing.server import RunningServer


def call(server: RunningServer, method: str, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    raw = None if body is None else json.dumps(body)
    connection.request(method, path, raw, {"content-type": "application/json"} if raw else {})
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()
    assert answer.status < 300, document
    return document


def test_what_was_published_and_not_acknowledged_survives_a_kill(
    serve: Callable[..., RunningServer], tmp_path: Path
) -> None:
    environ = {"HEARTCAST_STREAMS__IDLE_S": "0.01"}
    server = serve("--data-dir", str(tmp_path), environ=environ)
    ids = [call(server, "POST", "/publish", {"topic": "news", "data": n})["id"] for n in range(20)]
    given = call(server, "GET", "/api/v1/streams/news?group=a&count=12")["items"]
    done = [entry["id"] for entry in given[:7]]
    assert call(server, "POST", "/api/v1/streams/news/ack", {"group": "a", "ids": done})["acknowledged"] == 7
    server.kill()

    server = serve("--data-dir", str(tmp_path), environ=environ)
    items = call(server, "GET", "/api/v1/streams/news?group=a&count=100&wait=5")["items"]
    assert [entry["id"] for entry in items] == ids[7:]
    assert [entry["deliveries"] for entry in items] == [2] * 5 + [1] * 8
    others = call(server, "GET", "/api/v1/streams/news?group=b&count=100")["items"]
    assert [entry["id"] for entry in others] == ids


def test_a_reader_that_waits_does_not_hold_up_a_stop(serve: Callable[..., RunningServer]) -> None:
    server = serve("--in-memory")
    reader = http.client.HTTPConnection(server.host, server.port, timeout=20)
    reader.request("GET", "/api/v1/streams/news?group=a&wait=25")
    # Once this is answered the reader before it has been heard.
    call(server, "GET", "/api/v1/streams/other?group=a&wait=0.2")
    began_s = time.monotonic()
    server.stop()
    answer = reader.getresponse()
    assert (answer.status, json.loads(answer.read())) == (200, {"items": []})
    reader.close()
    assert time.monotonic() - began_s < 5


def test_what_is_published_and_waited_for_is_counted(server: RunningServer) -> None:
    call(server, "POST", "/publish", {"topic": "counted", "data": 1})
    call(server, "GET", "/api/v1/streams/counted?group=a")
    call(server, "PUT", "/api/v1/topics/counted/subscribers/ann")
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    asked = {"topic": "counted", "template": "news_v2", "payload": {"title": "x"}, "send_at": later}
    call(server, "POST", "/api/v1/broadcasts", asked)
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    for line in (
        "heartcast_stream_published_total 1.0",
        "heartcast_stream_delivered_total 1.0",
        "heartcast_stream_readers 0.0",
        "heartcast_topic_subscriptions 1.0",
        'heartcast_broadcasts{status="scheduled"} 1.0',
    ):
        assert line in lines
