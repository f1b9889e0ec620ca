"""WebSocket connections: the upgrade, the frames, the closing handshake.

The HTTP protocol parses the request and hands the connection over; from then on this
protocol owns the transport. It is the session itself: one object per connection,
beside the loop's own. It never asks for compression: permessage-deflate costs 64 KB a
socket.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from hashlib import sha1

from heartcast.gateway.centrifugo import Centrifugo
from heartcast.realtime.realtime import Realtime
from heartcast.realtime.room import Room
from heartcast.realtime.session import Session
from heartcast.wire.codec import is_utf8
from heartcast.wire.envelopes import Disconnect
from heartcast.wire.frames import (
    CLOSE,
    INVALID_TEXT,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    FrameReader,
    close_code,
    close_frame,
    frame,
)

_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PING_FRAME = frame(b"{}")
_SUBPROTOCOL = b"centrifuge-json"

Headers = list[tuple[bytes, bytes]]
IsAllowedOrigin = Callable[[bytes, bytes], bool]
"""Says whether a page of this origin may connect: (origin, host)."""


def any_origin(origin: bytes, host: bytes) -> bool:
    return True


class WebSocket(Session):
    """One WebSocket and the session on it."""

    __slots__ = ("_ends", "_engine", "_reader", "expires_ms", "replies")

    def __init__(self, realtime: Realtime, engine: Centrifugo, transport: asyncio.Transport) -> None:
        super().__init__(realtime.hub, transport)
        self._engine = engine
        self._reader = FrameReader(realtime.options.max_message_bytes)
        self._ends: dict[str, int] | None = None
        self.expires_ms: int | None = None
        self.replies: list[bytes] | None = None
        """Replies of the message being handled; None between messages."""

    # -- called by the event loop ---------------------------------------------------

    def data_received(self, data: bytes) -> None:
        for opcode, payload in self._reader.feed(data):
            if opcode == CLOSE:
                self._closed_by_peer(payload)
                return
            if self.is_closing:
                continue
            if opcode == PING:
                self.send(frame(payload, PONG))
            elif opcode != PONG:
                self._take(opcode, payload)
        if self._reader.error is not None and not self.is_closing:
            self.close(Disconnect(*self._reader.error))

    def eof_received(self) -> bool:
        return False

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT and not is_utf8(payload):
            self.close(Disconnect(INVALID_TEXT, "text must be UTF-8"))
        else:
            self._engine.handle(self, payload)

    def _closed_by_peer(self, payload: bytes) -> None:
        code = close_code(payload)
        if not self.is_closing:
            if code is None or not is_utf8(payload[2:]):
                self.close(Disconnect(PROTOCOL_ERROR, "bad close frame"))
            else:
                self.close(Disconnect(1000 if code == 1005 else code, ""))
        # Both sides have said goodbye, and the client reads no more: no need to wait.
        self.transport.close()

    # -- out ------------------------------------------------------------------------

    def answer(self, reply: bytes) -> None:
        """Send a reply, together with the others of its message while that is handled."""
        if self.replies is not None:
            self.replies.append(reply)
        else:
            self.send_lines([reply])

    def settle(self) -> None:
        if self.replies:
            lines, self.replies[:] = list(self.replies), []
            self.send_lines(lines)

    def send_lines(self, lines: list[bytes]) -> None:
        self.send(frame(b"\n".join(lines)))

    def push_line(self, line: bytes) -> None:
        self.settle()
        self.send(frame(line))

    def ping(self) -> None:
        self.awaits_pong = True
        self.send(_PING_FRAME)

    def farewell(self, disconnect: Disconnect) -> bytes:
        return close_frame(*disconnect)

    # -- tokens that end ------------------------------------------------------------

    def prolong(self, expires_ms: int | None) -> None:
        self._engine.expire(self, expires_ms)

    def note_end(self, channel: str, ends_ms: int) -> None:
        if self._ends is None:
            self._ends = {}
        self._ends[channel] = ends_ms

    def end_of(self, channel: str) -> int | None:
        """Wall time at which the subscription's token ends, None when it does not."""
        return self._ends.get(channel) if self._ends is not None else None

    def leave(self, room: Room) -> None:
        super().leave(room)
        if self._ends is not None:
            self._ends.pop(room.channel, None)


