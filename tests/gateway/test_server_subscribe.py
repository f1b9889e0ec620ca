"""The server API about sessions: what a client gets that was subscribed from outside."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect

from heartcast.testing.realtime import RealtimeServer, realtime_server

COUNT = b'{"target_id":"post_1","count":3,"version":3}'


@pytest.fixture
async def server() -> AsyncIterator[RealtimeServer]:
    async with realtime_server() as running:
        yield running


async def _call(server: RealtimeServer, method: str, **body: object) -> Any:
    async with httpx2.AsyncClient() as http:
        answer = await http.post(f"{server.http_url}/api/{method}", json=body)
    return answer.json()


async def _connected(server: RealtimeServer, socket: ClientConnection) -> None:
    await socket.send(json.dumps({"id": 1, "connect": {"data": {"user": "u1"}}}))
    await socket.recv()


async def _pushes(socket: ClientConnection, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        found += [json.loads(line)["push"] for line in str(await socket.recv()).split("\n")]
    return found


async def test_a_cache_channel_sends_its_latest_to_whom_the_server_subscribes(server: RealtimeServer) -> None:
    server.hub.seed("hearts", lambda channel, done: done(COUNT))
    async with connect(server.websocket_url) as socket:
        await _connected(server, socket)

        assert await _call(server, "subscribe", user="u1", channel="hearts:post_1") == {"result": {}}
        subscribed, latest = await _pushes(socket, 2)

    assert "subscribe" in subscribed
    assert latest["channel"] == "hearts:post_1"
    assert latest["pub"]["data"]["count"] == 3


@pytest.mark.parametrize("skips", [False, True])
async def test_an_inbox_takes_no_publication_and_says_so_for_good(
    server: RealtimeServer, *, skips: bool
) -> None:
    answer = await _call(server, "publish", channel="inbox:#u1", data=1, skip_history=skips)

    # 108 is not temporary: a client that is told 100 would try again and again.
    assert answer["error"]["code"] == 108
    assert "POST /push" in answer["error"]["message"]
