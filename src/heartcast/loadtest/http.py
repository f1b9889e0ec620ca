"""HTTP requests in bulk: pipelined on a few connections, each timed from its intended moment.

Requests that are due together leave in one write per connection. Answers come in the
order of the requests (HTTP/1.1), so a connection's memory is a queue of what it asked.
Only what our answers have is understood: a status line and a Content-Length.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from heartcast.core.clock import Clock
from heartcast.core.errors import Unavailable

OnAnswer = Callable[[Any, int, bytes, int], None]
"""``on_answer(tag, status, body, latency_us)``; status 0: the connection closed before the answer."""

MAX_PIPELINED = 48
"""Requests one connection may have open: servers stop reading somewhere (heartcast at 64)."""

_RECONNECT_S = 0.2


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._asked: deque[tuple[Any, int]] = deque()
        self._waiting: deque[tuple[Any, int, bytes]] = deque()
        self._out: list[bytes] = []
        self._rest = b""

    @property
    def open_requests(self) -> int:
        return len(self._asked) + len(self._waiting)

    def ask(self, tag: Any, request: bytes, intended_us: int) -> None:
        """Send with the next ``flush``, or when earlier ones are answered."""
        if self._transport is None or len(self._asked) >= MAX_PIPELINED:
            self._waiting.append((tag, intended_us, request))
        else:
            self._asked.append((tag, intended_us))
            self._out.append(request)

    def flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by descent
        self._refill()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        now_us = self._pool.now_us()
        start, end = 0, len(data)
        while start < end:
            head_end = data.find(b"\r\n\r\n", start)
            if head_end < 0:
                break
            body_at = head_end + 4
            body_end = body_at + _content_length(data, start, head_end)
            if end < body_end:
                break
            self._answered(int(data[start + 9 : start + 12]), data[body_at:body_end], now_us)
            start = body_end
        self._rest = data[start:]
        self._refill()

    def _answered(self, status: int, body: bytes, now_us: int) -> None:
        if self._asked:
            tag, intended_us = self._asked.popleft()
            self._pool.answered(tag, status, body, now_us - intended_us)

    def _refill(self) -> None:
        waiting = self._waiting
        while waiting and len(self._asked) < MAX_PIPELINED:
            tag, intended_us, request = waiting.popleft()
            self._asked.append((tag, intended_us))
            self._out.append(request)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._rest = b""
        self._out.clear()
        asked, self._asked = self._asked, deque()
        now_us = self._pool.now_us()
        for tag, intended_us in asked:
            self._pool.answered(tag, 0, b"", now_us - intended_us)
        self._pool.lost(self)

    def give_up(self) -> None:
        """Answer everything that is still open with status 0."""
        now_us = self._pool.now_us()
        for tag, intended_us in [*self._asked, *((tag, due) for tag, due, _ in self._waiting)]:
            self._pool.answered(tag, 0, b"", now_us - intended_us)
        self._asked.clear()
        self._waiting.clear()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _content_length(data: bytes, start: int, end: int) -> int:
    at = data.find(b"ontent-", start, end)
    while at >= 0:
        if data[at + 7 : at + 14].lower() == b"length:":
            stop = data.find(b"\r", at, end + 1)
            return int(data[at + 14 : stop if stop >= 0 else end])
        at = data.find(b"ontent-", at + 7, end)
    return 0


class Pool:
    """A number of connections to one server.

    Args:
        on_answer: Told of every answer, and of every request that will get none.
    """

    def __init__(
        self, clock: Clock, host: str, port: int, tls: ssl.SSLContext | None, on_answer: OnAnswer
    ) -> None:
        self._clock = clock
        self._at = (host, port, tls)
        self._on_answer = on_answer
        self._is_closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: list[Connection] = []
        self.statuses: dict[int, int] = {}
        """Answers by status; 0: requests that got none."""
        self.reconnects = 0

    def now_us(self) -> int:
        return self._clock.monotonic_ns() // 1000

    def answered(self, tag: Any, status: int, body: bytes, latency_us: int) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self._on_answer(tag, status, body, latency_us)

    @property
    def open_requests(self) -> int:
        return sum(connection.open_requests for connection in self.connections)

    async def open(self, count: int) -> None:
        """Connect ``count`` times.

        Raises:
            Unavailable: nothing answers there.
        """
        for _ in range(count):
            connection = Connection(self)
            await self._connect(connection)
            self.connections.append(connection)

    async def _connect(self, connection: Connection) -> None:
        host, port, tls = self._at
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(10):
                await loop.create_connection(lambda: connection, host, port, ssl=tls)
        except TimeoutError as error:
            raise Unavailable(f"cannot connect to {host}:{port}: no answer in 10 s") from error
        except OSError as error:
            raise Unavailable(f"cannot connect to {host}:{port}: {error}") from error

    def lost(self, connection: Connection) -> None:
        """A connection has ended: open it again, as long as the pool is in use."""
        if not self._is_closing:
            task = asyncio.get_running_loop().create_task(self._again(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _again(self, connection: Connection) -> None:
        while not self._is_closing:
            await asyncio.sleep(_RECONNECT_S)
            try:
                await self._connect(connection)
            except Unavailable:
                continue
            self.reconnects += 1
            return

    def flush(self) -> None:
        for connection in self.connections:
            connection.flush()

    async def drain(self, timeout_s: float) -> None:
        """Wait for open answers; what has none in time is counted as status 0."""
        deadline_s = self._clock.monotonic_s() + timeout_s
        # An event per answer would cost more than it tells.
        while self.open_requests and self._clock.monotonic_s() < deadline_s:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for connection in self.connections:
            connection.give_up()

    async def close(self) -> None:
        self._is_closing = True
        for connection in self.connections:
            connection.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


def request(method: str, path: str, host: str, body: bytes = b"", authorization: str = "") -> bytes:
    """One HTTP/1.1 request as bytes."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n"
    if authorization:
        head += f"Authorization: {authorization}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body
