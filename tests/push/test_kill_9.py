"""``kill -9`` while pushes are accepted: what was answered with 202 reaches its user, in order.

``SOAK_KILLS`` sets the number of cycles.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import websockets

from heartcast.api.auth import Authenticator
from heartcast.app.secret import with_secret
from heartcast.app.settings import Settings
from heartcast.core.clock import SystemClock, rfc3339
from heartcast.testing.server import RunningServer

KILLS = int(os.environ.get("SOAK_KILLS", "2"))
USERS = 4


class Sender(threading.Thread):
    """Posts as fast as it is answered until the server is gone; remembers what was accepted."""

    def __init__(self, server: RunningServer, accepted: dict[str, list[str]], random: Random) -> None:
        super().__init__()
        self._server = server
        self._accepted = accepted
        self._random = random
        self.started = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._server.host, self._server.port, timeout=20)
        try:
            while True:
                self._post(connection)
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()

    def _post(self, connection: http.client.HTTPConnection) -> None:
        user = f"u{self._random.randrange(USERS)}"
        body: dict[str, Any] = {"user_id": user, "template": "news_v2", "payload": {"title": "x"}}
        if self._random.random() < 0.1:
            # Kept apart: what waits for a time is not in the order of acceptance.
            body |= {"user_id": f"later-{user}", "send_at": rfc3339(SystemClock.wall_ms() + 86_400_000)}
        connection.request("POST", "/push", json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        push = json.loads(answer.read())
        assert answer.status == 202, push
        self._accepted.setdefault(body["user_id"], []).append(push["id"])
        self.started.set()


async def receive(server: RunningServer, user: str, token: str, wanted: set[str]) -> list[str]:
    """Everything the user gets until nothing that is wanted is missing; all is acknowledged."""
    got: list[str] = []
    async with asyncio.timeout(30), websockets.connect(server.websocket_url) as socket:
        await socket.send(json.dumps({"id": 1, "connect": {"token": token}}))
        await socket.send(json.dumps({"id": 2, "subscribe": {"channel": f"inbox:#{user}"}}))
        while not wanted <= set(got):
            for line in str(await socket.recv()).split("\n"):
                reply = json.loads(line)
                publications = reply.get("subscribe", {}).get("publications", [])
                if "push" in reply:
                    publications = [reply["push"]["pub"]]
                new = [pub["tags"]["id"] for pub in publications]
                got += [push_id for push_id in new if push_id not in got]
                if new:
                    await socket.send(json.dumps({"send": {"data": {"ack": new}}}))
                elif line == "{}":
                    await socket.send("{}")
    return got


def state(server: RunningServer, push_id: str) -> str:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    connection.request("GET", f"/api/v1/pushes/{push_id}")
    status = json.loads(connection.getresponse().read()).get("status")
    connection.close()
    return str(status)


async def test_every_push_that_was_accepted_ends_once_and_in_order_whenever_the_server_is_killed(
    serve: Callable[..., RunningServer], tmp_path: Path
) -> None:
    random = Random(7)
    accepted: dict[str, list[str]] = {}
    for _ in range(KILLS):
        server = await asyncio.to_thread(serve, "--data-dir", str(tmp_path))
        sender = Sender(server, accepted, random)
        sender.start()
        await asyncio.to_thread(sender.started.wait, 10)
        # A moment, not a wait for something: where it strikes is what is tested.
        await asyncio.sleep(random.random() * 0.4)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(sender.join)

    server = await asyncio.to_thread(serve, "--data-dir", str(tmp_path))
    settings = with_secret(Settings(data_dir=str(tmp_path)))
    authenticator = Authenticator(settings.auth, SystemClock(), is_open=True)
    total = 0
    for user, ids in accepted.items():
        if user.startswith("later-"):
            assert {await asyncio.to_thread(state, server, push_id) for push_id in ids} == {"deferred"}
            continue
        got = await receive(server, user, authenticator.issue(user, ttl_s=600.0), set(ids))
        # Beside these only what was accepted when the answer was cut off.
        assert len(got) - len(ids) <= KILLS
        assert [push_id for push_id in got if push_id in set(ids)] == ids
        assert got == sorted(got)
        async with asyncio.timeout(10):
            while await asyncio.to_thread(state, server, ids[-1]) != "delivered":
                await asyncio.sleep(0)
        total += len(ids)
    assert total > KILLS