class WebSocketGateway:
    """Turns upgrade requests into sessions.

    Args:
        is_allowed_origin: Asked when the request names an origin.
    """

    def __init__(self, realtime: Realtime, is_allowed_origin: IsAllowedOrigin = any_origin) -> None:
        self._realtime = realtime
        self._engine = Centrifugo(realtime)
        self._is_allowed_origin = is_allowed_origin
        self.refused = 0

    @property
    def engine(self) -> Centrifugo:
        return self._engine

    def upgrade(
        self,
        http_protocol: object,
        transport: asyncio.Transport,
        path: str,
        query: bytes,
        headers: Headers,
        raw_request: bytes,
        tail: bytes,
    ) -> None:
        """Answer an upgrade request and take the connection over.

        Args:
            headers: Names in lower case.
            tail: What the client sent behind the request in the same packet.
        """
        fields = dict(reversed(headers))
        refusal = self._why_not(fields)
        if refusal is not None:
            self.refused += 1
            transport.write(refusal)
            transport.close()
            return
        transport.write(_accept(fields))
        session = WebSocket(self._realtime, self._engine, transport)
        transport.set_protocol(session)  # type: ignore[arg-type]  # the loop asks for its methods only
        if tail:
            session.data_received(tail)

    def _why_not(self, fields: dict[bytes, bytes]) -> bytes | None:
        if b"upgrade" not in _tokens(fields, b"connection") or b"websocket" not in _tokens(
            fields, b"upgrade"
        ):
            return _refuse(b"400 Bad Request", b"this path speaks WebSocket")
        if fields.get(b"sec-websocket-version") != b"13":
            return _refuse(
                b"426 Upgrade Required", b"WebSocket version 13 is required", b"sec-websocket-version: 13\r\n"
            )
        if not _is_key(fields.get(b"sec-websocket-key", b"")):
            return _refuse(b"400 Bad Request", b"sec-websocket-key must be 16 bytes in base64")
        origin = fields.get(b"origin")
        if origin is not None and not self._is_allowed_origin(origin, fields.get(b"host", b"")):
            return _refuse(b"403 Forbidden", b"this origin may not connect")
        if self._realtime.is_stopping or self._is_full():
            return _refuse(b"503 Service Unavailable", b"no more connections", b"retry-after: 1\r\n")
        return None

    def _is_full(self) -> bool:
        return self._realtime.hub.connections >= self._realtime.options.max_connections


def _tokens(fields: dict[bytes, bytes], name: bytes) -> list[bytes]:
    # Firefox sends "Connection: keep-alive, Upgrade".
    return [token.strip().lower() for token in fields.get(name, b"").split(b",")]


def _is_key(key: bytes) -> bool:
    try:
        return len(b64decode(key, validate=True)) == 16
    except Base64Error:
        return False


def _accept(fields: dict[bytes, bytes]) -> bytes:
    key = fields[b"sec-websocket-key"].strip()
    proof = b64encode(sha1(key + _KEY_SUFFIX, usedforsecurity=False).digest())
    offered = _tokens(fields, b"sec-websocket-protocol")
    chosen = b"Sec-WebSocket-Protocol: %s\r\n" % _SUBPROTOCOL if _SUBPROTOCOL in offered else b""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n%s\r\n" % (proof, chosen)
    )


def _refuse(status: bytes, detail: bytes, extra: bytes = b"") -> bytes:
    number, _, title = status.partition(b" ")
    code = b"websocket_refused"
    body = b'{"type":"/problems/%s","title":"%s","status":%s,"code":"%s","detail":"%s"}' % (
        code,
        title,
        number,
        code,
        detail,
    )
    return (
        b"HTTP/1.1 %s\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\n"
        b"%sconnection: close\r\n\r\n%s" % (status, len(body), extra, body)
    )
