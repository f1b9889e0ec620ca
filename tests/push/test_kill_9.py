"""``kill -9`` while pushes are accepted: what was answered with 202 reaches its user, in order.

On both journals that survive it. ``SOAK_KILLS`` sets the number of cycles.
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

import pytest

from heartcast.api.auth import Authenticator
from heartcast.app.settings import load
from heartcast.core.clock import SystemClock, rfc3339
from heartcast.testing.push_client import PushClient
from heartcast.testing.redis_server import RedisServer
from heartcast.testing.server import RunningServer

KILLS = int(os.environ.get("SOAK_KILLS", "5"))
USERS = 4
MOST_PER_CYCLE = 40
SECRET = "a secret that outlives its servers"


class Sender(threading.Thread):
    """Posts as fast as it is answered until the server is gone; remembers what was accepted.

    Args:
        wanted: After so many accepted pushes ``has_enough`` is set, and it goes on.
    """

    def __init__(
        self, server: RunningServer, accepted: dict[str, list[str]], random: Random, wanted: int
    ) -> None:
        super().__init__()
        self._server = server
        self._accepted = accepted
        self._random = random
        self._wanted = wanted
        self.has_enough = threading.Event()

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
        if answer.status == 503 and push["code"] == "shard_moving":
            return  # only the owner takes what waits for a time, and the dead one's lease is not over yet
        assert answer.status == 202, push
        self._accepted.setdefault(body["user_id"], []).append(push["id"])
        self._wanted -= 1
        if not self._wanted:
            self.has_enough.set()


async def receive(server: RunningServer, user: str, token: str, wanted: set[str]) -> list[str]:
    """Everything the user gets until nothing that is wanted is missing; all is acknowledged."""
    async with PushClient(lambda: [server.websocket_url], user, token) as client:
        await client.has(wanted, 40)
        return client.got


def state(server: RunningServer, push_id: str) -> str:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    connection.request("GET", f"/api/v1/pushes/{push_id}")
    status = json.loads(connection.getresponse().read()).get("status")
    connection.close()
    return str(status)


async def becomes(server: RunningServer, push_id: str, wanted: str) -> None:
    """Wait until a push is in this state."""
    async with asyncio.timeout(20):
        while await asyncio.to_thread(state, server, push_id) != wanted:
            await asyncio.sleep(0.01)


@pytest.fixture(params=["sqlite", "redis"])
def start(
    request: pytest.FixtureRequest, serve: Callable[..., RunningServer], tmp_path: Path
) -> Callable[[], RunningServer]:
    """Starts a server on what the one before it left behind."""
    environ = {"HEARTCAST_AUTH__JWT_SECRET": SECRET}
    if request.param == "sqlite":
        return lambda: serve("--data-dir", str(tmp_path), environ=environ)
    valkey: RedisServer = request.getfixturevalue("valkey")
    environ |= {
        "HEARTCAST_CLUSTER__REDIS_URL": valkey.url,
        "HEARTCAST_CLUSTER__PREFIX": "kill9",
        "HEARTCAST_CLUSTER__LOCAL": '["hearts", "realtime"]',
        "HEARTCAST_CLUSTER__LEASE_S": "1.5",
        "HEARTCAST_CLUSTER__RENEW_S": "0.4",
        "HEARTCAST_CLUSTER__MARGIN_S": "0.3",
    }
    return lambda: serve("--in-memory", environ=environ)


@pytest.mark.timeout(60 + 10 * KILLS)
async def test_every_push_that_was_accepted_ends_once_and_in_order_whenever_the_server_is_killed(
    start: Callable[[], RunningServer],
) -> None:
    random = Random(7)
    accepted: dict[str, list[str]] = {}
    least = 0
    for _ in range(KILLS):
        server = await asyncio.to_thread(start)
        wanted = random.randint(1, MOST_PER_CYCLE)
        sender = Sender(server, accepted, random, wanted)
        sender.start()
        assert await asyncio.to_thread(sender.has_enough.wait, 20)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(sender.join)
        least += wanted
    assert sum(map(len, accepted.values())) >= least

    server = await asyncio.to_thread(start)
    authenticator = Authenticator(load(flags={"auth.jwt_secret": SECRET}).auth, SystemClock(), is_open=True)
    for user, ids in accepted.items():
        if user.startswith("later-"):
            for push_id in ids:
                await becomes(server, push_id, "deferred")
            continue
        got = await receive(server, user, authenticator.issue(user, ttl_s=600.0), set(ids))
        # Beside these only what was accepted when the answer was cut off.
        assert len(got) - len(ids) <= KILLS
        assert [push_id for push_id in got if push_id in set(ids)] == ids
        assert got == sorted(got)
        for push_id in ids:
            await becomes(server, push_id, "delivered")
