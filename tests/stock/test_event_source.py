"""npm ``eventsource``, a standard EventSource, against our event streams."""

from __future__ import annotations

from typing import Any

import pytest

from heartcast.testing.realtime import RealtimeServer, realtime_server
from heartcast.wire.envelopes import FORCE_RECONNECT

pytestmark = pytest.mark.stock


async def open_stream(puppet: Any, server: RealtimeServer, query: str) -> None:
    await puppet.do("stream", url=f"{server.http_url}/api/v1/stream?{query}")
    await puppet.until("subscribed")


def seen(puppet: Any) -> list[tuple[str, Any]]:
    return [
        (event["data"]["channel"], event["data"]["data"])
        for event in puppet.events
        if event["event"] == "message"
    ]


async def test_continues_each_of_its_channels_after_a_break(puppet: Any) -> None:
    async with realtime_server() as server:
        await open_stream(puppet, server, "channel=feed:a&channel=feed:b&channel=public:c")
        server.hub.publish("feed:a", b"1")
        server.hub.publish("feed:b", b'"x"')
        server.hub.publish("public:c", b'"live"')
        for _ in range(3):
            await puppet.until("message")
        for session in list(server.hub.sessions()):
            session.close(FORCE_RECONNECT)
            session.cut()
        server.hub.publish("feed:b", b'"y"')
        server.hub.publish("feed:a", b"2")
        await puppet.until("subscribed")
        server.hub.publish("feed:a", b"3")
        await puppet.until("message")

    assert sorted(map(repr, seen(puppet))) == sorted(
        map(
            repr,
            [
                ("feed:a", 1),
                ("feed:b", "x"),
                ("public:c", "live"),
                ("feed:b", "y"),
                ("feed:a", 2),
                ("feed:a", 3),
            ],
        )
    )
    assert not [event for event in puppet.events if event["event"] == "gap"]


async def test_is_told_of_a_gap_by_an_event(puppet: Any) -> None:
    async with realtime_server() as server:
        await open_stream(puppet, server, "channel=feed:a&channel=feed:b")
        server.hub.publish("feed:a", b"0")
        await puppet.until("message")
        for session in list(server.hub.sessions()):
            session.close(FORCE_RECONNECT)
            session.cut()
        for number in range(200):
            server.hub.publish("feed:a", b"%d" % number)
        gap = await puppet.until("gap")
        server.hub.publish("feed:a", b'"after"')
        after = await puppet.until("message")

    assert gap["data"]["channel"] == "feed:a"
    assert gap["data"]["offset"] == 201
    assert after["data"]["data"] == "after"


async def test_a_cache_channel_starts_with_its_latest(puppet: Any) -> None:
    async with realtime_server() as server:
        server.hub.publish("hearts:post_1", b'{"count":5,"version":5}')
        await puppet.do("stream", url=f"{server.http_url}/api/v1/stream?channel=hearts:post_1")
        latest = await puppet.until("message")

    assert latest["data"]["data"] == {"count": 5, "version": 5}


async def test_stops_at_a_refusal(puppet: Any) -> None:
    async with realtime_server(mode="prod") as server:
        await puppet.do("stream", url=f"{server.http_url}/api/v1/stream?channel=inbox:%23u1")
        error = await puppet.until("stream_error")

    assert error["code"] == 403
