"""Three nodes on one Valkey under load lose one to a kill and one to a pause, and Redis now and then.

Senders outside of the product write down what they were told, clients what came. Afterwards both
accounts and the product's own must agree: every accepted push ended once, every one arrived.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from random import Random

import pytest
import redis as driver
from centrifuge import Client, ClientEventHandler, PublicationContext, SubscriptionEventHandler

from heartcast.testing.binary_push_client import BinaryPushClient
from heartcast.testing.fault_proxy import FaultProxy
from heartcast.testing.nodes import Nodes
from heartcast.testing.pubsub_proxy import PubSubProxy
from heartcast.testing.push_client import PushClient
from heartcast.testing.push_sender import PushSender
from heartcast.testing.redis_server import RedisServer

CYCLES = int(os.environ.get("SOAK_KILLS", "20"))
USERS_PER_SENDER = 3
QUICK = {
    # A lease must outlast what a busy machine does to its processes.
    "HEARTCAST_CLUSTER__LEASE_S": "2",
    "HEARTCAST_CLUSTER__RENEW_S": "0.4",
    "HEARTCAST_CLUSTER__MARGIN_S": "0.4",
    "HEARTCAST_PUSH__REDELIVER_AFTER_S": "1",
    "HEARTCAST_PUSH__MAX_ENDED": "2000000",
}


class StockClient(SubscriptionEventHandler):
    """The stock SDK at one node, which it comes back to; it acknowledges by HTTP, at any node."""

    def __init__(self, nodes: Nodes, node: int, user: str) -> None:
        self.user = user
        self.got: list[str] = []
        self.titles: dict[str, str] = {}
        self.deliveries: Counter[str] = Counter()
        self.places: dict[str, int] = {}
        self._nodes = nodes
        self._unacknowledged: asyncio.Queue[str] = asyncio.Queue()
        self._client = Client(
            nodes.running[node].websocket_url, events=ClientEventHandler(), token=nodes.token(user),
            min_reconnect_delay=0.1, max_reconnect_delay=0.5, max_server_ping_delay=2.0,
        )  # fmt: skip

    async def __aenter__(self) -> StockClient:
        await self._client.connect()
        await self._client.new_subscription(f"inbox:#{self.user}", events=self).subscribe()
        self._acknowledging = asyncio.get_running_loop().create_task(self._acknowledge())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._acknowledging.cancel()
        await asyncio.wait([self._acknowledging])
        await self._client.disconnect()

    async def on_publication(self, ctx: PublicationContext) -> None:
        push_id = ctx.pub.tags["id"]
        if not self.deliveries[push_id]:
            self.got.append(push_id)
            self.titles[push_id] = ctx.pub.data["title"]
        self.deliveries[push_id] += 1
        if ctx.pub.offset:
            self.places[push_id] = ctx.pub.offset
        self._unacknowledged.put_nowait(push_id)

    async def _acknowledge(self) -> None:
        turn = 0
        while True:
            path = f"/api/v1/pushes/{await self._unacknowledged.get()}/receipts"
            status = 0
            while not 200 <= status < 300:
                turn += 1
                status = await asyncio.to_thread(self._post, turn % 3, path)

    def _post(self, node: int, path: str) -> int:
        if self._nodes.running[node].process.poll() is not None:
            return 0
        try:
            return self._nodes.ask(node, "POST", path, {"event": "delivered"}, timeout_s=4)[0]
        except OSError:
            return 0


Listener = PushClient | StockClient


class Drill:
    """The nodes, who sends, who listens, and what comes between."""

    def __init__(self, server: RedisServer, proxy: FaultProxy, nodes: Nodes) -> None:
        self.server = server
        self.proxy = proxy
        self.nodes = nodes
        self.senders: list[PushSender] = []
        self.listeners: list[Listener] = []

    def listener(self, number: int, user: str) -> Listener:
        """Every third is the stock SDK, every third binary, the rest bare; each begins elsewhere."""
        token = self.nodes.token(user)
        if number % 3 == 0:
            return StockClient(self.nodes, number // 3 % 3, user)
        return (BinaryPushClient if number % 3 == 1 else PushClient)(self.nodes.websockets, user, token)

    async def goes_on(self, pushes: int = 30) -> None:
        """Wait until every sender has had so many more accepted."""
        wanted = [sender.count + pushes for sender in self.senders]
        await self.until(lambda: all(s.count >= w for s, w in zip(self.senders, wanted, strict=True)))

    async def until(self, holds: Callable[[], bool], within_s: float = 60.0) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not await asyncio.to_thread(holds):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise TimeoutError(f"{inspect.getsource(holds).strip()}: {self._state()}") from None

    def _state(self) -> str:
        """For a test that failed: how far everybody came."""
        counts = [sender.count for sender in self.senders]
        logs = [line for node in self.nodes.running for line in node.log.read_text().splitlines()[-8:]]
        return "\n".join([f"accepted {counts}, kept {self._kept()}", *logs])

    def owned(self, *nodes: int) -> bool:
        """Whether these have all shards among them."""
        try:
            return sorted(shard for node in nodes for shard in self.nodes.shards(node)) == list(range(64))
        except OSError:
            return False

    def shared(self, *nodes: int) -> bool:
        """Whether each has its share, too."""
        return self.owned(*nodes) and min(len(self.nodes.shards(node)) for node in nodes) >= 64 // len(nodes)

    # ── faults ───────────────────────────────────────────────────────────────

    async def kill(self, node: int) -> None:
        """``kill -9``; the others take over; it comes back and gets its share."""
        others = [other for other in range(3) if other != node]
        self.nodes.running[node].kill()
        await self.until(lambda: self.owned(*others))
        await self.goes_on(5)
        await asyncio.to_thread(self._restart, node)
        await self.until(lambda: self.shared(0, 1, 2))

    def _restart(self, node: int) -> None:
        for _ in range(3):
            try:
                return self.nodes.restart(node)
            except RuntimeError as refused:
                # A machine that is busy: Redis did not answer in a second. A supervisor starts it again.
                print(refused)
        raise RuntimeError(f"node {node} did not start in three attempts")

    async def pause(self, node: int) -> None:
        """SIGSTOP until the others have its shards; then it wakes among them."""
        others = [other for other in range(3) if other != node]
        process = self.nodes.running[node].process
        process.send_signal(signal.SIGSTOP)
        try:
            await self.until(lambda: self.owned(*others))
            await self.goes_on(1)
        finally:
            process.send_signal(signal.SIGCONT)
        await self.until(lambda: self.shared(0, 1, 2))

    async def pause_redis(self) -> None:
        """Nothing comes through until every node has lost touch; then connections are cut."""
        with self._hurt():
            self.proxy.hang()
            await self.until(lambda: not any(self.nodes.shards(node) for node in range(3)))
            await self.proxy.heal()
            await self._heal()

    @contextmanager
    def _hurt(self) -> Iterator[None]:
        for sender in self.senders:
            sender.is_store_hurt = True
        yield
        for sender in self.senders:
            sender.is_store_hurt = False

    async def _heal(self) -> None:
        await self.until(lambda: self.shared(0, 1, 2))
        await self.goes_on(2)

    async def restart_redis(self) -> None:
        """``kill -9`` of the server; it comes back with what its file kept."""
        with self._hurt():
            await asyncio.to_thread(self.server.restart)
            await self._heal()

    async def flush_scripts(self) -> None:
        """The server forgets every script."""
        await asyncio.to_thread(self.server.command, "SCRIPT", "FLUSH")

    async def swallow(self) -> None:
        """Words between nodes get lost."""
        assert isinstance(self.proxy, PubSubProxy)
        self.proxy.swallow(20)

    async def cut_redis(self) -> None:
        """All connections break in the middle of what they carry."""
        with self._hurt():
            await self.proxy.refuse()
            await self.proxy.heal()
            await self._heal()

    # ── accounts ─────────────────────────────────────────────────────────────

    async def agree(self) -> dict[str, int]:
        """Compare all accounts, when everything has arrived; what was counted."""
        accepted = {i: title for sender in self.senders for i, title in sender.titles.items()}
        uncertain = set().union(*(sender.uncertain for sender in self.senders))
        refused = set().union(*(sender.refused for sender in self.senders))
        ids_of = {user: ids for sender in self.senders for user, ids in sender.accepted.items()}
        for listener in self.listeners:
            await self._has_all(listener, ids_of[listener.user])
            places = [listener.places[i] for i in ids_of[listener.user] if i in listener.places]
            assert places == sorted(places), "the inbox has another order than the sender"
        await self.until(lambda: self._kept() == {"push": 0, "inbox": 0, "due": 0, "rows": 0}, within_s=60)

        # The clients' account.
        titles = {i: title for listener in self.listeners for i, title in listener.titles.items()}
        assert {i: titles[i] for i in accepted} == accepted
        beside = {i: title for i, title in titles.items() if i not in accepted}
        # Of a request that was repeated while Redis was away a node may have taken the first one, too.
        doubtful = set().union(*(sender.doubtful for sender in self.senders))
        assert set(beside.values()) <= uncertain | doubtful, "what was refused or accepted arrived again"
        twice = {title for title, times in Counter(titles.values()).items() if times > 1}
        assert twice <= doubtful, "a push was taken twice"
        # The product's own.
        ended = self._ended()
        assert max(Counter(ended).values()) == 1, "a push ended twice"
        assert set(ended) == set(titles), "what ended is what arrived"
        for node in range(3):
            await asyncio.to_thread(self._all_delivered, node, list(accepted)[node::3])
        return {
            "accepted": len(accepted),
            "uncertain": len(uncertain),
            "uncertain that arrived": len(beside),
            "refused": len(refused),
            "taken twice while Redis was away": len(twice),
            "requests repeated": sum(sender.repeats for sender in self.senders),
            "clients in order": self._in_order(ids_of),
            "deliveries": sum(sum(listener.deliveries.values()) for listener in self.listeners),
        }

    async def _has_all(self, listener: Listener, ids: list[str]) -> None:
        wanted = set(ids)
        await self.until(lambda: wanted <= listener.deliveries.keys(), within_s=90)

    def _in_order(self, ids_of: dict[str, list[str]]) -> int:
        """How many clients first saw what was accepted in the order of its acceptance; the others
        lost a message between nodes, and had it again behind a later one."""
        return sum(
            [i for i in listener.got if i in set(ids_of[listener.user])] == ids_of[listener.user]
            for listener in self.listeners
        )

    def _kept(self) -> dict[str, int]:
        with driver.Redis.from_url(self.server.url) as link:
            sizes = {"push": link.xlen, "inbox": link.hlen, "due": link.zcard, "rows": link.hlen}
            return {
                name: sum(size(f"{{hc:{shard}}}:{name}") for shard in range(64))
                for name, size in sizes.items()
            }

    def _ended(self) -> list[str]:
        with driver.Redis.from_url(self.server.url, decode_responses=True) as link:
            return [i for shard in range(64) for i in link.lrange(f"{{hc:{shard}}}:ends", 0, -1)]

    def _all_delivered(self, node: int, ids: list[str]) -> None:
        for push_id in ids:
            status, body = self.nodes.ask(node, "GET", f"/api/v1/pushes/{push_id}")
            assert (status, body["status"]) == (200, "delivered"), body
            assert [step["verdict"] for step in body["trace"] if step["step"] == "end"] == ["delivered"]


@asynccontextmanager
async def drill(proxy_class: type[FaultProxy] = FaultProxy, **environ: str) -> AsyncIterator[Drill]:
    """Three nodes with their shares, and a Valkey behind a proxy; nobody sends yet."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(RedisServer(settings={"appendonly": "yes", "appendfsync": "always"}))
        proxy = await stack.enter_async_context(proxy_class("127.0.0.1", server.port))
        nodes = Nodes(3, f"redis://127.0.0.1:{proxy.port}/0", {**QUICK, **environ})
        await asyncio.to_thread(nodes.__enter__)
        try:
            made = Drill(server, proxy, nodes)
            await made.until(lambda: made.shared(0, 1, 2))
            yield made
        finally:
            await asyncio.to_thread(nodes.__exit__, None, None, None)


