"""Receivers of webhooks that behave as badly as real ones.

    async with Receiver() as receiver:
        receiver.behave = storm(percent=50)
        …
        receiver.behave = healthy
        assert receiver.ids == {…}

A receiver is a real HTTP server on loopback that keeps every request it got, and does
with each what ``behave`` says. Behaviours are plain functions of the request, so that a
test can write its own. Shares are counted, not drawn: of each hundred requests exactly so
many fail, and a test never depends on luck.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple

from heartcast.backends.exchange import Reply
from heartcast.core.errors import Unavailable
from heartcast.testing.turns import ManualTurns


class Received(NamedTuple):
    """One request."""

    number: int
    """Counted from 1, over all connections of the receiver."""
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def id(self) -> str:
        """The webhook's id; "" when it has none."""
        return self.headers.get("webhook-id", "")


class Answer(NamedTuple):
    """What the receiver does with a request."""

    status: int = 204
    headers: Mapping[str, str] = {}
    body: bytes = b""
    after_s: float = 0.0
    """Real seconds before it answers."""
    hangs: bool = False
    """It never answers."""
    resets: bool = False
    """It cuts the connection instead of answering."""


Behaviour = Callable[[Received], Answer]


def healthy(request: Received) -> Answer:
    """204, always."""
    return Answer()


def hung(request: Received) -> Answer:
    """Takes the request and never answers."""
    return Answer(hangs=True)


def resetting(request: Received) -> Answer:
    """Takes the request and cuts the connection."""
    return Answer(resets=True)


def gone(request: Received) -> Answer:
    """410: it wants no more."""
    return Answer(410)


def storm(percent: int = 100, status: int = 503) -> Behaviour:
    """Fails so many of each hundred requests, evenly spread."""

    def behave(request: Received) -> Answer:
        fails = request.number * percent // 100 > (request.number - 1) * percent // 100
        return Answer(status) if fails else Answer()

    return behave


def throttling(every: int, retry_after_s: int) -> Behaviour:
    """Answers each ``every``-th request with 429 and Retry-After."""

    def behave(request: Received) -> Answer:
        if request.number % every:
            return Answer()
        return Answer(429, {"retry-after": str(retry_after_s)})

    return behave


def slow_start(first_s: float, requests: int) -> Behaviour:
    """Slow at first: the wait of ``first_s`` shrinks to none over so many requests."""

    def behave(request: Received) -> Answer:
        return Answer(after_s=max(0.0, first_s * (1 - (request.number - 1) / requests)))

    return behave


class ManualReceiver:
    """Every endpoint there is, on a clock moved by hand: what a route posts with.

    Args:
        turns: Answers come on its next turns.
        timeout_s: When a POST that is never answered counts as failed.
    """

    def __init__(self, turns: ManualTurns, timeout_s: float, behave: Behaviour = healthy) -> None:
        self._turns = turns
        self._timeout_s = timeout_s
        self.behave = behave
        self.received: list[Received] = []
        self.accepted: list[Received] = []
        """Those that were answered with 2xx."""
        self.under_way = 0

    def begin(
        self, url: str, body: bytes, headers: Mapping[str, str], done: Callable[[Reply | Unavailable], None]
    ) -> None:
        """Take one POST."""
        request = Received(len(self.received) + 1, url, dict(headers), body)
        self.received.append(request)
        self.under_way += 1
        answer = self.behave(request)
        if answer.hangs:
            self._turns.call_later(self._timeout_s, lambda: self._end(done, Unavailable("no answer in time")))
        elif answer.after_s:
            self._turns.call_later(answer.after_s, lambda: self._answer(request, answer, done))
        else:
            self._turns.call_soon(lambda: self._answer(request, answer, done))

    def close(self) -> None:
        """Nothing is held open."""

    def _answer(self, request: Received, answer: Answer, done: Callable[[Reply | Unavailable], None]) -> None:
        if answer.resets:
            self._end(done, Unavailable("no answer"))
            return
        if 200 <= answer.status < 300:
            self.accepted.append(request)
        wait = answer.headers.get("retry-after")
        self._end(done, Reply(answer.status, float(wait) if wait else None, answer.body))

    def _end(self, done: Callable[[Reply | Unavailable], None], reply: Reply | Unavailable) -> None:
        self.under_way -= 1
        done(reply)


class Receiver:
    """A server on a free port of 127.0.0.1, as an asynchronous context manager.

    Args:
        tls: With it the receiver speaks https.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._server: Any = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.behave: Behaviour = healthy
        self.max_connections = 0
        """Connections at a time, more are cut; 0: any number. Lowering it cuts the newest."""
        self.received: list[Received] = []
        self.accepted: list[Received] = []
        """Those that were answered with 2xx."""
        self.connections = 0
        """Connections made so far."""
        self.url = ""

    @property
    def ids(self) -> set[str]:
        """The webhook ids that were answered with 2xx."""
        return {request.id for request in self.accepted}

    def limit(self, connections: int) -> None:
        """Carry at most so many connections from now on."""
        self.max_connections = connections
        for writer in list(self._writers)[connections:]:
            writer.transport.abort()

    async def __aenter__(self) -> Receiver:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}/hook"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.max_connections and len(self._writers) >= self.max_connections:
            writer.transport.abort()
            return
        # Here and not in the task: one that is cancelled before its first step closes nothing.
        self._writers.add(writer)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # the sender may hang up whenever it likes
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; False: the connection ends."""
        head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Received(len(self.received) + 1, head.split()[1], headers, body)
        self.received.append(request)
        answer = self.behave(request)
        if answer.after_s:
            await asyncio.sleep(answer.after_s)
        if answer.hangs:
            await reader.read()
        if answer.hangs or answer.resets:
            return False
        # Counted before it is written: what the sender saw as taken is always in the list.
        if 200 <= answer.status < 300:
            self.accepted.append(request)
        writer.write(_packed(answer))
        await writer.drain()
        return True


def _packed(answer: Answer) -> bytes:
    head = f"HTTP/1.1 {answer.status} Answer\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    if answer.status != 204:
        head += f"content-length: {len(answer.body)}\r\n"
    return f"{head}\r\n".encode("latin-1") + answer.body
