"""One connection that watches the counts of hundreds of targets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect

from heartcast.api.track import MAX_TARGETS, Tracking
from heartcast.core.bus import Bus
from heartcast.core.clock import SystemClock
from heartcast.core.errors import StoreUnavailable
from heartcast.core.ids import IdSource
from heartcast.gateway.sse import Stream, StreamGateway
from heartcast.hearts.live import NAMESPACE, LiveCounts
from heartcast.hearts.model import HeartChanged, HeartKey
from heartcast.hearts.service import HeartService
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.realtime.log import Publication
from heartcast.realtime.options import NamespaceOptions, RealtimeOptions
from heartcast.realtime.room import Room
from heartcast.testing.realtime import RealtimeServer, realtime_server

LIMIT = 600


class Shop:
    """A realtime server with hearts behind it."""

    def __init__(self, server: RealtimeServer) -> None:
        loop, clock = asyncio.get_running_loop(), SystemClock()
        self.server = server
        self.store = MemoryHeartStore(IdSource(clock))
        bus: Bus[HeartChanged] = Bus(loop.call_soon)
        self.hearts = HeartService(self.store, clock, bus)
        live = LiveCounts(
            publish=server.hub.publish,
            is_watched=server.hub.is_watched,
            watched=lambda: list(server.hub.rooms()),
            store=self.store,
            clock=clock,
            call_later=loop.call_later,
            interval_s=0.02,
        )
        bus.follow(live)
        server.hub.seed(NAMESPACE, live.source)
        server.streams = StreamGateway(server.realtime, tracking=Tracking(server.hub, self.hearts, LIMIT))

    def heart(self, target_id: str, *users: str) -> None:
        for user in users:
            self.hearts.add((HeartKey(target_id, user),), lambda _: None)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with realtime_server() as server:
        yield Shop(server)


class Client:
    """A socket that speaks the JSON protocol, and sorts what comes."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._id = 1
        self.pushes: list[dict[str, Any]] = []

    async def ask(self, method: str, data: Any) -> dict[str, Any]:
        """What comes back from an rpc: its data, or ``{"error": …}``."""
        self._id += 1
        await self._socket.send(json.dumps({"id": self._id, "rpc": {"method": method, "data": data}}))
        reply = await self._reply()
        return dict(reply["rpc"]["data"]) if "rpc" in reply else reply

    async def subscribe(self, channel: str) -> dict[str, Any]:
        self._id += 1
        await self._socket.send(json.dumps({"id": self._id, "subscribe": {"channel": channel}}))
        return await self._reply()

    async def _reply(self) -> dict[str, Any]:
        while True:
            found = {}
            for line in await self._lines():
                if "push" in line:
                    self.pushes.append(line["push"])
                else:
                    found = line
            if found:
                return found

    async def counts(self, number: int) -> list[Any]:
        """The next so many counts that were pushed."""
        while len(self.told("pub")) < number:
            self.pushes += [line["push"] for line in await self._lines()]
        return [pub["data"] for pub in self.told("pub")]

    def told(self, kind: str) -> list[Any]:
        return [push[kind] for push in self.pushes if kind in push]

    async def _lines(self) -> list[Any]:
        async with asyncio.timeout(10):
            return [json.loads(line) for line in str(await self._socket.recv()).split("\n")]


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[Client]:
    async with connect(shop.server.websocket_url) as socket:
        await socket.send('{"id":1,"connect":{}}')
        await socket.recv()
        yield Client(socket)


def names(count: int, start: int = 0) -> list[str]:
    return [f"post {number}" for number in range(start, start + count)]


async def test_one_call_watches_more_targets_than_a_connection_has_channels(
    shop: Shop, client: Client
) -> None:
    shop.heart("post 7", "u1", "u2")
    answer = await client.ask("track", {"targets": names(400)})

    assert [count["target_id"] for count in answer["counts"]] == names(400)
    assert answer["counts"][7] == {"target_id": "post 7", "count": 2, "version": 2}
    assert "stale" not in answer

    shop.heart("post 399", "u1")
    shop.heart("nobody tracks this", "u1")
    shop.heart("post 0", "u1")
    told = await client.counts(2)
    assert {(count["target_id"], count["count"]) for count in told} == {("post 399", 1), ("post 0", 1)}
    # What is tracked leaves the connection all its channels.
    assert "subscribe" in await client.subscribe("public:news")


