"""Event streams: refusals, the cursor, heartbeats. A real EventSource is in tests/stock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.core.errors import Unauthenticated
from heartcast.gateway.sse import cursor_of, positions_in
from heartcast.realtime.log import Position
from heartcast.realtime.options import RealtimeOptions
from heartcast.testing import ManualClock
from heartcast.testing.realtime import RealtimeServer, realtime_server

names = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)


@given(
    st.dictionaries(
        names,
        st.builds(Position, st.integers(0, 2**63), st.text("0123456789abcdef", max_size=10)),
        max_size=5,
    )
)
def test_a_cursor_gives_back_every_position(positions: dict[str, Position]) -> None:
    cursor = cursor_of(positions)

    assert positions_in(cursor) == positions
    assert cursor.isascii()
    assert "\n" not in cursor


@given(st.text(max_size=100))
def test_any_last_event_id_is_read_without_raising(cursor: str) -> None:
    assert all(position.offset >= 0 for position in positions_in(cursor).values())


class Claims:
    def __init__(self, user: str, expires_ms: int | None = None) -> None:
        self.user = user
        self.expires_ms = expires_ms
        self.channel = None


def verify(token: str) -> Any:
    if token == "bad":
        raise Unauthenticated("the token is invalid", code="token_invalid")
    return Claims(token, 1_700_000_005_000 if token == "brief" else None)


class Reader:
    """Reads one answer of the server."""

    def __init__(self, reader: asyncio.StreamReader, head: bytes) -> None:
        self.reader = reader
        self.status = int(head.split()[1])
        self.head = head.decode()

    async def event(self) -> dict[str, str]:
        """The next event's fields; a comment has the field ""."""
        async with asyncio.timeout(10):
            block = (await self.reader.readuntil(b"\n\n")).decode()
        pairs = [line.partition(": ") for line in block.strip("\n").split("\n")]
        return {name.rstrip(":"): value for name, _, value in pairs}

    async def body(self) -> dict[str, Any]:
        return dict(json.loads(await self.reader.read()))


@asynccontextmanager
async def stream(server: RealtimeServer, query: str, *headers: str) -> AsyncIterator[Reader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    lines = [f"GET /api/v1/stream{query} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    try:
        yield Reader(reader, await reader.readuntil(b"\r\n\r\n"))
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 422, "invalid_input"),
        ("?channel=nowhere:a", 404, "unknown_channel"),
        ("?channel=public:%C3%BC", 422, "invalid_channel"),
        ("?channel=inbox:%23u2&token=u1", 403, "channel_forbidden"),
        ("?channel=public:a&token=bad", 401, "token_invalid"),
        ("?channel=%FF", 422, "invalid_input"),
        ("?" + "&".join(f"channel=public:{n}" for n in range(200)), 422, "invalid_input"),
    ],
)
async def test_a_refusal_is_a_problem_that_another_origin_may_read(
    query: str, status: int, code: str
) -> None:
    async with realtime_server(verify=verify) as server, stream(server, query) as answer:
        assert answer.status == status
        assert "access-control-allow-origin: *" in answer.head
        assert (await answer.body())["code"] == code


async def test_publications_come_as_events_with_a_cursor() -> None:
    async with realtime_server() as server, stream(server, "?channel=feed:a&channel=public:b") as reader:
        assert reader.status == 200
        assert "content-type: text/event-stream" in reader.head
        assert await reader.event() == {"retry": "2000"}
        assert (await reader.event())["event"] == "subscribed"
        server.hub.publish("public:b", b'{"x":\n1}')
        server.hub.publish("feed:a", b'"y"', tags={"id": "7"})
        live, kept = await reader.event(), await reader.event()

    assert live == {"data": '{"channel":"public:b","data":{"x":1}}'}
    assert json.loads(kept["data"]) == {"channel": "feed:a", "data": "y", "offset": 1, "tags": {"id": "7"}}
    assert positions_in(kept["id"])["feed:a"].offset == 1


async def test_a_cursor_may_come_by_header_or_by_query() -> None:
    async with realtime_server() as server:
        server.hub.publish("feed:a", b"1")
        async with stream(server, "?channel=feed:a") as reader:
            await reader.event()
            cursor = (await reader.event())["id"]
        server.hub.publish("feed:a", b"2")
        for query, headers in (
            ("?channel=feed:a", (f"Last-Event-ID: {cursor}",)),
            (f"?channel=feed:a&last_event_id={cursor.replace('%', '%25')}", ()),
        ):
            async with stream(server, query, *headers) as reader:
                await reader.event()
                assert json.loads((await reader.event())["data"])["data"] == 2


async def test_a_token_may_come_by_header_and_opens_ones_inbox() -> None:
    async with realtime_server(mode="prod", verify=verify) as server:
        server.hub.use_log("inbox", server.realtime.log)
        async with stream(server, "?channel=inbox:%23u1", "Authorization: Bearer u1") as reader:
            assert reader.status == 200


async def test_heartbeats_keep_it_open_and_the_tokens_end_closes_it(clock: ManualClock) -> None:
    options = RealtimeOptions(ping_interval_s=2.0, pong_timeout_s=1.0)
    async with (
        realtime_server(options, clock=clock, verify=verify) as server,
        stream(server, "?channel=public:a&token=brief") as reader,
    ):
        await reader.event()
        await reader.event()
        server.advance(6.0)
        seen = [await reader.event() for _ in range(3)]

    assert seen[0] == {"": ""}
    assert json.loads(seen[2]["data"])["code"] == 3005


async def test_a_stream_that_is_closed_is_forgotten() -> None:
    async with realtime_server() as server:
        emptied = asyncio.Event()
        server.hub.on_empty = emptied.set
        async with stream(server, "?channel=public:a") as reader:
            await reader.event()
        async with asyncio.timeout(10):
            await emptied.wait()

        assert not server.hub.is_watched("public:a")
