"""``kill -9`` in the middle of a broadcast: everybody gets it, nobody twice, and the figures add up.

``SOAK_KILLS`` sets the number of kills.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from heartcast.testing.server import RunningServer

KILLS = int(os.environ.get("SOAK_KILLS", "2"))
USERS = 1_000


class Client:
    """One kept connection to a server."""

    def __init__(self, server: RunningServer) -> None:
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=20)

    def close(self) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        raw = None if body is None else json.dumps(body)
        self._connection.request(method, path, raw, {"content-type": "application/json"} if raw else {})
        answer = self._connection.getresponse()
        document = json.loads(answer.read())
        assert answer.status < 300, document
        return document


async def test_everybody_gets_a_broadcast_once_whenever_the_server_is_killed(
    serve: Callable[..., RunningServer], tmp_path: Path
) -> None:
    random = Random(11)
    server = await asyncio.to_thread(serve, "--data-dir", str(tmp_path))
    client = Client(server)
    for first in range(0, USERS, 500):
        client.call("POST", "/api/v1/topics/all/subscribers", {"add": list(range(first, first + 500))})
    asked = {"topic": "all", "template": "news_v2", "payload": {"title": "x"}, "rate": USERS / KILLS}
    broadcast = client.call("POST", "/api/v1/broadcasts", asked)
    path = f"/api/v1/broadcasts/{broadcast['id']}"

    for _ in range(KILLS):
        reached = client.call("GET", path)["figures"]["accepted"]
        async with asyncio.timeout(20):
            while client.call("GET", path)["figures"]["accepted"] == reached:
                await asyncio.sleep(0)
        # A moment, not a wait for something: where it strikes is what is tested.
        await asyncio.sleep(random.random() * 0.2)
        await asyncio.to_thread(server.kill)
        client.close()
        server = await asyncio.to_thread(serve, "--data-dir", str(tmp_path))
        client = Client(server)

    async with asyncio.timeout(30):
        while (state := client.call("GET", path))["status"] != "done":
            await asyncio.sleep(0.02)
    figures = state["figures"]
    assert figures["accepted"] == USERS == sum(figures.values()) - figures["accepted"]
    assert figures["waiting"] == USERS
    inboxes = [client.call("GET", f"/api/v1/users/{user}/inbox")["items"] for user in range(USERS)]
    assert {len(inbox) for inbox in inboxes} == {1}
    client.close()
