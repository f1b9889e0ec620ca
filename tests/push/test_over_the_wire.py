"""A push through a real server, killed in between, to a client that comes and goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import websockets

from heartcast.api.auth import Authenticator
from heartcast.app.secret import with_secret
from heartcast.app.settings import Settings
from heartcast.core.clock import SystemClock
from heartcast.testing.server import RunningServer


def token_for(user: str, folder: Path) -> str:
    settings = with_secret(Settings(data_dir=str(folder)))
    return Authenticator(settings.auth, SystemClock(), is_open=True).issue(user, ttl_s=600.0)


def call(server: RunningServer, path: str, body: Any = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    with urlopen(Request(server.url + path, data, {"content-type": "application/json"})) as answer:
        return json.load(answer)


def push(server: RunningServer, title: str) -> str:
    body = {"user_id": "ann", "template": "news_v2", "payload": {"title": title}}
    return call(server, "/push", body)["id"]  # type: ignore[no-any-return]


async def has_state(server: RunningServer, push_id: str, status: str) -> None:
    async with asyncio.timeout(10):
        while (await asyncio.to_thread(call, server, f"/api/v1/pushes/{push_id}"))["status"] != status:
            await asyncio.sleep(0)


class Client:
    """As much of the Centrifugo protocol as one inbox needs."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self._lines: list[str] = []

    async def read(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while not self._lines:
                self._lines = [line for line in str(await self._socket.recv()).split("\n") if line != "{}"]
        return json.loads(self._lines.pop(0))  # type: ignore[no-any-return]

    async def send(self, command: dict[str, Any]) -> None:
        await self._socket.send(json.dumps(command))

    async def subscribe(self, token: str, **recover: Any) -> dict[str, Any]:
        await self.send({"id": 1, "connect": {"token": token}})
        await self.read()
        await self.send({"id": 2, "subscribe": {"channel": "inbox:#ann", **recover}})
        return (await self.read())["subscribe"]  # type: ignore[no-any-return]


def titles(answer: dict[str, Any]) -> list[tuple[str, int]]:
    return [(pub["data"]["title"], pub["offset"]) for pub in answer.get("publications", [])]


async def test_what_was_sent_before_kill_9_is_caught_up_recovered_and_acknowledged(
    serve: Callable[..., RunningServer], tmp_path: Path
) -> None:
    server = await asyncio.to_thread(serve, "--data-dir", str(tmp_path))
    one, two = push(server, "one"), push(server, "two")
    await has_state(server, two, "sent")
    await asyncio.to_thread(server.kill)

    server = await asyncio.to_thread(serve, "--data-dir", str(tmp_path))
    token = token_for("ann", tmp_path)
    async with websockets.connect(server.websocket_url) as socket:
        client = Client(socket)
        first = await client.subscribe(token)
        assert titles(first) == [("one", 1), ("two", 2)]

        three = push(server, "three")
        publication = (await client.read())["push"]["pub"]
        assert (publication["offset"], publication["tags"]) == (3, {"id": three})
        await client.send({"send": {"data": {"ack": [one, three]}}})
        await has_state(server, three, "delivered")

    async with websockets.connect(server.websocket_url) as socket:
        again = await Client(socket).subscribe(token, recover=True, offset=1, epoch=first["epoch"])
        assert (again["recovered"], titles(again)) == (True, [("two", 2)])

    async with websockets.connect(server.websocket_url) as socket:
        client = Client(socket)
        lost = await client.subscribe(token, recover=True, offset=1, epoch="another life")
        assert not lost.get("recovered", False)
        made_up = (await client.read())["push"]["pub"]
        assert "offset" not in made_up
        assert made_up["tags"] == {"id": two, "redelivered": "1"}
