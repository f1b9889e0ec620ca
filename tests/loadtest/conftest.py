"""A proxy between the tester and a server that does wrong on purpose, and counts it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from heartcast.testing.server import RunningServer

_HELD_S = 0.5
"""A frame kept back for swapping goes out after this when no other comes."""
_REFUSAL = b'{"id":%d,"error":{"code":100,"message":"internal server error","temporary":true}}'


class FrameProxy:
    """Forwards connections to a server, and plants faults into frames that carry messages.

    Args:
        shares: Share of frames per fault: drop, double, swap, corrupt, delay.
        delay_s: How long a delayed frame is kept; later ones pass it.
        refusals: So many subscriptions are refused for now before one is let through.
    """

    def __init__(
        self, server: RunningServer, shares: dict[str, float], *, delay_s: float = 0.0, refusals: int = 0
    ) -> None:
        self._server = server
        self._shares = shares
        self._delay_s = delay_s
        self.refusals = refusals
        self._random = Random(11)
        self._tasks: set[asyncio.Task[None]] = set()
        self.planted: Counter[str] = Counter()
        """What was done, in the words of the verdict."""
        self.messages = 0
        self.url = ""

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._server.host, self._server.port)
        ways = [
            asyncio.ensure_future(self._up(reader, up_writer)),
            asyncio.ensure_future(self._down(up_reader, writer)),
        ]
        self._tasks.update(ways)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for each in (writer, up_writer):
            each.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(65_536)
        is_stream = data.startswith(b"HTTP/1.1 200") and b"text/event-stream" in data[:400]
        if not (is_stream or data.startswith(b"HTTP/1.1 101")):
            while data:
                writer.write(data)
                data = await reader.read(65_536)
            return
        while b"\r\n\r\n" not in data:
            data += await reader.read(65_536)
        head, _, rest = data.partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        way = _Events(self, writer) if is_stream else _Way(self, writer)
        while True:
            rest = way.take(rest)
            data = await reader.read(65_536)
            if not data:
                return
            rest += data

    def fault(self) -> str:
        drawn = self._random.random()
        for name, share in self._shares.items():
            if drawn < share:
                return name
            drawn -= share
        return ""

    def answered(self, frame: bytes, head: int) -> bytes:
        """A frame with answers in it; a subscription's may become a refusal."""
        lines = frame[head:].split(b"\n")
        for at, line in enumerate(lines):
            if b'"subscribe":' in line and self.refusals:
                self.refusals -= 1
                lines[at] = _REFUSAL % json.loads(line)["id"]
        payload = b"\n".join(lines)
        return bytes([frame[0], 126]) + len(payload).to_bytes(2, "big") + payload

    def corrupted(self, frame: bytes, head: int, tail: int) -> bytes:
        at = self._random.randrange(head, len(frame) - tail)
        return frame[:at] + bytes([frame[at] ^ self._random.randrange(1, 256)]) + frame[at + 1 :]

    @property
    def delay_s(self) -> float:
        return self._delay_s

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Way:
    """One connection's frames on their way to the client.

    Attributes:
        tail: Bytes at a frame's end that only part it from the next.
    """

    tail = 0

    def __init__(self, proxy: FrameProxy, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._writer = writer
        self._held: bytes | None = None
        self._passed = 0

    def take(self, data: bytes) -> bytes:
        while len(data) >= 2:
            size, head = data[1], 2
            if size >= 126:
                head = 4 if size == 126 else 10
                size = int.from_bytes(data[2:head], "big")
            if len(data) < head + size:
                break
            frame, data = data[: head + size], data[head + size :]
            if b'"hb1.' in frame:
                self._message(frame, head)
            else:
                self._writer.write(self._proxy.answered(frame, head) if self._proxy.refusals else frame)
        return data

    def _message(self, frame: bytes, head: int) -> None:
        proxy = self._proxy
        # What is published within one tick leaves in one frame; faults go into those with one message.
        count = frame.count(b'"hb1.')
        proxy.messages += count
        if self._held is not None or count > 1:
            self._send(frame)
            if self._held is not None:
                self._release(is_swapped=True)
            return
        match proxy.fault():
            case "drop":
                proxy.planted["lost"] += 1
            case "double":
                proxy.planted["duplicate"] += 1
                self._send(frame)
                self._send(frame)
            case "swap":
                self._held = frame
                asyncio.get_running_loop().call_later(_HELD_S, self._give_up, frame)
            case "corrupt":
                proxy.planted["damaged"] += 1
                self._send(proxy.corrupted(frame, head, self.tail))
            case "delay":
                proxy.planted["late"] += 1
                asyncio.get_running_loop().call_later(proxy.delay_s, self._send_late, frame, self._passed)
            case _:
                self._send(frame)

    def _send(self, frame: bytes) -> None:
        self._passed += 1
        self._writer.write(frame)

    def _send_late(self, frame: bytes, passed_before: int) -> None:
        self._proxy.planted["reordered"] += self._passed > passed_before
        self._writer.write(frame)

    def _release(self, *, is_swapped: bool) -> None:
        assert self._held is not None
        self._proxy.planted["reordered"] += is_swapped
        self._send(self._held)
        self._held = None

    def _give_up(self, frame: bytes) -> None:
        if self._held is frame:
            self._release(is_swapped=False)


class _Events(_Way):
    """A stream's events on their way to the client."""

    tail = 2

    def take(self, data: bytes) -> bytes:
        *events, rest = data.split(b"\n\n")
        for event in events:
            if b'"hb1.' in event:
                self._message(event + b"\n\n", 0)
            else:
                self._writer.write(event + b"\n\n")
        return rest


@pytest.fixture
def frame_proxy(server: RunningServer) -> Callable[..., AsyncIterator[FrameProxy]]:
    """Starts a proxy in front of the module's server."""

    @asynccontextmanager
    async def start(shares: dict[str, float], **options: float) -> AsyncIterator[FrameProxy]:
        proxy = FrameProxy(server, shares, **options)
        listener = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
        proxy.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            yield proxy
        finally:
            listener.close()
            await proxy.stop()
            await listener.wait_closed()

    return start