@asynccontextmanager
async def under_load(made: Drill) -> AsyncIterator[None]:
    """Four senders, two of them with keys, and a client for each of their users."""
    async with AsyncExitStack() as stack:
        for number in range(4):
            users = [f"user-{number}-{n}" for n in range(USERS_PER_SENDER)]
            for n, user in enumerate(users):
                made.listeners.append(await stack.enter_async_context(made.listener(number + n, user)))
            made.senders.append(PushSender(made.nodes.addresses, users, is_keyed=number % 2 == 0))
        for sender in made.senders:
            sender.start()
        try:
            await made.goes_on()
            yield
        finally:
            for sender in made.senders:
                sender.end()
        for sender in made.senders:
            await asyncio.to_thread(sender.join)
        print(await made.agree())


@pytest.mark.timeout(180)
async def test_every_accepted_push_ends_once_and_arrives_whatever_happens_to_nodes_and_to_redis() -> None:
    async with drill() as made, under_load(made):
        await made.kill(0)
        await made.goes_on()
        await made.pause(1)
        await made.goes_on()
        await made.pause_redis()
        await made.goes_on()
        await made.cut_redis()
        await made.goes_on()


@pytest.mark.soak
@pytest.mark.timeout(300 + 120 * CYCLES)
async def test_the_accounts_agree_after_many_kills_with_other_faults_in_between() -> None:
    random = Random(8)
    async with drill(PubSubProxy) as made, under_load(made):
        others = [
            lambda: made.pause(random.randrange(3)), made.pause_redis, made.cut_redis, made.restart_redis,
            made.flush_scripts, made.swallow,
        ]  # fmt: skip
        for cycle in range(CYCLES):
            await made.kill(random.randrange(3))
            await others[cycle % len(others)]()
            await made.goes_on()
            print(cycle, sum(sender.count for sender in made.senders), flush=True)
