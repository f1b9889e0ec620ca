"""Many WebSocket subscribers in a process of their own, without a library object per socket.

    python -m benchmarks.subscribers PORT COUNT MESSAGES

Prints ``ready`` when all are subscribed to ``public:bench``; then, when every socket has
received MESSAGES, one JSON line with latencies. A message carries its send time as
``@<19 digits of nanoseconds>``.
"""

from __future__ import annotations

import asyncio
import json
import re
import struct
import sys
import time
from typing import cast

import uvloop

_MARK = re.compile(rb"@(\d{19})")
_HANDSHAKE = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_COMMANDS = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"public:bench"}}'
_SUBSCRIBED = b'"id":2'


def masked(payload: bytes) -> bytes:
    """A text frame as a client sends it, with a mask of zeros."""
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack(">H", len(payload))
    return b"\x81" + size + b"\0\0\0\0" + payload


class _Subscriber(asyncio.Protocol):
    def __init__(self, crowd: _Crowd) -> None:
        self._crowd = crowd
        self._is_ready = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(_HANDSHAKE + masked(_COMMANDS))

    def data_received(self, data: bytes) -> None:
        if not self._is_ready and _SUBSCRIBED in data:
            self._is_ready = True
            self._crowd.one_is_ready()
        self._crowd.received(_MARK.findall(data))


class _Crowd:
    def __init__(self, count: int, messages: int) -> None:
        self._waiting = count
        self._expected = count * messages
        self._latencies_ns: list[int] = []
        self.is_done = asyncio.Event()

    def one_is_ready(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            print("ready", flush=True)

    def received(self, marks: list[bytes]) -> None:
        if not marks:
            return
        now_ns = time.time_ns()
        self._latencies_ns += [now_ns - int(mark) for mark in marks]
        if len(self._latencies_ns) >= self._expected:
            self.is_done.set()

    def report(self) -> dict[str, float]:
        latencies_ns = sorted(self._latencies_ns)
        count = len(latencies_ns)
        return {
            "delivered": count,
            "of": self._expected,
            "p50_ms": round(latencies_ns[count // 2] / 1e6, 2) if count else 0.0,
            "p99_ms": round(latencies_ns[count * 99 // 100] / 1e6, 2) if count else 0.0,
        }


async def _main(port: int, count: int, messages: int) -> None:
    loop = asyncio.get_running_loop()
    crowd = _Crowd(count, messages)
    for _ in range(count):
        await loop.create_connection(lambda: _Subscriber(crowd), "127.0.0.1", port)
    try:
        async with asyncio.timeout(60):
            await crowd.is_done.wait()
    except TimeoutError:
        pass  # the report says how many are missing
    print(json.dumps(crowd.report()), flush=True)


if __name__ == "__main__":
    uvloop.run(_main(*map(int, sys.argv[1:])))
