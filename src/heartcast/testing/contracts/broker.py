"""One test per guarantee of ``Broker``.

Subclass it where an adapter is tested, and give it a fixture ``nodes``: one ``Node`` for
each process of an installation, all of them followed. What one publishes all must get.
"""

from __future__ import annotations

import asyncio
from functools import partial

from heartcast.core.errors import StoreUnavailable
from heartcast.realtime.broker import Broker
from heartcast.realtime.log import ChannelLog, Position, Publication
from heartcast.testing.eventually import eventually

LIVE = "public:contract"
LOGGED = "feed:contract"


class Node:
    """A process: its broker, its log, and a receiver that remembers."""

    def __init__(self, broker: Broker, log: ChannelLog) -> None:
        self.broker = broker
        self.log = log
        self.publications: list[tuple[str, Publication]] = []
        self.lines: list[bytes] = []
        self.lost_channels: list[str] = []
        broker.follow(self)

    def arrived(self, channel: str, publication: Publication) -> None:
        self.publications.append((channel, publication))

    def announced(self, channel: str, line: bytes) -> None:
        self.lines.append(line)

    def lost(self, channel: str) -> None:
        self.lost_channels.append(channel)

    def data(self, channel: str) -> list[bytes]:
        return [publication.data for name, publication in self.publications if name == channel]

    def offsets(self, channel: str) -> list[int]:
        return [publication.offset for name, publication in self.publications if name == channel]

    async def until(self, channel: str, count: int) -> None:
        """Wait for so many publications."""
        await eventually(lambda: len(self.data(channel)) >= count)

    async def watch(self, channel: str) -> None:
        answer: asyncio.Future[StoreUnavailable | None] = asyncio.get_running_loop().create_future()
        self.broker.watch(channel, answer.set_result)
        assert await answer is None

    async def publish(self, data: bytes, *, key: str | None = None) -> Position:
        """Into the log, and to everybody, as the hub does it."""
        answer: asyncio.Future[Position | StoreUnavailable] = asyncio.get_running_loop().create_future()
        self.log.append(LOGGED, data, None, None, answer.set_result, key=key)
        position = await answer
        assert isinstance(position, Position)
        if not self.log.announces:
            await self.send(LOGGED, Publication(data, position.offset), key=key)
        return position

    async def send(self, channel: str, publication: Publication, *, key: str | None = None) -> None:
        answer: asyncio.Future[StoreUnavailable | None] = asyncio.get_running_loop().create_future()
        self.broker.publish(channel, publication, answer.set_result, key=key)
        assert await answer is None


class BrokerContract:
    """Guarantees 1 to 5 of ``Broker``."""

    async def test_1_every_watcher_gets_it_once(self, nodes: list[Node]) -> None:
        for node in nodes:
            await node.watch(LIVE)
            await node.watch(LOGGED)
        await nodes[-1].send(LIVE, Publication(b'"live"', 0, {"a": "b"}, b'{"user":"u"}'))
        await nodes[-1].publish(b'"logged"')
        await nodes[0].publish(b'"end"')

        for node in nodes:
            await node.until(LOGGED, 2)
            await node.until(LIVE, 1)
            assert (LIVE, Publication(b'"live"', 0, {"a": "b"}, b'{"user":"u"}')) in node.publications
            assert node.data(LOGGED) == [b'"logged"', b'"end"']
            assert not node.lost_channels

    async def test_2_publications_arrive_in_order(self, nodes: list[Node]) -> None:
        for node in nodes:
            await node.watch(LIVE)
            await node.watch(LOGGED)
        for number in range(30):
            await nodes[number % len(nodes)].publish(b"%d" % number)
            await nodes[-1].send(LIVE, Publication(b"%d" % number))

        for node in nodes:
            await node.until(LOGGED, 30)
            await node.until(LIVE, 30)
            assert node.offsets(LOGGED) == list(range(1, 31))
            assert node.data(LIVE) == [b"%d" % number for number in range(30)]

    async def test_3_nothing_arrives_after_unwatch(self, nodes: list[Node]) -> None:
        for node in nodes:
            await node.watch(LIVE)
            await node.watch(LOGGED)
        nodes[0].broker.unwatch(LIVE)
        await nodes[-1].send(LIVE, Publication(b'"gone"'))
        await nodes[-1].publish(b'"end"')

        await eventually(lambda: nodes[0].data(LOGGED))
        assert nodes[0].data(LIVE) == []

    async def test_4_a_key_is_sent_once(self, nodes: list[Node]) -> None:
        for node in nodes:
            await node.watch(LIVE)
            await node.watch(LOGGED)
        first = await nodes[0].publish(b"1", key="k")
        again = await nodes[-1].publish(b"1", key="k")
        for node in nodes:
            await node.send(LIVE, Publication(b"1"), key="k")
        await nodes[0].send(LIVE, Publication(b"2"), key="l")
        await nodes[0].publish(b"2")

        assert first == again
        for node in nodes:
            await node.until(LOGGED, 2)
            await node.until(LIVE, 2)
            assert node.data(LOGGED) == [b"1", b"2"]
            assert node.data(LIVE) == [b"1", b"2"]

    async def test_5_every_callback_is_called_once(self, nodes: list[Node]) -> None:
        calls: list[str] = []
        broker = nodes[0].broker
        broker.watch(LIVE, lambda failure: calls.append("watch"))
        broker.watch(LIVE, lambda failure: calls.append("again"))
        broker.publish(LIVE, Publication(b"1"), lambda failure: calls.append("publish"))
        await eventually(lambda: len(calls) == 3)
        broker.unwatch(LIVE)
        await nodes[0].send(LIVE, Publication(b"2"))

        assert sorted(calls) == ["again", "publish", "watch"]

    async def test_a_line_reaches_every_watcher(self, nodes: list[Node]) -> None:
        for node in nodes:
            await node.watch(LOGGED)
        nodes[-1].broker.announce(LOGGED, b'{"push":{"channel":"feed:contract","join":{}}}')

        for node in nodes:
            await eventually(partial(bool, node.lines))
            assert node.lines == [b'{"push":{"channel":"feed:contract","join":{}}}']
