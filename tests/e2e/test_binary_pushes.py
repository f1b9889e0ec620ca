"""Pushes to a client that speaks ``heartcast.v1``, from the request to the acknowledgement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from heartcast.testing import RunningServer
from heartcast.wire import v1

PATIENCE_S = 20


async def push(server: RunningServer, title: str) -> str:
    body = {"user_id": "u1", "template": "news_v2", "payload": {"title": title}}
    answer = await asyncio.to_thread(httpx2.post, f"{server.url}/push", json=body)
    return str(answer.json()["id"])


async def read(socket: ClientConnection) -> v1.ServerFrame:
    async with asyncio.timeout(PATIENCE_S):
        message = await socket.recv()
    assert isinstance(message, bytes)
    return v1.read_server(message)


async def messages(socket: ClientConnection, count: int) -> list[v1.Published]:
    found: list[v1.Published] = []
    while len(found) < count:
        batch = (await read(socket)).batch
        assert batch is not None
        found += batch.messages
    return found


@asynccontextmanager
async def inbox(
    server: RunningServer, resume: v1.Position | None = None
) -> AsyncIterator[tuple[ClientConnection, v1.Subscribed]]:
    async with connect(server.websocket_url, subprotocols=[Subprotocol("heartcast.v1")]) as socket:
        await say(socket, 1, hello=v1.Hello(user="u1"))
        subscribed = (await say(socket, 2, subscribe=v1.Subscribe("inbox:#u1", resume=resume))).subscribed
        assert subscribed is not None
        yield socket, subscribed


async def say(socket: ClientConnection, number: int, **body: Any) -> v1.Reply:
    await socket.send(v1.write(v1.ClientFrame(number, **body)))
    reply = (await read(socket)).reply
    assert reply is not None
    assert reply.id == number
    return reply


async def state_of(server: RunningServer, push_id: str) -> str:
    answer = await asyncio.to_thread(httpx2.get, f"{server.url}/api/v1/pushes/{push_id}")
    return str(answer.json()["status"])


async def test_what_was_acknowledged_up_to_a_place_never_comes_again(server: RunningServer) -> None:
    async with inbox(server) as (socket, subscribed):
        assert subscribed.position is not None
        epoch = subscribed.position.epoch
        ids = [await push(server, f"n{number}") for number in range(4)]
        got = await messages(socket, 4)
        assert [made.id for made in got] == ids
        assert [made.offset for made in got] == [1, 2, 3, 4]
        assert (await say(socket, 3, ack=v1.Ack(v1.Position(2, epoch)))).done is not None
        reject = v1.Nak(ids[2], reject=True, reason="no room")
        assert (await say(socket, 4, nak=reject)).done is not None
        assert [await state_of(server, push_id) for push_id in ids] == [
            "delivered",
            "delivered",
            "dead",
            "sent",
        ]
    async with inbox(server, v1.Position(0, epoch)) as (socket, subscribed):
        assert subscribed.resumed
        assert [made.id for made in subscribed.messages] == [ids[3]]
        assert (await say(socket, 3, ack=v1.Ack(ids=[ids[3]]))).done is not None
        assert await state_of(server, ids[3]) == "delivered"
    letters = await asyncio.to_thread(httpx2.get, f"{server.url}/api/v1/dead-letters/{ids[2]}")
    assert letters.json()["detail"] == "no room"
