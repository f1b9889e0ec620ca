"""npm ``centrifuge``, unmodified, against our port."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from heartcast.api.track import Tracking
from heartcast.core.bus import Bus
from heartcast.core.clock import SystemClock
from heartcast.core.ids import IdSource
from heartcast.hearts.service import HeartService
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.testing.realtime import RealtimeServer, realtime_server
from heartcast.wire.envelopes import FORCE_NO_RECONNECT, FORCE_RECONNECT, METHOD_NOT_FOUND

pytestmark = pytest.mark.stock


async def connect(puppet: Any, server: RealtimeServer, **options: Any) -> dict[str, Any]:
    await puppet.do("connect", url=server.websocket_url, options=options)
    return await puppet.until("connected")


async def subscribe(puppet: Any, channel: str, **options: Any) -> dict[str, Any]:
    await puppet.do("subscribe", channel=channel, options=options)
    return await puppet.until("subscribed")


def publish(server: RealtimeServer, channel: str, data: bytes) -> None:
    server.hub.publish(channel, data)


async def test_connects_subscribes_and_gets_what_is_published(puppet: Any) -> None:
    async with realtime_server() as server:
        connected = await connect(puppet, server)
        await subscribe(puppet, "public:news")
        publish(server, "public:news", b'{"title":\n "hello"}')
        seen = await puppet.until("publication")

    assert connected["client"]
    assert seen["data"] == {"title": "hello"}


async def test_publishes_and_sees_who_published(puppet: Any) -> None:
    async with realtime_server() as server:
        await connect(puppet, server, data={"user": "u456"})
        await subscribe(puppet, "public:chat")
        await puppet.do("publish", channel="public:chat", data={"text": "hi"})
        seen = await puppet.until("publication")

    assert seen["data"] == {"text": "hi"}
    assert seen["info"]["user"] == "u456"


async def test_reads_history_presence_and_presence_stats(puppet: Any) -> None:
    async with realtime_server() as server:
        connected = await connect(puppet, server, data={"user": "u1"})
        await subscribe(puppet, "feed:a")
        for number in range(3):
            publish(server, "feed:a", b"%d" % number)
        page = await puppet.ask("history", channel="feed:a", options={"limit": 2, "reverse": True})
        presence = await puppet.ask("presence", channel="feed:a")
        stats = await puppet.ask("presence_stats", channel="feed:a")

    assert [publication["data"] for publication in page["publications"]] == [2, 1]
    assert page["offset"] == 3
    assert presence["clients"][connected["client"]]["user"] == "u1"
    assert stats == {"numClients": 1, "numUsers": 1}


async def test_calls_an_rpc_and_is_told_when_there_is_no_such_method(puppet: Any) -> None:
    async with realtime_server() as server:
        server.hub.rpc["double"] = lambda session, data, done: done(b"%d" % (int(data) * 2))
        await connect(puppet, server)
        doubled = await puppet.ask("rpc", method="double", data=21)
        await puppet.do("rpc", method="nothing", data=None)
        failed = await puppet.until("rpc_failed")

    assert doubled == {"data": 42}
    assert failed["code"] == METHOD_NOT_FOUND.code


async def test_sends_a_message_to_the_application(puppet: Any) -> None:
    heard: list[tuple[str | None, bytes]] = []
    async with realtime_server() as server:
        server.hub.on_send = lambda user, data: heard.append((user, data))
        server.hub.rpc["done"] = lambda session, data, done: done(b"null")
        await connect(puppet, server, data={"user": 42})
        await puppet.do("send", data={"ack": ["01J"]})
        await puppet.ask("rpc", method="done", data=None)

    assert heard == [("42", b'{"ack":["01J"]}')]


async def test_a_cache_channel_gives_its_latest_to_every_new_subscriber(puppet: Any) -> None:
    async with realtime_server() as server:
        publish(server, "hearts:post_1", b'{"count":1,"version":1}')
        publish(server, "hearts:post_1", b'{"count":2,"version":2}')
        await connect(puppet, server)
        subscribed = await subscribe(puppet, "hearts:post_1")
        latest = await puppet.until("publication")

    assert subscribed["wasRecovering"]
    assert subscribed["recovered"]
    assert latest["data"] == {"count": 2, "version": 2}


async def test_a_client_that_comes_back_gets_exactly_what_it_missed(puppet: Any) -> None:
    async with realtime_server() as server:
        await connect(puppet, server)
        await subscribe(puppet, "feed:a")
        publish(server, "feed:a", b"1")
        await puppet.until("publication")
        for session in list(server.hub.sessions()):
            session.close(FORCE_RECONNECT)
        for data in (b"2", b"3", b"4"):
            publish(server, "feed:a", data)
        subscribed = await puppet.until("subscribed")
        publish(server, "feed:a", b"5")
        for _ in range(4):
            await puppet.until("publication")

    assert subscribed["wasRecovering"]
    assert subscribed["recovered"]
    seen = [event["data"] for event in puppet.events if event["event"] == "publication"]
    assert seen == [1, 2, 3, 4, 5]


async def test_a_client_that_missed_too_much_is_told_so(puppet: Any) -> None:
    async with realtime_server() as server:
        await connect(puppet, server)
        await subscribe(puppet, "feed:a")
        publish(server, "feed:a", b"0")
        await puppet.until("publication")
        for session in list(server.hub.sessions()):
            session.close(FORCE_RECONNECT)
        for number in range(1, 150):
            publish(server, "feed:a", b"%d" % number)
        subscribed = await puppet.until("subscribed")
        publish(server, "feed:a", b'"after"')
        after = await puppet.until("publication")

    assert subscribed["wasRecovering"]
    assert not subscribed["recovered"]
    assert after["data"] == "after"
    assert after["offset"] == 151


async def test_a_restarted_server_is_another_life_of_its_channels(puppet: Any) -> None:
    async with realtime_server() as server:
        await connect(puppet, server)
        await subscribe(puppet, "feed:a")
        publish(server, "feed:a", b"1")
        await puppet.until("publication")
        port = server.port
    async with realtime_server(port=port) as server:
        subscribed = await puppet.until("subscribed")

    assert subscribed["wasRecovering"]
    assert not subscribed["recovered"]


async def test_stays_away_when_the_server_says_so(puppet: Any) -> None:
    async with realtime_server() as server:
        await connect(puppet, server)
        for session in list(server.hub.sessions()):
            session.close(FORCE_NO_RECONNECT)
        disconnected = await puppet.until("disconnected")

    assert disconnected["code"] == FORCE_NO_RECONNECT.code


async def test_answers_pings_and_is_kept(puppet: Any) -> None:
    async with realtime_server() as server:
        server.hub.rpc["done"] = lambda session, data, done: done(b"null")
        await connect(puppet, server)
        [session] = server.hub.sessions()
        session.ping()
        await puppet.ask("rpc", method="done", data=None)

        assert not session.awaits_pong


async def test_is_told_who_joins_and_leaves(puppet: Any) -> None:
    async with realtime_server() as server:
        await connect(puppet, server, data={"user": "u1"})
        await subscribe(puppet, "feed:a", joinLeave=True)
        joined = await puppet.until("join")

    assert joined["info"]["user"] == "u1"


async def test_may_not_read_the_inbox_of_another(puppet: Any) -> None:
    async with realtime_server() as server:
        await connect(puppet, server, data={"user": "u1"})
        await puppet.do("subscribe", channel="inbox:#u2", options={})
        refused = await puppet.until("unsubscribed")

    assert refused["code"] == 103


async def test_the_server_subscribes_and_unsubscribes_a_user(puppet: Any) -> None:
    async with realtime_server() as server:
        await connect(puppet, server, data={"user": "u1"})
        await post(server, "subscribe", {"user": "u1", "channel": "feed:own"})
        subscribed = await puppet.until("server_subscribed")
        publish(server, "feed:own", b'"for you"')
        seen = await puppet.until("server_publication")
        await post(server, "unsubscribe", {"user": "u1", "channel": "feed:own"})
        left = await puppet.until("server_unsubscribed")

    assert subscribed["channel"] == seen["channel"] == left["channel"] == "feed:own"
    assert seen["data"] == "for you"


async def test_tracks_hundreds_of_targets_by_one_rpc_and_hears_of_each(puppet: Any) -> None:
    async with realtime_server() as server:
        store = MemoryHeartStore(IdSource(SystemClock()))
        Tracking(server.hub, HeartService(store, SystemClock(), Bus(lambda call: None)), 1000)
        await connect(puppet, server)
        targets = {"targets": [f"post {number}" for number in range(300)]}
        counts = (await puppet.ask("rpc", method="track", data=targets))["data"]["counts"]
        publish(server, "hearts:post%20299", b'{"target_id":"post 299","count":1,"version":1}')
        seen = await puppet.until("server_publication")
        await puppet.ask("rpc", method="untrack", data={"targets": ["post 299"]})

    assert len(counts) == 300
    assert seen["data"] == {"target_id": "post 299", "count": 1, "version": 1}


async def post(server: RealtimeServer, method: str, body: dict[str, Any]) -> None:
    async with aiohttp.ClientSession() as http:
        answer = await http.post(f"{server.http_url}/api/{method}", json=body)
        assert await answer.json() == {"result": {}}
