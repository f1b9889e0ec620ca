"""Two real nodes on one Valkey: it does not matter at which one somebody is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect

from heartcast.testing import RunningServer, running
from heartcast.testing.redis_server import RedisServer

PATIENCE_S = 20
_json = msgspec.json.Encoder().encode


@pytest.fixture(scope="module")
def valkey() -> Iterator[RedisServer]:
    with RedisServer(settings={"appendonly": "yes", "appendfsync": "everysec"}) as server:
        yield server


def _node(valkey: RedisServer, folder: Path, name: str) -> Any:
    config = folder / f"{name}.toml"
    config.write_text(
        f"""
        data_dir = "{folder / name}"
        [cluster]
        redis_url = "{valkey.url}"
        local = ["push"]
        [hearts]
        store = "redis"
        redis_url = "{valkey.url}"
        [realtime]
        compare_s = 1.0
        """
    )
    return running("--config", str(config))


@pytest.fixture(scope="module")
def nodes(
    valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningServer, RunningServer]]:
    folder = tmp_path_factory.mktemp("nodes")
    with _node(valkey, folder, "ann") as ann, _node(valkey, folder, "bob") as bob:
        for _ in range(200):
            if all(len(_post(node, "info")["result"]["nodes"]) == 2 for node in (ann, bob)):
                break
        else:
            raise AssertionError("the nodes did not find each other")
        yield ann, bob


def _post(node: RunningServer, method: str, **body: Any) -> Any:
    return httpx2.post(f"{node.url}/api/{method}", json=body, timeout=PATIENCE_S).json()


class Client:
    """A client of the stock protocol, by hand."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.pushes: list[dict[str, Any]] = []

    async def ask(self, number: int, **command: Any) -> Any:
        await self._socket.send(_json({"id": number, **command}).decode())
        return await self._until(lambda line: line.get("id") == number)

    async def push(self, kind: str) -> Any:
        return (await self._until(lambda line: kind in line.get("push", {})))["push"]

    async def _until(self, is_it: Any) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for text in str(await self._socket.recv()).split("\n"):
                    line = msgspec.json.decode(text)
                    if line == {}:
                        await self._socket.send("{}")
                    elif "push" in line and not is_it(line):
                        self.pushes.append(line["push"])
                    elif is_it(line):
                        return line


@asynccontextmanager
async def client(node: RunningServer, *channels: str, user: str = "u1") -> AsyncIterator[Client]:
    async with connect(node.websocket_url) as socket:
        made = Client(socket)
        await made.ask(1, connect={"data": {"user": user}})
        for number, channel in enumerate(channels, 2):
            assert "error" not in await made.ask(number, subscribe={"channel": channel})
        yield made


async def test_a_publication_reaches_the_clients_of_every_node(
    nodes: tuple[RunningServer, RunningServer],
) -> None:
    ann, bob = nodes
    async with client(ann, "feed:all", "public:all") as first, client(bob, "feed:all", "public:all") as other:
        await asyncio.to_thread(_post, bob, "publish", channel="feed:all", data={"n": 1})
        for one in (first, other):
            push = await one.push("pub")
            assert push["pub"]["data"] == {"n": 1}
            assert push["pub"]["offset"] == 1
        await asyncio.to_thread(_post, ann, "publish", channel="public:all", data={"n": 2})
        for one in (first, other):
            assert (await one.push("pub"))["pub"]["data"] == {"n": 2}


async def test_a_client_recovers_at_another_node(nodes: tuple[RunningServer, RunningServer]) -> None:
    ann, bob = nodes
    async with client(ann) as first:
        answer = (await first.ask(5, subscribe={"channel": "feed:moving"}))["subscribe"]
    for number in range(3):
        await asyncio.to_thread(_post, ann, "publish", channel="feed:moving", data=number)
    async with client(bob) as again:
        back = await again.ask(
            5,
            subscribe={
                "channel": "feed:moving",
                "recover": True,
                "offset": answer.get("offset", 0),
                "epoch": answer["epoch"],
            },
        )

    assert back["subscribe"]["recovered"] is True
    assert [found["data"] for found in back["subscribe"]["publications"]] == [0, 1, 2]


async def test_a_retried_publication_is_one_whichever_node_gets_it(
    nodes: tuple[RunningServer, RunningServer],
) -> None:
    positions = [
        await asyncio.to_thread(_post, node, "publish", channel="feed:once", data=1, idempotency_key="k")
        for node in nodes
    ]

    assert positions[0] == positions[1]
    assert positions[0]["result"]["offset"] == 1


async def test_who_is_there_is_counted_over_all_nodes(nodes: tuple[RunningServer, RunningServer]) -> None:
    ann, bob = nodes
    async with client(ann, "public:room", user="u1"), client(bob, "public:room", user="u1"):
        async with client(bob, "public:room", user="u2") as third:
            stats = (await third.ask(9, presence_stats={"channel": "public:room"}))["presence_stats"]
            assert stats == {"num_clients": 3, "num_users": 2}
            found = await asyncio.to_thread(_post, ann, "presence", channel="public:room")
            assert sorted(who["user"] for who in found["result"]["presence"].values()) == ["u1", "u1", "u2"]
            channels = await asyncio.to_thread(_post, ann, "channels", pattern="public:room")
            assert channels["result"]["channels"] == {"public:room": {"num_clients": 3}}
        stats = await asyncio.to_thread(_post, bob, "presence_stats", channel="public:room")
        assert stats["result"] == {"num_clients": 2, "num_users": 1}


async def test_joins_and_leaves_are_told_at_every_node(nodes: tuple[RunningServer, RunningServer]) -> None:
    ann, bob = nodes
    async with client(ann) as first:
        await first.ask(5, subscribe={"channel": "feed:lobby", "join_leave": True})
        async with client(bob, "feed:lobby", user="u7"):
            joined = await first.push("join")
            while joined["join"]["info"]["user"] != "u7":  # it is told of itself first
                joined = await first.push("join")
        assert (await first.push("leave"))["leave"]["info"]["user"] == "u7"


async def test_the_server_api_reaches_sessions_at_other_nodes(
    nodes: tuple[RunningServer, RunningServer],
) -> None:
    ann, bob = nodes
    async with client(ann, "public:gone", user="u9") as first:
        assert await asyncio.to_thread(_post, bob, "unsubscribe", user="u9", channel="public:gone") == {
            "result": {}
        }
        assert (await first.push("unsubscribe"))["unsubscribe"]["code"] == 2000
        await asyncio.to_thread(_post, bob, "subscribe", user="u9", channel="public:new")
        assert (await first.push("subscribe"))["channel"] == "public:new"
        await asyncio.to_thread(_post, bob, "disconnect", user="u9")
        with pytest.raises(Exception, match="3503"):
            await first.push("pub")


async def test_live_counts_and_hot_lists_include_hearts_of_other_nodes(
    nodes: tuple[RunningServer, RunningServer],
) -> None:
    ann, bob = nodes
    async with client(ann, "hearts:shared") as first:
        for number in range(3):
            heart = {"target_id": "shared", "user_id": f"h{number}"}
            await asyncio.to_thread(httpx2.post, f"{bob.url}/api/v1/hearts", json=heart)
        count = 0
        while count != 3:
            count = (await first.push("pub"))["pub"]["data"]["count"]
    for node in nodes:
        hot: list[str] = []
        for _ in range(100):
            page = await asyncio.to_thread(httpx2.get, f"{node.url}/api/v1/hot/day")
            hot = [item["item_id"] for item in page.json()["items"]]
            if "shared" in hot:
                break
        assert "shared" in hot
