"""``kill -9`` between publishing and reading: what was answered with 202 reaches each group."""

from __future__ import annotations

import http.client
import json
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
