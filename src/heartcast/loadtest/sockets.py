"""One WebSocket client of thousands, a few hundred bytes each.

A client is one small object and one socket; the crowd it belongs to tells it when that
can be read or written. There is neither a transport, a buffer nor a task per connection,
and one read of a socket is all that stands between the kernel and the account of what
arrived.

Server frames are parsed strictly: what breaks RFC 6455 counts as damaged and closes the
client. Linux only, as epoll is.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from heartcast.wire.frames import CLOSE, PING, PONG, TEXT, masked_frame

if TYPE_CHECKING:
    from heartcast.loadtest.crowd import Crowd

_READ_BYTES = 65_536
_KEY = b"\0\0\0\0"
_ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The proof that belongs to the key we always send (RFC 6455, 1.3)."""
_WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def frames(data: bytes, start: int = 0) -> tuple[list[tuple[int, bytes]], int]:
    """Whole frames of a server.

    Returns:
        (first byte, payload) of each, and where the next, unfinished one begins.

    Raises:
        ValueError: they break RFC 6455.
    """
    found: list[tuple[int, bytes]] = []
    end = len(data)
    while end - start >= 2:
        size = data[start + 1]
        body = start + 2
        if size >= 126:
            if size > 127:
                raise ValueError("a masked frame from a server")
            body += 2 if size == 126 else 8
            if end < body:
                break
            size = int.from_bytes(data[start + 2 : body], "big")
        stop = body + size
        if end < stop:
            if size > 1 << 26:
                raise ValueError(f"a frame of {size:,} bytes")
            break
        found.append((data[start], data[body:stop]))
        start = stop
    return found, start


class Client(ABC):
    """One WebSocket client. Subclasses say what it does.

    Attributes:
        serial: Its number in the crowd, from 0.
        state: 0 closed, 1 connecting, 2 shaking hands, 3 open.
    """

    __slots__ = ("_out", "_rest", "crowd", "serial", "sock", "state", "wait_us")
    message_byte: ClassVar[int] = 0x80 | TEXT
    """The first byte of frames that are messages of its protocol."""

    def __init__(self, crowd: Crowd, serial: int) -> None:
        self.crowd = crowd
        self.serial = serial
        self.sock: socket.socket | None = None
        self.state = 0
        self.wait_us = 0
        """When its present attempt to connect began."""
        self._rest: bytes | None = None
        self._out: bytes | None = None

    def greeting(self) -> bytes:
        """The request that it sends first."""
        return self.crowd.handshake

    @abstractmethod
    def opened(self) -> None:
        """The handshake is done."""

    @abstractmethod
    def received(self, payload: bytes) -> None:
        """A message came."""

    def received_read(self, data: bytes) -> bool:
        """All that one read gave, whole frames only: whether it was dealt with as it stands."""
        return False

    def parsed(self, data: bytes, found: list[tuple[int, bytes]]) -> None:
        """One read's whole frames were handed to ``received``."""
        return

    @abstractmethod
    def broken(self, detail: str) -> None:
        """Something came that is no frame."""

    @abstractmethod
    def closed(self, code: int, reason: str) -> None:
        """The connection has ended, by the peer or by an error; 0: without a close code."""

    @property
    def is_open(self) -> bool:
        return self.state == 3

    def send(self, payload: bytes) -> None:
        """Send a text message; whatever the kernel does not take waits here."""
        self.write(masked_frame(payload, TEXT, _KEY))

    def write(self, data: bytes) -> None:
        if self.sock is None:
            return
        if self._out is not None:
            self._out += data
            return
        try:
            sent = self.sock.send(data)
        except _WAITS:
            sent = 0
        except OSError as error:
            self.end(0, str(error))
            return
        if sent < len(data):
            self._out = data[sent:]
            self.crowd.watch(self, is_writing=True)

    def cut(self) -> None:
        """Drop the connection as a dying phone does: no goodbye. ``closed`` is not called."""
        if self.sock is not None:
            self.crowd.forget(self)
            self.sock.close()
            self.sock = None
        self.state = 0
        self._rest = self._out = None

    def end(self, code: int, reason: str) -> None:
        was_known = self.sock is not None
        self.cut()
        if was_known:
            self.closed(code, reason)

    # -- called by the crowd --------------------------------------------------

    def ready(self, mask: int) -> None:
        if self.state == 1 and not self._connected():
            return
        if mask & select.EPOLLOUT and self._out is not None:
            data, self._out = self._out, None
            self.crowd.watch(self, is_writing=False)
            self.write(data)
        if self.sock is not None and mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._read(self.sock)

    def _connected(self) -> bool:
        assert self.sock is not None
        failure = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            self.end(0, os.strerror(failure))
            return False
        self.state = 2
        if isinstance(self.sock, ssl.SSLSocket) and not self._secured(self.sock):
            return False
        self.crowd.watch(self, is_writing=False)
        self.write(self.greeting())
        return True

    def _secured(self, sock: ssl.SSLSocket) -> bool:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            self.state = 1
            self.crowd.watch(self, is_writing=False)
            return False
        except OSError as error:
            self.end(0, f"TLS: {error}")
            return False
        return True

    def _read(self, sock: socket.socket) -> None:
        while True:
            try:
                data = sock.recv(_READ_BYTES)
            except _WAITS:
                return
            except OSError as error:
                self.end(0, str(error))
                return
            if not data:
                self.end(0, "closed without a close frame")
                return
            self.take_bytes(data)
            # A TLS socket may hold decrypted bytes that epoll does not know of.
            if self.sock is None or not isinstance(sock, ssl.SSLSocket):
                return

    def take_bytes(self, data: bytes) -> None:
        """Bytes came from the socket."""
        if self._rest is not None:
            data = self._rest + data
            self._rest = None
        elif self.state == 3 and self.received_read(data):
            return
        start = 0
        if self.state == 2:
            start = self._shake(data)
            if not start:
                return
        try:
            found, stop = frames(data, start)
        except ValueError as error:
            self.broken(str(error))
            self.end(0, str(error))
            return
        if stop < len(data):
            self._rest = data[stop:] if stop else data
        for first, payload in found:
            if first == self.message_byte:
                self.received(payload)
            else:
                self._control(first, payload)
            if self.sock is None:
                return
        if not start and stop == len(data):
            self.parsed(data, found)

    def _shake(self, data: bytes) -> int:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._rest = data
            return 0
        head = data[:end]
        if not head.startswith(b"HTTP/1.1 101"):
            self.end(0, f"answered {head[9:12].decode('latin-1')} to the WebSocket handshake")
            return 0
        if _ACCEPT not in head:
            self.end(0, "answered the WebSocket handshake with a wrong proof")
            return 0
        self.state = 3
        self.crowd.one_opened()
        self.opened()
        return end + 4 if self.sock is not None else 0

    def _control(self, first: int, payload: bytes) -> None:
        if first == 0x80 | PING:
            self.write(masked_frame(payload, PONG, _KEY))
        elif first == 0x80 | CLOSE:
            code = int.from_bytes(payload[:2], "big")
            self.end(code, payload[2:].decode("utf-8", "replace"))
        elif first != 0x80 | PONG:
            self.broken(f"a frame that begins with 0x{first:02x}")
