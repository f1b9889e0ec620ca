"""A closed-loop HTTP load generator in a process of its own.

Each connection sends its next request when the last one is answered. It is written
for low cost, not for features: bodies are made ahead, answers are recognised by
counting status lines. It reports its own CPU share, so that a saturated generator is
not mistaken for a slow server: the server's CPU per request is the figure that counts.

    python -m benchmarks.load PORT CONNECTIONS SECONDS < requests.jsonl
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from itertools import cycle
from typing import Any, cast

import uvloop


def request(method: str, path: str, body: bytes = b"", *extra: str) -> bytes:
    """One HTTP/1.1 request as bytes; ``extra`` are further header lines."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n" + "".join(f"{line}\r\n" for line in extra)
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def run(port: int, requests: list[bytes], *, connections: int = 64, seconds: float = 5.0) -> dict[str, Any]:
    """Send these requests over and over.

    Returns:
        ``requests``, ``per_s``, ``not_2xx``, ``p50_ms``, ``p99_ms``, and ``generator_cpu``
        (share of one core that the generator itself used).
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", str(port), str(connections), str(seconds)],
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
        self._send()

    def _send(self) -> None:
        self._sent_s = time.perf_counter()
        self._transport.write(next(self._load.requests))

    def data_received(self, data: bytes) -> None:
        # One answer per request and small bodies: one read is one answer, or the rest of one
        # whose server writes head and body apart.
        if not data.startswith(b"HTTP/"):
            return
        load = self._load
        load.latencies_s.append(time.perf_counter() - self._sent_s)
        if data[9:10] != b"2":
            load.not_2xx += 1
        if load.is_running:
            self._send()
        else:
            self._transport.close()


class _Load:
    def __init__(self, requests: list[bytes]) -> None:
        self.requests = cycle(requests)
        self.latencies_s: list[float] = []
        self.not_2xx = 0
        self.is_running = True

    async def run(self, port: int, connections: int, seconds: float) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        cpu_s, start_s = time.process_time(), time.perf_counter()
        for _ in range(connections):
            await loop.create_connection(lambda: _Client(self), "127.0.0.1", port)
        await asyncio.sleep(seconds)
        self.is_running = False
        took_s = time.perf_counter() - start_s
        sorted_s = sorted(self.latencies_s)
        return {
            "requests": len(sorted_s),
            "per_s": round(len(sorted_s) / took_s),
            "not_2xx": self.not_2xx,
            "p50_ms": round(sorted_s[len(sorted_s) // 2] * 1e3, 2),
            "p99_ms": round(sorted_s[len(sorted_s) * 99 // 100] * 1e3, 2),
            "generator_cpu": round((time.process_time() - cpu_s) / took_s, 2),
        }


def main() -> None:
    port, connections, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    requests = [each.encode() for each in json.load(sys.stdin)]
    print(json.dumps(uvloop.run(_Load(requests).run(port, connections, seconds))))


if __name__ == "__main__":
    main()
