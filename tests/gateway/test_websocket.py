"""WebSocket connections: the handshake, the frames, the goodbye; by foreign stacks and raw bytes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from heartcast.realtime.options import RealtimeOptions
from heartcast.testing import ManualClock
from heartcast.testing.realtime import RealtimeServer, realtime_server
from heartcast.wire.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, frame, masked_frame

KEY = b"\x9a\x01\xff\x3c"
CONNECT = b'{"id":1,"connect":{}}'
UPGRADE = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
    "Sec-WebSocket-Version": "13",
}


def request(**changes: str | None) -> bytes:
    fields = {**UPGRADE, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join(["GET /connection/websocket HTTP/1.1", *lines, "", ""]).encode()


class Wire:
    """A raw socket that has been upgraded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, payload: bytes, opcode: int = TEXT, *, is_last: bool = True) -> None:
        self.writer.write(masked_frame(payload, opcode, KEY, is_last=is_last))

    async def receive(self) -> tuple[int, bytes]:
        async with asyncio.timeout(10):
            first, size = await self.reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2), "big")
            return first & 15, await self.reader.readexactly(size)

    async def close_code(self) -> int:
        while True:
            opcode, payload = await self.receive()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big")


@asynccontextmanager
async def upgraded(server: RealtimeServer, behind: bytes = b"") -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request() + behind)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[RealtimeServer]:
    async with realtime_server(RealtimeOptions(max_message_bytes=10_000)) as running:
        yield running


# -- the handshake -------------------------------------------------------------------------


async def test_a_foreign_stack_connects_and_talks(server: RealtimeServer) -> None:
    async with connect(server.websocket_url) as socket:
        await socket.send(CONNECT.decode())
        reply = json.loads(await socket.recv())

    assert reply["connect"]["ping"] == 25
    assert "permessage-deflate" not in str(socket.response)


async def test_what_came_in_the_same_packet_as_the_request_is_not_lost(server: RealtimeServer) -> None:
    async with upgraded(server, behind=masked_frame(CONNECT, TEXT, KEY)) as wire:
        assert b'"connect"' in (await wire.receive())[1]


async def test_firefoxs_connection_header_is_understood(server: RealtimeServer) -> None:
    async with connect(
        server.websocket_url, additional_headers={"Connection": "keep-alive, Upgrade"}
    ) as socket:
        await socket.send(CONNECT.decode())
        assert await socket.recv()


async def test_the_sub_protocol_is_answered_when_it_is_offered(server: RealtimeServer) -> None:
    async with connect(server.websocket_url, subprotocols=["centrifuge-json"]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "centrifuge-json"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Sec_WebSocket_Version": "8"}, 426),
        ({"Sec_WebSocket_Key": "short"}, 400),
        ({"Sec_WebSocket_Key": None}, 400),
        ({"Upgrade": "h2c"}, 400),
    ],
)
async def test_a_bad_handshake_gets_a_plain_answer(
    server: RealtimeServer, changes: dict[str, str | None], status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request(**changes))
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()

    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(body)["code"] == "websocket_refused"


async def test_a_page_of_another_origin_is_refused() -> None:
    async with realtime_server(is_allowed_origin=lambda origin, host: origin == b"https://mine") as server:
        async with connect(server.websocket_url, origin="https://mine"):  # type: ignore[arg-type]
            pass
        with pytest.raises(InvalidStatus) as refused:
            async with connect(server.websocket_url, origin="https://other"):  # type: ignore[arg-type]
                pass

    assert refused.value.response.status_code == 403


async def test_more_than_the_allowed_connections_are_turned_away() -> None:
    async with (
        realtime_server(RealtimeOptions(max_connections=2)) as server,
        connect(server.websocket_url),
        connect(server.websocket_url),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(server.websocket_url):
                pass

    assert refused.value.response.status_code == 503


# -- frames ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire_bytes", "code"),
    [
        (frame(CONNECT), 1002),
        (masked_frame(b'"\xff\xfe"', TEXT, KEY), 1007),
        (masked_frame(b"x" * 10_001, TEXT, KEY), 1009),
        (masked_frame(b"x" * 126, PING, KEY), 1002),
        (masked_frame(b"x", CONTINUATION, KEY), 1002),
        (b"\xc1\x80" + KEY, 1002),
        (masked_frame(b"\x03", CLOSE, KEY), 1002),
        (masked_frame(b"\x03\xed", CLOSE, KEY), 1002),
        (masked_frame(b"{", TEXT, KEY), 3501),
        (masked_frame(b'{"id":"one","connect":{}}', TEXT, KEY), 3501),
        (masked_frame(b'{"id":1,"connect":{}}\n{"id":2,"connect":{}}', TEXT, KEY), 3501),
        (masked_frame(b'{"id":1,"subscribe":{"channel":"public:a"}}', TEXT, KEY), 3501),
    ],
)
async def test_who_breaks_the_protocol_is_closed_with_its_code(
    server: RealtimeServer, wire_bytes: bytes, code: int
) -> None:
    async with upgraded(server) as wire:
        wire.writer.write(wire_bytes)
        assert await wire.close_code() == code


