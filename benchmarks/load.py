"""An HTTP load generator in a process of its own, closed-loop or at a rate.

Each connection sends its next request when the last one is answered. With a rate, requests are due
by the clock; one that finds all connections busy waits, and its latency counts from when it was due.
It is written for low cost, not for features: bodies are made ahead, answers are recognised by
counting status lines. It reports its own CPU share, so that a saturated generator is
not mistaken for a slow server: the server's CPU per request is the figure that counts.

    python -m benchmarks.load PORT CONNECTIONS SECONDS PER_S < requests.json
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import deque
from itertools import cycle
from typing import Any, cast

import uvloop

_PACE_S = 0.001
"""Between two looks for what is due: uvloop's shortest wait, and shorter ones make it spin."""


def request(method: str, path: str, body: bytes = b"", *extra: str) -> bytes:
    """One HTTP/1.1 request as bytes; ``extra`` are further header lines."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n" + "".join(f"{line}\r\n" for line in extra)
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def run(
    port: int, requests: list[bytes], *, connections: int = 64, seconds: float = 5.0, per_s: float = 0.0
) -> dict[str, Any]:
    """Send these requests over and over.

    Args:
        per_s: Requests that are due per second; 0: as many as are answered.

    Returns:
        ``requests``, ``per_s``, ``not_2xx``, ``p50_ms``, ``p95_ms``, ``p99_ms``, and
        ``generator_cpu`` (share of one core that the generator itself used).
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", str(port), str(connections), str(seconds), str(per_s)],
        input=json.dumps([each.decode() for each in requests]),
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


class _Client(asyncio.Protocol):
    def __init__(self, load: _Load) -> None:
        self._load = load
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._load.on_free(self)

    def send(self, due_s: float) -> None:
        self._due_s = due_s
        self._transport.write(next(self._load.requests))

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        # One answer per request and small bodies: one read is one answer, or the rest of one
        # whose server writes head and body apart.
        if not data.startswith(b"HTTP/"):
            return
        load = self._load
        load.latencies_s.append(time.perf_counter() - self._due_s)
        if data[9:10] != b"2":
            load.not_2xx += 1
        load.on_free(self)


class _Load:
    def __init__(self, requests: list[bytes], per_s: float) -> None:
        self.requests = cycle(requests)
        self._per_s = per_s
        self._free: list[_Client] = []
        self._due_s: deque[float] = deque()
        self.latencies_s: list[float] = []
        self.not_2xx = 0
        self.is_running = True

    def on_free(self, client: _Client) -> None:
        if not self.is_running:
            client.close()
        elif not self._per_s:
            client.send(time.perf_counter())
        elif self._due_s:
            client.send(self._due_s.popleft())
        else:
            self._free.append(client)

    async def _pace(self, seconds: float) -> None:
        """Send what is due, by as many connections as are free."""
        start_s, sent = time.perf_counter(), 0
        while (now_s := time.perf_counter()) < start_s + seconds:
            while start_s + sent / self._per_s <= now_s:
                self._due_s.append(start_s + sent / self._per_s)
                sent += 1
            while self._due_s and self._free:
                self._free.pop().send(self._due_s.popleft())
            await asyncio.sleep(_PACE_S)

    async def run(self, port: int, connections: int, seconds: float) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        cpu_s, start_s = time.process_time(), time.perf_counter()
        for _ in range(connections):
            await loop.create_connection(lambda: _Client(self), "127.0.0.1", port)
        await (self._pace(seconds) if self._per_s else asyncio.sleep(seconds))
        self.is_running = False
        took_s = time.perf_counter() - start_s
        sorted_s = sorted(self.latencies_s)
        return {
            "requests": len(sorted_s),
            "per_s": round(len(sorted_s) / took_s),
            "not_2xx": self.not_2xx,
            "p50_ms": round(sorted_s[len(sorted_s) // 2] * 1e3, 2),
            "p95_ms": round(sorted_s[len(sorted_s) * 95 // 100] * 1e3, 2),
            "p99_ms": round(sorted_s[len(sorted_s) * 99 // 100] * 1e3, 2),
            "generator_cpu": round((time.process_time() - cpu_s) / took_s, 2),
        }


def main() -> None:
    port, connections = int(sys.argv[1]), int(sys.argv[2])
    seconds, per_s = float(sys.argv[3]), float(sys.argv[4])
    requests = [each.encode() for each in json.load(sys.stdin)]
    print(json.dumps(uvloop.run(_Load(requests, per_s).run(port, connections, seconds))))


if __name__ == "__main__":
    main()
