"""All WebSocket clients of this process, and the opening of their connections.

All sockets are watched by an epoll set of our own, and the event loop watches that set as
a single file. What goes over a socket is its client's business. Linux only, as epoll is.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable

from heartcast.loadtest.sockets import Client

_MOST_OPENING = 128
"""Connections being opened at a time: a server's backlog is finite, and ours to respect."""
# Not in every Python's socket module; from linux/in.h.
_IP_BIND_ADDRESS_NO_PORT = 24


class Crowd:
    """All clients of this process. Close it.

    Args:
        host: Name or address of the server.
        path: Of its WebSocket endpoint.
        subprotocol: Asked for in WebSocket handshakes; "": none.
        sources: Addresses to connect from, in turn: each has its own 28,000 ports. Empty:
            whatever the kernel chooses.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        path: str = "/connection/websocket",
        subprotocol: str = "",
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
        self.authority = f"{host}:{port}"
        asked = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
        self.handshake = (
            f"GET {path} HTTP/1.1\r\nHost: {self.authority}\r\nUpgrade: websocket\r\n{asked}"
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