async def test_fragments_are_put_together_around_a_ping(server: RealtimeServer) -> None:
    async with upgraded(server) as wire:
        wire.send(CONNECT[:7], is_last=False)
        wire.send(b"are you there", PING)
        wire.send(CONNECT[7:], CONTINUATION)
        pong = await wire.receive()
        reply = await wire.receive()

    assert pong == (10, b"are you there")
    assert b'"connect"' in reply[1]


async def test_a_binary_frame_holds_commands_as_well(server: RealtimeServer) -> None:
    async with upgraded(server) as wire:
        wire.send(CONNECT, BINARY)
        assert b'"connect"' in (await wire.receive())[1]


async def test_commands_before_a_broken_frame_are_still_answered(server: RealtimeServer) -> None:
    async with upgraded(server) as wire:
        wire.writer.write(masked_frame(CONNECT, TEXT, KEY) + frame(b"unmasked"))
        assert b'"connect"' in (await wire.receive())[1]
        assert await wire.close_code() == 1002


# -- goodbye --------------------------------------------------------------------------------


async def test_a_clients_goodbye_is_returned_and_its_session_is_gone(server: RealtimeServer) -> None:
    async with upgraded(server) as wire:
        wire.send(CONNECT)
        await wire.receive()
        wire.send((1001).to_bytes(2, "big") + b"leaving", CLOSE)
        assert await wire.close_code() == 1001
        assert await wire.reader.read() == b""

    assert server.hub.connections == 0


async def test_a_client_that_vanishes_is_forgotten(server: RealtimeServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request() + masked_frame(CONNECT, TEXT, KEY))
    await reader.readuntil(b"}}")
    emptied = asyncio.Event()
    server.hub.on_empty = emptied.set
    writer.transport.abort()
    async with asyncio.timeout(10):
        await emptied.wait()

    assert server.hub.connections == 0


async def test_stopping_says_goodbye_to_everyone() -> None:
    async with realtime_server() as server:
        sockets = [await connect(server.websocket_url) for _ in range(3)]
    codes = []
    for socket in sockets:
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        codes.append(socket.close_code)

    assert codes == [3001, 3001, 3001]


async def test_a_peer_that_ignores_our_goodbye_is_cut_off(clock: ManualClock) -> None:
    async with realtime_server(clock=clock) as server, upgraded(server) as wire:
        wire.writer.write(frame(b"unmasked"))
        assert await wire.close_code() == 1002
        server.advance(3.0)
        async with asyncio.timeout(10):
            assert await wire.reader.read() == b""


async def test_a_reader_that_stops_is_cut_and_the_others_get_everything() -> None:
    """Over real sockets: what the loop's own buffers do is part of the promise."""
    async with realtime_server() as server, upgraded(server) as stuck, connect(server.websocket_url) as quick:
        subscribe = CONNECT + b'\n{"id":2,"subscribe":{"channel":"public:a"}}'
        stuck.send(subscribe)
        await quick.send(subscribe.decode())
        await quick.recv()
        await stuck.receive()
        stuck.writer.transport.pause_reading()
        payload = b'"' + b"x" * 50_000 + b'"'
        for _ in range(400):
            server.hub.publish("public:a", payload)
            server.hub.flush()
            assert len(json.loads(await quick.recv())["push"]["pub"]["data"]) == 50_000
            if server.hub.slow_disconnects:
                break

        assert server.hub.slow_disconnects == 1
        assert server.hub.closes == {3008: 1}
        stuck.writer.transport.abort()


def test_the_same_holds_on_the_loop_that_the_server_runs_on() -> None:
    """uvloop writes at once and pauses writers in its own way."""
    uvloop.run(test_a_reader_that_stops_is_cut_and_the_others_get_everything())
    uvloop.run(test_stopping_says_goodbye_to_everyone())
