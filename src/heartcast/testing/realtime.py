"""A realtime port inside the test's own process: sockets are real, the clock may be yours.

``realtime_server`` serves what ``heartcast.realtime`` has (WebSocket, event streams, the
server API) behind the smallest HTTP front that will do. Tests of the whole port start
``heartcast serve`` instead (``heartcast.testing.server``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import httptools

from heartcast.api.realtime import routes
from heartcast.api.route import Answer, Call, Identity, Route
from heartcast.core.clock import Clock, SystemClock
from heartcast.core.ids import IdSource
from heartcast.gateway.sse import StreamGateway
from heartcast.gateway.websocket import IsAllowedOrigin, WebSocketGateway, any_origin
from heartcast.realtime.namespaces import Mode
from heartcast.realtime.options import RealtimeOptions
from heartcast.realtime.realtime import Realtime, Shared, Verify, no_tokens
from heartcast.testing.clock import ManualClock

_SERVER = Identity(is_server=True)
_CORS = ((b"access-control-allow-origin", b"*"),)


class RealtimeServer:
    """What a test holds: the realtime parts and where they listen."""

    def __init__(self, realtime: Realtime, sockets: WebSocketGateway, streams: StreamGateway) -> None:
        self.realtime = realtime
        self.hub = realtime.hub
        self.sockets = sockets
        self.streams = streams
        self.api: dict[str, Route] = {route.path: route for route in routes(realtime)}
        self.port = 0

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def advance(self, seconds: float) -> None:
        """Move the manual clock and fire what falls due, a tick at a time."""
        clock = self.realtime.clock
        assert isinstance(clock, ManualClock)
        for _ in range(round(seconds / 0.1)):
            clock.advance(0.1)
            self.realtime.wheel.advance(clock.monotonic_s())


class _Front(asyncio.Protocol):
    """Reads a request and hands it on. One at a time, no pipelining."""

    def __init__(self, server: RealtimeServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""
        self._url = b""
        self._is_handed_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast and not a check: uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._server.sockets.upgrade(
                self, self._transport, "/", b"", self._headers, data, data[upgrade.args[0] :]
            )
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return
        path, _, query = self._url.partition(b"?")
        headers, body = self._headers, self._body
        self._headers, self._body, self._url = [], b"", b""
        if path == b"/api/v1/stream":
            self._server.streams.open(self, self._transport, path.decode(), query, headers, "127.0.0.1")
        else:
            self._answer(path.decode(), headers, body)

    def _answer(self, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        route = self._server.api.get(path)
        if route is None:
            self._respond(Answer(404))
            return
        call = Call(body=body, headers=headers, identity=_SERVER, respond=self._respond)
        answer = route.handler(call)
        if isinstance(answer, Answer):
            self._respond(answer)

    def _respond(self, answer: Answer) -> None:
        self._transport.write(
            b"HTTP/1.1 %d Answer\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s"
            % (answer.status, answer.content_type, len(answer.body), answer.body)
        )


@asynccontextmanager
async def realtime_server(
    options: RealtimeOptions | None = None,
    *,
    mode: Mode = "dev",
    clock: Clock | None = None,
    verify: Verify = no_tokens,
    is_allowed_origin: IsAllowedOrigin = any_origin,
    port: int = 0,
    shared: Shared | None = None,
) -> AsyncIterator[RealtimeServer]:
    """Serve on loopback until the block ends; every connection is closed then.

    Args:
        shared: What it has together with other processes.
        port: 0 takes a free one; a number lets a "restarted" server come back at its place.
    """
    clock = clock or SystemClock()
    loop = asyncio.get_running_loop()
    realtime = Realtime(
        options or RealtimeOptions(), clock, loop, IdSource(clock), verify=verify, mode=mode, shared=shared
    )
    sockets = WebSocketGateway(realtime, is_allowed_origin)
    server = RealtimeServer(realtime, sockets, StreamGateway(realtime, lambda origin: _CORS))
    listener = await loop.create_server(lambda: _Front(server), "127.0.0.1", port)
    server.port = listener.sockets[0].getsockname()[1]
    realtime.start()
    try:
        yield server
    finally:
        listener.close()
        await realtime.stop()
