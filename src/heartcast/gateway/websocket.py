"""Upgrades to WebSocket: what is refused, and which sub-protocol is spoken.

The HTTP protocol parses the request and hands the connection over; from then on the
session owns the transport (``socket``, ``binary``). It never asks for compression:
permessage-deflate costs 64 KB a socket.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from hashlib import sha1

from heartcast.gateway.binary import BinarySocket
from heartcast.gateway.centrifugo import Centrifugo
from heartcast.gateway.socket import WebSocket
from heartcast.realtime.realtime import Realtime
from heartcast.wire import v1

_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_JSON = b"centrifuge-json"

Headers = list[tuple[bytes, bytes]]
IsAllowedOrigin = Callable[[bytes, bytes], bool]
"""Says whether a page of this origin may connect: (origin, host)."""


def any_origin(origin: bytes, host: bytes) -> bool:
    return True


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
        chosen = _chosen(fields)
        transport.write(_accept(fields, chosen))
        kind = BinarySocket if chosen == v1.SUBPROTOCOL else WebSocket
        session = kind(self._realtime, self._engine, transport)
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


def _chosen(fields: dict[bytes, bytes]) -> bytes:
    """The first sub-protocol of those offered that we speak; "" for none, which is JSON too."""
    known = (_JSON, v1.SUBPROTOCOL)
    return next((name for name in _tokens(fields, b"sec-websocket-protocol") if name in known), b"")


def _accept(fields: dict[bytes, bytes], subprotocol: bytes) -> bytes:
    key = fields[b"sec-websocket-key"].strip()
    proof = b64encode(sha1(key + _KEY_SUFFIX, usedforsecurity=False).digest())
    chosen = b"Sec-WebSocket-Protocol: %s\r\n" % subprotocol if subprotocol else b""
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
