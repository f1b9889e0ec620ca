"""Thousands of WebSocket clients, a few hundred bytes each.

A client is one small object and one socket. All sockets are watched by an epoll set of
our own, and the event loop watches that set as a single file; so there is neither a
transport, a buffer nor a task per connection, and one read of a socket is all that
stands between the kernel and the account of what arrived.

Server frames are parsed strictly: what breaks RFC 6455 counts as damaged and closes the
client. Linux only, as epoll is.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import socket
import ssl
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from heartcast.wire.frames import CLOSE, PING, PONG, TEXT, masked_frame

_READ_BYTES = 65_536
_MOST_OPENING = 128
"""Connections being opened at a time: a server's backlog is finite, and ours to respect."""
_KEY = b"\0\0\0\0"
_ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The proof that belongs to the key we always send (RFC 6455, 1.3)."""
# Not in every Python's socket module; from linux/in.h.
_IP_BIND_ADDRESS_NO_PORT = 24
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

    def __init__(self, crowd: Crowd, serial: int) -> None:
        self.crowd = crowd
        self.serial = serial
        self.sock: socket.socket | None = None
        self.state = 0
        self.wait_us = 0
        """When its present attempt to connect began."""
        self._rest: bytes | None = None
        self._out: bytes | None = None

    @abstractmethod
    def opened(self) -> None:
        """The handshake is done."""

    @abstractmethod
    def received(self, payload: bytes) -> None:
        """A text message came."""

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
        self.write(self.crowd.handshake)
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
            if first == 0x81:
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


class Crowd:
    """All clients of this process. Close it.

    Args:
        host: Name or address of the server.
        path: Of its WebSocket endpoint.
        sources: Addresses to connect from, in turn: each has its own 28,000 ports. Empty:
            whatever the kernel chooses.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        path: str = "/connection/websocket",
        tls: ssl.SSLContext | None = None,
        sources: tuple[str, ...] = (),
        now_us: Callable[[], int],
    ) -> None:
        self._host = host
        self._tls = tls
        self._sources = sources
        self.now_us = now_us
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self._family, self._address = found[0], found[4]
        self.handshake = (
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._waiting: deque[Client] = deque()
        self._opening = 0
        self._opened = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._poll)
        self.limit_met: str | None = None
        """A limit of this machine that stopped a connection, as a sentence."""

    def __len__(self) -> int:
        return len(self._clients)

    def connect(self, client: Client) -> None:
        """Open this client's connection as soon as fewer than 128 others are being opened."""
        if self._opening >= _MOST_OPENING:
            self._waiting.append(client)
        else:
            self._connect(client)

    def _connect(self, client: Client) -> None:
        client.wait_us = self.now_us()
        try:
            sock = self._dial(client.serial)
        except OSError as error:
            self._note_limit(error)
            self._loop.call_soon(client.closed, 0, str(error))
            return
        if self._tls is not None:
            sock = self._tls.wrap_socket(sock, server_hostname=self._host, do_handshake_on_connect=False)
        client.sock, client.state = sock, 1
        self._opening += 1
        self.adopt(client)

    def adopt(self, client: Client) -> None:
        """Watch a client's socket; it is told when something can be read or written."""
        assert client.sock is not None
        fd = client.sock.fileno()
        self._clients[fd] = client
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLOUT)

    def _dial(self, serial: int) -> socket.socket:
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._sources:
                # The port is chosen at connect, when the whole four of it must be unique, not before.
                sock.setsockopt(socket.SOL_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((self._sources[serial % len(self._sources)], 0))
            with contextlib.suppress(BlockingIOError):
                sock.connect(self._address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _note_limit(self, error: OSError) -> None:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            self.limit_met = (
                f"this machine's limit of open files was met at {len(self._clients):,} connections "
                "(raise it: ulimit -n)"
            )
        elif error.errno in (errno.EADDRNOTAVAIL, errno.EADDRINUSE):
            self.limit_met = (
                f"this machine ran out of local ports at {len(self._clients):,} connections "
                "(give more addresses with --source)"
            )

    def one_opened(self) -> None:
        self._opened += 1
        self._done_opening()

    def _done_opening(self) -> None:
        self._opening -= 1
        self._next()

    def _next(self) -> None:
        if self._waiting and self._opening < _MOST_OPENING:
            self._connect(self._waiting.popleft())

    def watch(self, client: Client, *, is_writing: bool) -> None:
        if client.sock is not None:
            mask = select.EPOLLIN | select.EPOLLOUT if is_writing else select.EPOLLIN
            self._epoll.modify(client.sock.fileno(), mask)

    def pause(self, client: Client, *, is_reading: bool) -> None:
        """Stop or go on reading from this client's socket: a phone in a tunnel."""
        if client.sock is not None:
            self._epoll.modify(client.sock.fileno(), select.EPOLLIN if is_reading else 0)

    def forget(self, client: Client) -> None:
        assert client.sock is not None
        fd = client.sock.fileno()
        if self._clients.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            if client.state in (1, 2):
                self._done_opening()

    def _poll(self) -> None:
        clients = self._clients
        for fd, mask in self._epoll.poll(0, 256):
            client = clients.get(fd)
            # An earlier client of this round may have cut this one off.
            if client is not None:
                client.ready(mask)

    def close(self) -> None:
        self._waiting.clear()
        for client in list(self._clients.values()):
            client.cut()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
