"""The stock client on a node whose Redis misbehaves: it ends with everything, or is told of the gap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from heartcast.core.errors import StoreUnavailable
from heartcast.realtime.log import Position
from heartcast.realtime.options import RealtimeOptions
from heartcast.realtime.shared import SharedByRedis
from heartcast.testing.pubsub_proxy import PubSubProxy
from heartcast.testing.realtime import RealtimeServer, realtime_server
from heartcast.testing.redis_server import RedisServer

pytestmark = pytest.mark.stock

OPTIONS = RealtimeOptions(compare_s=0.5, redis_timeout_s=1.0)


@pytest.fixture
async def valkey() -> AsyncIterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def publish(server: RealtimeServer, data: int) -> None:
    """As a publisher with a key: until it is in."""
    while True:
        answer: asyncio.Future[Position | StoreUnavailable] = asyncio.get_running_loop().create_future()
        server.hub.publish("feed:a", b"%d" % data, done=answer.set_result, key=f"k{data}")
        if isinstance(await answer, Position):
            return


async def publish_all(server: RealtimeServer, puppet: Any, numbers: Iterable[int]) -> None:
    """Publish and wait until the client has the last of them."""
    for number in numbers:
        await publish(server, number)
    while number not in seen(puppet):
        await puppet.until("publication")


def seen(puppet: Any) -> list[int]:
    return [event["data"] for event in puppet.events if event["event"] == "publication"]


async def subscribed(puppet: Any, server: RealtimeServer) -> None:
    await puppet.do("connect", url=server.websocket_url, options={})
    await puppet.until("connected")
    await puppet.do("subscribe", channel="feed:a", options={})
    await puppet.until("subscribed")


async def test_lost_messages_and_cut_connections_cost_it_nothing(puppet: Any, valkey: RedisServer) -> None:
    async with PubSubProxy("127.0.0.1", valkey.port) as proxy:
        shared = SharedByRedis(f"redis://127.0.0.1:{proxy.port}/0", OPTIONS)
        async with realtime_server(OPTIONS, shared=shared) as server:
            await subscribed(puppet, server)
            await publish_all(server, puppet, range(5))
            proxy.swallow(2)
            await publish_all(server, puppet, range(5, 10))
            await proxy.refuse()
            await proxy.heal()
            await publish_all(server, puppet, range(10, 17))
            proxy.swallow(2)
            await publish_all(server, puppet, range(17, 30))
            proxy.swallow(1)
            await publish_all(server, puppet, [30])  # the last of a channel that is quiet from now on

    assert seen(puppet) == list(range(31))
    assert proxy.swallowed == 5


async def test_a_redis_that_forgot_everything_is_a_declared_gap(puppet: Any, valkey: RedisServer) -> None:
    shared = SharedByRedis(valkey.url, OPTIONS)
    async with realtime_server(OPTIONS, shared=shared) as server:
        await subscribed(puppet, server)
        await publish(server, 1)
        await puppet.until("publication")
        valkey.restart()
        again = await puppet.until("subscribed")
        await publish(server, 2)
        await puppet.until("publication")

    assert again["wasRecovering"] is True
    assert again["recovered"] is False
    assert seen(puppet) == [1, 2]
