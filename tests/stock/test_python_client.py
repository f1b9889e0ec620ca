"""PyPI ``centrifuge-python``, unmodified, against our port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from centrifuge import (
    Client,
    ClientEventHandler,
    PublicationContext,
    ReplyError,
    SubscribedContext,
    SubscriptionEventHandler,
)

from heartcast.testing.realtime import RealtimeServer, realtime_server
from heartcast.wire.envelopes import FORCE_RECONNECT

pytestmark = pytest.mark.stock


class Watcher(SubscriptionEventHandler):
    """Keeps what a subscription is told."""

    def __init__(self) -> None:
        self.publications: asyncio.Queue[PublicationContext] = asyncio.Queue()
        self.subscribed: asyncio.Queue[SubscribedContext] = asyncio.Queue()

    async def on_publication(self, ctx: PublicationContext) -> None:
        self.publications.put_nowait(ctx)

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        self.subscribed.put_nowait(ctx)

    async def data(self) -> Any:
        async with asyncio.timeout(10):
            return (await self.publications.get()).pub.data

    async def answer(self) -> SubscribedContext:
        async with asyncio.timeout(10):
            return await self.subscribed.get()


@asynccontextmanager
async def connected(server: RealtimeServer, **options: Any) -> AsyncIterator[Client]:
    client = Client(
        server.websocket_url,
        events=ClientEventHandler(),
        min_reconnect_delay=0.02,
        max_reconnect_delay=0.05,
        **options,
    )
    await client.connect()
    await client.ready()
    try:
        yield client
    finally:
        await client.disconnect()


async def test_subscribes_publishes_and_reads_history_presence_and_rpc() -> None:
    async with realtime_server() as server, connected(server, data={"user": "u1"}) as client:
        server.hub.rpc["echo"] = lambda session, data, done: done(data)
        watcher = Watcher()
        sub = client.new_subscription("feed:a", events=watcher)
        await sub.subscribe()
        await watcher.answer()
        await sub.publish({"n": 1})
        seen = await watcher.data()
        page = await sub.history(limit=10)
        presence = await sub.presence()
        stats = await sub.presence_stats()
        echoed = await client.rpc("echo", {"x": [1, 2]})

    assert seen == {"n": 1}
    assert [publication.data for publication in page.publications] == [{"n": 1}]
    assert [info.user for info in presence.clients.values()] == ["u1"]
    assert (stats.num_clients, stats.num_users) == (1, 1)
    assert echoed.data == {"x": [1, 2]}


async def test_recovers_what_it_missed_after_a_reconnect() -> None:
    async with realtime_server() as server, connected(server) as client:
        watcher = Watcher()
        sub = client.new_subscription("feed:a", events=watcher)
        await sub.subscribe()
        await watcher.answer()
        server.hub.publish("feed:a", b"1")
        first = await watcher.data()
        for session in list(server.hub.sessions()):
            session.close(FORCE_RECONNECT)
        server.hub.publish("feed:a", b"2")
        server.hub.publish("feed:a", b"3")
        again = await watcher.answer()
        server.hub.publish("feed:a", b"4")
        rest = [await watcher.data() for _ in range(3)]

    assert again.was_recovering
    assert again.recovered
    assert [first, *rest] == [1, 2, 3, 4]


async def test_is_refused_what_a_namespace_does_not_have() -> None:
    async with realtime_server(mode="prod") as server, connected(server) as client:
        watcher = Watcher()
        sub = client.new_subscription("public:a", events=watcher)
        await sub.subscribe()
        await watcher.answer()
        with pytest.raises(ReplyError) as no_publish:
            await sub.publish({"n": 1})
        with pytest.raises(ReplyError) as no_history:
            await sub.history(limit=1)

    assert no_publish.value.code == 103
    assert no_history.value.code == 108
