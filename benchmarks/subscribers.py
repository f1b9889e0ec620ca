"""Many WebSocket subscribers in a process of their own, without a library object per socket.

    python -m benchmarks.subscribers PORT COUNT MESSAGES [HELLO READY]

Prints ``ready`` when all are subscribed; then, when every socket has received MESSAGES,
one JSON line with latencies. A message carries its send time as ``@<19 digits of
nanoseconds>``. HELLO is what a subscriber sends and READY is in what it reads once it is
subscribed, both as hexadecimal digits; without them it is heartcast and ``public:bench``.
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
COMMANDS = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"public:bench"}}'
_SUBSCRIBED = b'"id":2'


def handshake(path: str) -> bytes:
    """How a client asks for a WebSocket."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def masked(payload: bytes, opcode: int = 1) -> bytes:
    """A frame as a client sends it, with a mask of zeros; of text, or with 2 of bytes."""
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack(">H", len(payload))
    return bytes([0x80 | opcode]) + size + b"\0\0\0\0" + payload


class _Subscriber(asyncio.Protocol):
    def __init__(self, crowd: _Crowd) -> None:
        self._crowd = crowd
        # Some servers refuse what comes before they agreed to a WebSocket.
        opening, end, self._rest = crowd.hello.partition(b"\r\n\r\n")
        self._opening = opening + end
        self._is_ready = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._opening)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            self._transport.write(self._rest)
            self._rest = b""
        if not self._is_ready and self._crowd.ready in data:
            self._is_ready = True
            self._crowd.one_is_ready()
        self._crowd.received(_MARK.findall(data))


class _Crowd:
    def __init__(self, count: int, messages: int, hello: bytes, ready: bytes) -> None:
        self.hello = hello
        self.ready = ready
        self._waiting = count
        self._expected = count * messages
        self._latencies_ns: list[int] = []
        self._cpu_s, self._ready_s = time.process_time(), time.perf_counter()
        self.is_done = asyncio.Event()

    def one_is_ready(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._cpu_s, self._ready_s = time.process_time(), time.perf_counter()
            print("ready", flush=True)

    def received(self, marks: list[bytes]) -> None:
        if not marks:
            return
        now_ns = time.time_ns()
        self._latencies_ns += [now_ns - int(mark) for mark in marks]
        if len(self._latencies_ns) >= self._expected:
            self.is_done.set()

    def report(self) -> dict[str, float]:
        """What was received; ``subscriber_cpu`` near 1 means that latencies are this process's own."""
        busy = (time.process_time() - self._cpu_s) / (time.perf_counter() - self._ready_s)
        latencies_ns = sorted(self._latencies_ns)
        count = len(latencies_ns)
        return {
            "delivered": count,
            "of": self._expected,
            "p50_ms": round(latencies_ns[count // 2] / 1e6, 2) if count else 0.0,
            "p99_ms": round(latencies_ns[count * 99 // 100] / 1e6, 2) if count else 0.0,
            "subscriber_cpu": round(busy, 2),
        }


async def _main(port: int, count: int, messages: int, hello: bytes, ready: bytes) -> None:
    loop = asyncio.get_running_loop()
    crowd = _Crowd(count, messages, hello, ready)
    for _ in range(count):
        await loop.create_connection(lambda: _Subscriber(crowd), "127.0.0.1", port)
    try:
        async with asyncio.timeout(60):
            await crowd.is_done.wait()
    except TimeoutError:
        pass  # the report says how many are missing
    print(json.dumps(crowd.report()), flush=True)


if __name__ == "__main__":
    port, count, messages = map(int, sys.argv[1:4])
    hello, ready = (
        map(bytes.fromhex, sys.argv[4:])
        if sys.argv[4:]
        else (handshake("/connection/websocket") + masked(COMMANDS), _SUBSCRIBED)
    )
    uvloop.run(_main(port, count, messages, hello, ready))
