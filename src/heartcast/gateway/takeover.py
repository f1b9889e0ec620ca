"""Handing a connection over to those who speak something else on it: streams and sockets.

They get the transport and whatever arrived behind the request; this protocol forgets everything.
An upgrade that nobody here speaks is answered as the plain request that it also is.
"""

from __future__ import annotations

from abc import abstractmethod

import httptools

from heartcast.gateway.answers import IDLE, AnswerQueue
from heartcast.gateway.ending import Ending
from heartcast.gateway.head import CANNED, SOCKET, STREAM, Head, RawHeaders

PIECE_BYTES = 8192
"""The parser takes at most this much between two looks at the queue, which bounds how far one
packet full of small requests can overshoot ``max_pipelined``."""


class Takeover(Ending):
    """Upgrades, and what follows them."""

    __slots__ = ()

    @abstractmethod
    def _feed(self, piece: memoryview | bytes, data: bytes, start: int) -> bool:
        """Parse one piece. Returns whether to go on with the next one of this packet."""

    @abstractmethod
    def _end_message(self, head: Head, body: bytes, headers: RawHeaders) -> None:
        """A request is complete."""

    def _on_upgrade(self, rest: bytes) -> None:
        head = self._head
        assert head is not None
        if head.kind == CANNED and not head.has_body:
            self._refuse(head)
        elif head.kind == SOCKET and not head.has_body and self.port.upgrade_websocket is not None:
            self._tail = rest
            self._end_message(head, b"", head.headers)
        else:
            self._serve_plainly(head, rest)

    def _serve_plainly(self, head: Head, rest: bytes) -> None:
        """Serve a request without the upgrade it offers (h2c, as Java's client does on every call)."""
        self.parser = httptools.HttpRequestParser(self)
        lines = [b"%b %b HTTP/1.1\r\n" % (head.method, head.target)]
        lines += [
            b"%b: %b\r\n" % header
            for header in head.headers
            if header[0] not in (b"connection", b"upgrade", b"http2-settings")
        ]
        if head.closes:
            lines.append(b"connection: close\r\n")
        self._stage = IDLE
        raw = b"".join([*lines, b"\r\n", rest])
        for start in range(0, len(raw), PIECE_BYTES):
            if not self._feed(raw[start : start + PIECE_BYTES], raw, start):
                break

    def _keep_tail(self, data: bytes) -> None:
        if self._takeover is not None:
            self._tail += data
            if len(self._tail) > self.port.options.max_header_bytes:
                self.flow.pause_reading()

    def _hand_over(self) -> None:
        head, tail, transport, port = self._takeover, self._tail, self.transport, self.port
        assert head is not None
        self.connections.discard(self)
        port.connections.discard(self)
        self.flow.resume_reading()
        path = head.path.decode("latin-1")
        if head.kind == STREAM:
            assert port.open_stream is not None
            port.open_stream(self, transport, path, head.query, head.headers, head.peer or self.peer)
        else:
            assert port.upgrade_websocket is not None
            raw = _handshake(head)
            port.upgrade_websocket(self, transport, path, head.query, head.headers, raw, tail)
        if transport.get_protocol() is self:
            # It was refused and closed; we still have to be told that it is lost.
            self._takeover = None
        else:
            self._forget()

    def _forget(self) -> None:
        # uvloop keeps a transport's first protocol alive for as long as the transport.
        self.__dict__.clear()
        for name in AnswerQueue.__slots__:
            setattr(self, name, None)
        self._is_forgotten = True


def _handshake(head: Head) -> bytes:
    """The WebSocket handshake in the one form that every parser takes.

    Firefox sends ``Connection: keep-alive, Upgrade``.
    """
    lines = [b"GET %b HTTP/1.1\r\n" % head.target]
    lines += [b"%b: %b\r\n" % h for h in head.headers if h[0] not in (b"connection", b"upgrade")]
    return b"".join([*lines, b"connection: Upgrade\r\nupgrade: websocket\r\n\r\n"])