async def test_changes_of_one_target_come_together_and_the_last_one_always_comes(
    shop: Shop, client: Client
) -> None:
    await client.ask("track", {"targets": ["a"]})
    for number in range(500):
        shop.heart("a", f"u{number}")
    told = await client.counts(1)
    while told[-1]["count"] < 500:
        told = await client.counts(len(told) + 1)
    assert len(told) <= 3


async def test_who_untracks_hears_no_more_and_the_room_is_given_up(shop: Shop, client: Client) -> None:
    await client.ask("track", {"targets": ["a", "b"]})
    assert await client.ask("untrack", {"targets": ["a", "never tracked"]}) == {}
    assert not shop.server.hub.is_watched("hearts:a")
    assert [end["code"] for end in client.told("unsubscribe")] == [2000]

    shop.heart("a", "u1")
    shop.heart("b", "u1")
    assert [count["target_id"] for count in await client.counts(1)] == ["b"]


async def test_untracking_leaves_a_subscription_alone_and_tracking_does_not_double_it(
    shop: Shop, client: Client
) -> None:
    await client.subscribe("hearts:a")
    await client.ask("track", {"targets": ["a", "a"]})
    await client.ask("untrack", {"targets": ["a"]})
    shop.heart("a", "u1")
    shop.heart("a", "u2")
    assert (await client.counts(1))[0]["count"] in (1, 2)
    assert client.told("subscribe") == []


async def test_a_connection_tracks_so_many_and_says_which_limit_was_met(shop: Shop, client: Client) -> None:
    await client.ask("track", {"targets": names(MAX_TARGETS)})
    again = await client.ask("track", {"targets": names(MAX_TARGETS)})
    assert len(again["counts"]) == MAX_TARGETS
    refused = await client.ask("track", {"targets": names(LIMIT - MAX_TARGETS + 1, MAX_TARGETS)})
    assert refused["error"]["code"] == 106
    assert str(LIMIT) in refused["error"]["message"]
    await client.ask("untrack", {"targets": names(1)})
    fits = await client.ask("track", {"targets": names(LIMIT - MAX_TARGETS + 1, MAX_TARGETS)})
    assert len(fits["counts"]) == LIMIT - MAX_TARGETS + 1


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"targets": []},
        {"targets": "a"},
        {"targets": ["a", 1]},
        {"targets": [""]},
        {"targets": ["a\u0007"]},
        {"targets": ["x" * 201]},
        {"targets": ["a"], "more": 1},
        {"targets": names(MAX_TARGETS + 1)},
    ],
)
async def test_what_names_no_targets_is_refused_for_good_and_tracks_nothing(
    shop: Shop, client: Client, data: Any
) -> None:
    refused = await client.ask("track", data)
    assert refused["error"]["code"] == 107
    assert not refused["error"].get("temporary")
    assert shop.server.hub.subscriptions == 0


async def test_where_counts_need_a_token_nobody_tracks_them() -> None:
    namespaces = {"hearts": NamespaceOptions(recovery="cache", history_size=1, subscribe="token")}
    async with realtime_server(RealtimeOptions(namespaces=namespaces), mode="prod") as server:
        Shop(server)
        async with connect(server.websocket_url) as socket, httpx2.AsyncClient() as http:
            await socket.send('{"id":1,"connect":{}}')
            await socket.recv()
            refused = await Client(socket).ask("track", {"targets": ["a"]})
            answer = await http.get(f"{server.http_url}/api/v1/stream?target=a")
    assert refused["error"]["code"] == 103
    assert answer.status_code == 403


async def test_a_connection_that_ends_leaves_nothing_behind(shop: Shop) -> None:
    emptied = asyncio.Event()
    shop.server.hub.on_empty = emptied.set
    async with connect(shop.server.websocket_url) as socket:
        await socket.send('{"id":1,"connect":{}}')
        await socket.recv()
        await Client(socket).ask("track", {"targets": names(300)})
        assert shop.server.hub.subscriptions == 300
    async with asyncio.timeout(10):
        await emptied.wait()
    assert shop.server.hub.subscriptions == 0
    assert shop.server.hub.rooms() == {}


