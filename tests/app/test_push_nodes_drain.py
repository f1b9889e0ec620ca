"""A node that is asked to stop hands its shards over and sends its clients elsewhere: nobody waits."""

from __future__ import annotations

import asyncio
import re
import threading
import time

import pytest
import redis as driver
import websockets
from centrifuge import Client, ClientEventHandler, PublicationContext, SubscriptionEventHandler

from heartcast.core.hashing import shard_of
from heartcast.testing.fault_proxy import FaultProxy
from heartcast.testing.nodes import Nodes

SLOW = {
    # Whoever waits for the next look at the registry waits for seconds.
    "HEARTCAST_CLUSTER__LEASE_S": "30",
    "HEARTCAST_CLUSTER__RENEW_S": "6",
}
OTHERS = 250
SET_OWNER = re.compile(r"SET \{hc:(\d+)\}:owner (\S+)").match


class Owners(threading.Thread):
    """Reads along what Redis does; by its own clock, how long each shard has no owner."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.without_s: dict[int, float] = {}
        """Seconds between the giving back and the taking of each shard that moved."""
        self._link = driver.Redis.from_url(url)
        self._monitor = self._link.monitor().__enter__()
        self._ended = f"the end of {id(self)}"

    def run(self) -> None:
        free_since_s: dict[int, float] = {}
        for told in self._monitor.listen():
            if told["command"] == f"ECHO {self._ended}":
                break
            if match := SET_OWNER(told["command"]):
                shard, owner = int(match[1]), match[2]
                if owner == "-":
                    free_since_s[shard] = told["time"]
                elif shard in free_since_s:
                    self.without_s[shard] = told["time"] - free_since_s.pop(shard)
        assert not free_since_s, "these were never taken"

    def end(self) -> None:
        self._link.echo(self._ended)
        self.join()
        self._monitor.__exit__(None, None, None)
        self._link.close()


class Inbox(SubscriptionEventHandler):
    """What the stock SDK gives its application."""

    def __init__(self) -> None:
        self.titles: asyncio.Queue[str] = asyncio.Queue()

    async def on_publication(self, ctx: PublicationContext) -> None:
        self.titles.put_nowait(ctx.pub.data["title"])


async def leave(url: str, connected: asyncio.Event, left: list[tuple[int | None, float]]) -> None:
    """A client that stays until it is sent away, and writes down when and how."""
    async with websockets.connect(url, ping_timeout=None) as socket:
        await socket.send('{"id":1,"connect":{}}')
        await socket.recv()
        connected.set()
        await socket.wait_closed()
        left.append((socket.close_code, time.monotonic()))


@pytest.mark.timeout(180)
async def test_sigterm_hands_shards_over_without_a_gap_and_sends_clients_elsewhere_one_by_one() -> None:
    nodes = await asyncio.to_thread(Nodes(3, environ=SLOW).__enter__)
    try:
        await asyncio.to_thread(nodes.wait_shared, 60.0)
        assert nodes.redis is not None
        stopping, staying = nodes.running[0], nodes.running[1]
        user = next(name for n in range(999) if shard_of(name := f"u{n}", 64) in nodes.shards(0))
        async with FaultProxy(stopping.host, stopping.port) as balancer, asyncio.TaskGroup() as group:
            inbox = Inbox()
            client = Client(
                f"ws://127.0.0.1:{balancer.port}/connection/websocket", events=ClientEventHandler(),
                token=nodes.token(user), min_reconnect_delay=0.05, max_reconnect_delay=0.2,
            )  # fmt: skip
            await client.connect()
            await client.new_subscription(f"inbox:#{user}", events=inbox).subscribe()
            await client.ready()
            left: list[tuple[int | None, float]] = []
            for _ in range(OTHERS):
                connected = asyncio.Event()
                group.create_task(leave(stopping.websocket_url, connected, left))
                async with asyncio.timeout(10):
                    await connected.wait()

            owners = Owners(nodes.redis.url)
            owners.start()
            balancer.lead_to(staying.host, staying.port)
            assert await asyncio.to_thread(stopping.stop) == 0
            owners.end()

            assert len(owners.without_s) >= 21
            longest_s = max(owners.without_s.values())
            assert longest_s < 2.0, "before somebody would have looked by himself"
            assert {code for code, _ in left} == {3001}
            moments = sorted(at_s for _, at_s in left)
            assert len(moments) == OTHERS
            assert moments[-1] - moments[0] >= 0.1, "not in one tick"
            push = {"user_id": user, "template": "news_v2", "payload": {"title": "after"}}
            assert (await asyncio.to_thread(nodes.ask, 2, "POST", "/push", push))[0] == 202
            async with asyncio.timeout(20):
                assert await inbox.titles.get() == "after"
            await client.disconnect()
            print(f"longest without an owner: {longest_s:.4f} s; {moments[-1] - moments[0]:.2f} s")
    finally:
        await asyncio.to_thread(nodes.__exit__, None, None, None)
