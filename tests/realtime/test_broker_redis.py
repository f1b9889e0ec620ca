"""The broker on Redis keeps the port's promises, whatever pub/sub loses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from heartcast.backends.redis_pipe import RedisPipe
from heartcast.core.errors import StoreUnavailable
from heartcast.realtime.broker import redis as broker
from heartcast.realtime.broker.redis import RedisBroker
from heartcast.realtime.log import Publication
from heartcast.realtime.log import redis as log
from heartcast.realtime.log.redis import Names, RedisLog
from heartcast.testing.contracts.broker import LIVE, LOGGED, BrokerContract, Node
from heartcast.testing.eventually import eventually
from heartcast.testing.pubsub_proxy import PubSubProxy
from heartcast.testing.redis_server import RedisServer

HISTORY_SIZE = 50


class RedisNode(Node):
    """A process with its connections. ``feed_url`` is where its pub/sub goes."""

    def __init__(
        self,
        url: str,
        names: Names,
        feed_url: str | None = None,
        compare_s: float = 60.0,
        timeout_s: float = 2.0,
    ) -> None:
        self.pipe = RedisPipe(url, timeout_s=timeout_s, scripts=(*log.SCRIPTS, *broker.SCRIPTS))
        kept = RedisLog(self.pipe, lambda channel: (HISTORY_SIZE, 60.0), names=names)
        self.redis_broker = RedisBroker(
            feed_url or url,
            pipe=self.pipe,
            log=kept,
            is_logged=lambda channel: channel.startswith("feed:"),
            timeout_s=timeout_s,
            compare_s=compare_s,
            names=names,
        )
        super().__init__(self.redis_broker, kept)
        self.redis_broker.start()

    async def close(self) -> None:
        await self.redis_broker.close()
        await self.pipe.close()


@pytest.fixture
async def make_node(redis: RedisServer, names: Names) -> AsyncIterator[Callable[..., RedisNode]]:
    async with AsyncExitStack() as stack:

        def make(url: str = redis.url, **options: Any) -> RedisNode:
            node = RedisNode(url, names, **options)
            stack.push_async_callback(node.close)
            return node

        yield make


@pytest.fixture
async def nodes(make_node: Callable[..., RedisNode]) -> list[RedisNode]:
    return [make_node(), make_node(), make_node()]


@pytest.fixture
async def proxy(redis: RedisServer) -> AsyncIterator[PubSubProxy]:
    async with PubSubProxy("127.0.0.1", redis.port) as proxy:
        yield proxy


class TestRedisBroker(BrokerContract):
    """Runs every guarantee against three nodes on one server."""


async def test_a_lost_message_is_healed_by_the_next_one_in_order(
    make_node: Callable[..., RedisNode], proxy: PubSubProxy
) -> None:
    node = make_node(feed_url=f"redis://127.0.0.1:{proxy.port}/0")
    await node.watch(LOGGED)
    await node.publish(b"1")
    await eventually(lambda: node.offsets(LOGGED) == [1])
    proxy.swallow(3)
    for number in range(2, 8):
        await node.publish(b"%d" % number)

    await eventually(lambda: len(node.publications) == 7)
    assert proxy.swallowed == 3
    assert node.offsets(LOGGED) == [1, 2, 3, 4, 5, 6, 7]
    assert node.data(LOGGED) == [b"1", b"2", b"3", b"4", b"5", b"6", b"7"]
    assert node.redis_broker.healed >= 3


async def test_the_lost_last_message_of_a_quiet_channel_is_found(
    make_node: Callable[..., RedisNode], proxy: PubSubProxy
) -> None:
    node = make_node(feed_url=f"redis://127.0.0.1:{proxy.port}/0", compare_s=0.3)
    await node.watch(LOGGED)
    proxy.swallow(1)
    await node.publish(b'"last"')

    await eventually(lambda: node.data(LOGGED) == [b'"last"'])
    assert proxy.swallowed == 1


async def test_more_lost_than_the_log_keeps_is_declared(
    make_node: Callable[..., RedisNode], proxy: PubSubProxy
) -> None:
    node = make_node(feed_url=f"redis://127.0.0.1:{proxy.port}/0")
    await node.watch(LOGGED)
    await node.publish(b"0")
    await eventually(lambda: node.data(LOGGED))
    proxy.swallow(HISTORY_SIZE + 5)
    for number in range(HISTORY_SIZE + 6):
        await node.publish(b"%d" % number)

    await eventually(lambda: node.lost_channels)
    await node.publish(b'"after"')
    await eventually(lambda: node.data(LOGGED)[-1] == b'"after"')
    assert node.lost_channels == [LOGGED]
    assert node.offsets(LOGGED) == sorted(set(node.offsets(LOGGED)))


async def test_a_cut_connection_loses_nothing_that_is_logged(
    make_node: Callable[..., RedisNode], proxy: PubSubProxy
) -> None:
    node = make_node(feed_url=f"redis://127.0.0.1:{proxy.port}/0")
    await node.watch(LOGGED)
    await node.publish(b"1")
    await eventually(lambda: node.data(LOGGED))
    await proxy.refuse()
    await node.publish(b"2")
    await node.publish(b"3")
    await proxy.heal()

    await eventually(lambda: len(node.publications) == 3)
    assert node.offsets(LOGGED) == [1, 2, 3]
    await node.publish(b"4")
    await eventually(lambda: node.offsets(LOGGED) == [1, 2, 3, 4])


async def test_a_server_that_hangs_is_left(make_node: Callable[..., RedisNode], proxy: PubSubProxy) -> None:
    node = make_node(feed_url=f"redis://127.0.0.1:{proxy.port}/0", timeout_s=0.3)
    await node.watch(LOGGED)
    proxy.hang()
    await node.publish(b"1")
    failures: list[StoreUnavailable | None] = []
    node.broker.watch("feed:other", failures.append)
    await eventually(lambda: failures)
    assert isinstance(failures[0], StoreUnavailable)
    await proxy.heal()

    await eventually(lambda: node.offsets(LOGGED) == [1])


async def test_flushed_scripts_are_loaded_again(make_node: Callable[..., RedisNode]) -> None:
    node = make_node()
    await node.watch(LOGGED)
    await node.publish(b"1")
    await node.pipe.ask("SCRIPT", "FLUSH")
    await node.publish(b"2")

    await eventually(lambda: node.offsets(LOGGED) == [1, 2])
    assert node.data(LOGGED) == [b"1", b"2"]


class TestRestart:
    """A server of its own: it is killed."""

    async def test_what_was_on_disk_is_healed(self, names: Names) -> None:
        with RedisServer(settings={"appendonly": "yes", "appendfsync": "always"}) as server:
            node, publisher = RedisNode(server.url, names), RedisNode(server.url, names)
            await node.watch(LOGGED)
            await publisher.publish(b"1")
            await eventually(lambda: node.data(LOGGED))
            server.restart()
            published = await _published_at_last(publisher, b"2")
            await eventually(lambda: node.offsets(LOGGED) == [1, 2])
            assert published == 2
            assert node.lost_channels == []
            await node.close()
            await publisher.close()

    async def test_a_forgotten_log_is_declared_lost(self, names: Names) -> None:
        with RedisServer() as server:
            node, publisher = RedisNode(server.url, names), RedisNode(server.url, names)
            await node.watch(LOGGED)
            await publisher.publish(b"1")
            await publisher.publish(b"2")
            await eventually(lambda: len(node.publications) == 2)
            server.restart()
            await eventually(lambda: node.lost_channels == [LOGGED])
            await _published_at_last(publisher, b'"new"')
            await eventually(lambda: node.data(LOGGED)[-1] == b'"new"')
            await node.close()
            await publisher.close()


async def _published_at_last(node: RedisNode, data: bytes) -> int:
    """As a publisher with patience and a key does it."""
    while True:
        answers: list[Any] = []
        node.log.append(LOGGED, data, None, None, answers.append, key="again and again")
        await eventually(lambda answers=answers: answers)
        if not isinstance(answers[0], StoreUnavailable):
            return int(answers[0].offset)


async def test_a_live_message_without_a_server_says_so(make_node: Callable[..., RedisNode]) -> None:
    node = make_node(url="redis://127.0.0.1:1/0", timeout_s=0.5)
    answers: list[StoreUnavailable | None] = []
    node.broker.publish(LIVE, Publication(b"1"), answers.append)

    await eventually(lambda: answers)
    assert isinstance(answers[0], StoreUnavailable)


async def test_a_busy_channel_that_is_compared_all_the_time_is_not_taken_for_lost(
    make_node: Callable[..., RedisNode],
) -> None:
    node, publisher = make_node(compare_s=0.02), make_node()
    await node.watch(LOGGED)
    answers: list[object] = []
    count = 40 * HISTORY_SIZE
    for number in range(count):
        publisher.log.append(LOGGED, b"%d" % number, None, None, answers.append)
        if number % (4 * HISTORY_SIZE) == 0:
            await asyncio.sleep(0.01)

    await eventually(lambda: len(node.publications) == count)
    assert node.lost_channels == []
    assert node.offsets(LOGGED) == list(range(1, count + 1))
