"""The server API about sessions: what a client gets that was subscribed from outside."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from heartcast.testing import ManualClock
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


async def _connected(server: RealtimeServer, socket: ClientConnection, user: str = "u1") -> None:
    await socket.send(json.dumps({"id": 1, "connect": {"data": {"user": user}}}))
    await socket.recv()


def _pass_time(server: RealtimeServer, seconds: float) -> None:
    """Let time pass for clients that answer their pings."""
    for _ in range(round(seconds / 0.5)):
        server.advance(0.5)
        for session in server.hub.sessions():
            session.awaits_pong = False


async def _end_of(socket: ClientConnection) -> int | None:
    with suppress(ConnectionClosed):
        while True:
            await socket.recv()
    return socket.close_code


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


async def test_a_refresh_ends_a_users_connections_later_or_now_and_nobody_elses() -> None:
    clock = ManualClock()
    in_a_minute = clock.wall_ms() // 1000 + 60
    async with realtime_server(clock=clock) as server, AsyncExitStack() as stack:
        later, now, other = [await stack.enter_async_context(connect(server.websocket_url)) for _ in range(3)]
        await _connected(server, later, "u1")
        await _connected(server, now, "u2")
        await _connected(server, other, "u3")

        assert await _call(server, "refresh", user="u1", expire_at=in_a_minute) == {"result": {}}
        assert await _call(server, "refresh", user="u2", expired=True) == {"result": {}}
        assert await _end_of(now) == 3005
        _pass_time(server, 60.0)
        assert {session.user for session in server.hub.sessions()} == {"u1", "u3"}

        _pass_time(server, 30.0)  # a ping round more than it was given
        assert await _end_of(later) == 3005
        assert {session.user for session in server.hub.sessions()} == {"u3"}