async def test_without_a_store_the_last_known_counts_come_and_say_so(
    shop: Shop, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop.hearts, "counts", lambda targets, kind, done: done(StoreUnavailable("away")))
    refused = await client.ask("track", {"targets": ["a"]})
    assert (refused["error"]["code"], refused["error"]["temporary"]) == (100, True)

    known = [HeartKey("a", "u1")]
    monkeypatch.setattr(shop.hearts, "last_known", lambda targets, kind: ([], 0) if known else None)
    assert await client.ask("track", {"targets": ["a"]}) == {"counts": [], "stale": True}


# -- as server-sent events ----------------------------------------------------------------


async def test_a_stream_watches_targets_beside_channels(shop: Shop) -> None:
    shop.heart("post 1", "u1")
    query = [("channel", "public:a"), *[("target", name) for name in names(300)]]
    async with (
        httpx2.AsyncClient() as http,
        http.stream("GET", f"{shop.server.http_url}/api/v1/stream", params=query) as stream,
    ):
        lines = stream.aiter_lines()
        counts = [json.loads(line[6:]) async for line in _until_subscribed(lines)]
        assert len(counts) == 300
        assert counts[1] == {
            "channel": "hearts:post%201",
            "data": {"target_id": "post 1", "count": 1, "version": 1},
        }
        shop.heart("post 299", "u1")
        shop.server.hub.publish("public:a", b'"beside"')
        told = [json.loads(line[6:])["data"] async for line in _data(lines, 3)]
    assert "beside" in told
    assert {"target_id": "post 299", "count": 1, "version": 1} in told


async def _until_subscribed(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        if line == "event: subscribed":
            return
        if line.startswith("data:"):
            yield line


async def _data(lines: AsyncIterator[str], count: int) -> AsyncIterator[str]:
    """So many data lines; the first is that of the event before."""
    async for line in lines:
        if line.startswith("data:"):
            yield line if count < 3 else 'data: {"data":null}'
            count -= 1
            if not count:
                return


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("target=", 422, "invalid_input"),
        ("target=a%07", 422, "invalid_id"),
        ("&".join(f"target={n}" for n in range(MAX_TARGETS + 1)), 422, "invalid_input"),
        ("target=a&channel=nowhere:a", 404, "unknown_channel"),
    ],
)
async def test_a_stream_of_no_targets_is_refused(shop: Shop, query: str, status: int, code: str) -> None:
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{shop.server.http_url}/api/v1/stream?{query}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


# -- what it costs ------------------------------------------------------------------------


async def test_a_change_is_encoded_once_however_many_streams_and_sockets_watch(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    message, lines = Stream._message, Room.lines

    def counting_message(self: Stream, channel: str, publication: Publication) -> bytes:
        encoded.append("event")
        return message(self, channel, publication)

    def counting_lines(self: Room, publications: list[Publication]) -> list[bytes]:
        encoded.extend("line" for _ in publications)
        return lines(self, publications)

    monkeypatch.setattr(Room, "lines", counting_lines)
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connect(shop.server.websocket_url)) for _ in range(5)]
        for socket in sockets:
            await socket.send('{"id":1,"connect":{}}')
            await socket.recv()
            await Client(socket).ask("track", {"targets": ["a", "b"]})
        streams = [await asyncio.open_connection("127.0.0.1", shop.server.port) for _ in range(5)]
        for reader, writer in streams:
            stack.callback(writer.close)
            writer.write(b"GET /api/v1/stream?target=a&target=b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await reader.readuntil(b"event: subscribed\n")
            await reader.readuntil(b"\n\n")
        monkeypatch.setattr(Stream, "_message", counting_message)
        shop.heart("a", "u1")
        async with asyncio.timeout(10):
            for socket in sockets:
                while '"count":1' not in str(await socket.recv()):
                    pass
            for reader, _ in streams:
                assert b'"count":1' in await reader.readuntil(b"\n\n")
    assert sorted(encoded) == ["event", "line"]
