"""What a server does with three times the load that it can carry: ``python -m benchmarks overload``.

A server in memory with limits and shedding on. First clients that wait for each answer find out
what it can do at most. Then three times as much is sent to it at a steady rate, by thousands of
clients with one request at a time each, while somebody else asks whether it lives and whether it
is ready, which always has to be answered. At last half of what it can do is asked for, at once.
An answer is good when it is what was asked for and came within a second.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import deque
from itertools import cycle
from random import Random
from typing import Any, cast

import uvloop

from benchmarks import load
from heartcast.core.quantiles import Histogram
from heartcast.testing import running

_TICK_S = 0.002
_GOOD_S = 1.0
_PATIENCE_S = 10.0
_PROBERS = 64
_CRITICAL_PER_S = 200
_REQUESTS = 100_000
_PLENTY = "1000000/s burst 1000000"
_ENDS = ("good", "refused", "late", "failed", "unanswered", "never_sent")
_CRITICAL = [load.request("GET", "/livez"), load.request("GET", "/readyz")]


class Seen:
    """Answers to one kind of request."""

    def __init__(self) -> None:
        self.good = self.late = self.refused = self.failed = self.unanswered = self.never_sent = 0
        self.took_us = Histogram()
        self.refusal = ""
        """The last refusal, head and body, as it came."""

    def add(self, answer: bytes, took_s: float) -> None:
        status = int(answer[9:12])
        if status == 503:
            self.refused += 1
            self.refusal = answer.decode()
        elif status >= 300:
            self.failed += 1
        elif took_s > _GOOD_S:
            self.late += 1
        else:
            self.good += 1
            self.took_us.add(round(took_s * 1e6))

    def told(self) -> dict[str, Any]:
        return {
            "good": self.good, "refused": self.refused, "late": self.late, "failed": self.failed,
            "unanswered": self.unanswered, "never_sent": self.never_sent,
            "p50_ms": round((self.took_us.quantile(0.5) or 0) / 1000, 1),
            "p99_ms": round((self.took_us.quantile(0.99) or 0) / 1000, 1),
        }  # fmt: skip


def hearts(count: int, each: int) -> list[bytes]:
    """So many requests, each with as many hearts of as many people."""
    dice = Random(3)

    def heart() -> dict[str, str]:
        return {"target_id": f"post_{dice.randrange(1000)}", "user_id": f"u{dice.randrange(100_000_000)}"}

    if each == 1:
        bodies = (heart() for _ in range(count))
        return [load.request("POST", "/api/v1/hearts", json.dumps(body).encode()) for body in bodies]
    batches = ({"items": [{"op": "add", **heart()} for _ in range(each)]} for _ in range(count))
    return [load.request("POST", "/api/v1/hearts/batch", json.dumps(batch).encode()) for batch in batches]


class _Client(asyncio.Protocol):
    """A connection with one request at a time, as a browser or a proxy has it."""

    def __init__(self, crowd: _Crowd) -> None:
        self._crowd = crowd
        self._due_s = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._crowd.free.append(self)

    def ask(self, request: bytes, due_s: float) -> None:
        self._due_s = due_s
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        # Small answers: one read is one, or the rest of one whose server writes head and body apart.
        if data.startswith(b"HTTP/"):
            self._crowd.seen.add(data, time.perf_counter() - self._due_s)
            self._crowd.free.append(self)


class _Crowd:
    """Asks at a steady rate, whatever comes back; what finds nobody free waits for a client."""

    def __init__(self, requests: list[bytes]) -> None:
        self._requests = cycle(requests)
        self.free: deque[_Client] = deque()
        self.seen = Seen()

    async def run(self, port: int, clients: int, per_s: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(clients):
            await loop.create_connection(lambda: _Client(self), "127.0.0.1", port)
        started_s = time.perf_counter()
        sent = 0
        while (passed_s := time.perf_counter() - started_s) < seconds:
            while sent < passed_s * per_s:
                sent += 1
                if self.free:
                    self.free.popleft().ask(next(self._requests), time.perf_counter())
                else:
                    self.seen.never_sent += 1
            await asyncio.sleep(_TICK_S)
        until_s = time.perf_counter() + _PATIENCE_S
        while len(self.free) < clients and time.perf_counter() < until_s:
            await asyncio.sleep(_TICK_S)
        self.seen.unanswered = clients - len(self.free)


async def offer(port: int, each: int, clients: int, per_s: float, seconds: float) -> dict[str, Any]:
    """Offer so many requests a second; returns what became of them and of what is critical."""
    crowd, critical = _Crowd(hearts(_REQUESTS // each, each)), _Crowd(_CRITICAL)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(crowd.run(port, clients, per_s, seconds))
        tasks.create_task(critical.run(port, _PROBERS, _CRITICAL_PER_S, seconds))
    return {"load": crowd.seen.told(), "critical": critical.seen.told(), "refusal": crowd.seen.refusal}


def _offer(*arguments: float) -> dict[str, Any]:
    """``offer`` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.overload", *map(str, arguments)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def measure(
    *, is_hot: bool, each: int, seconds: float = 6.0, after_s: float = 2.0, clients: int = 6000
) -> dict[str, Any]:
    """What becomes of a server.

    Args:
        is_hot: On the hot path, or else in Litestar.
        each: Hearts a request.
        seconds: How long each part lasts; ``after_s`` the last.
    """
    environ = {
        "HEARTCAST_LIMITS__IS_ON": "true",
        "HEARTCAST_LIMITS__HEARTS_PER_CLIENT": _PLENTY,
        "HEARTCAST_LIMITS__HEARTS_PER_PREFIX": _PLENTY,
        "HEARTCAST_HTTP__HOT_PATH": str(is_hot).lower(),
    }
    with running("--in-memory", environ=environ) as server:
        requests = hearts(_REQUESTS // each, each)
        capacity = load.run(server.port, requests, connections=64, seconds=seconds)["per_s"]
        over = _offer(server.port, each, clients, 3 * capacity, seconds)
        after = _offer(server.port, each, clients, capacity / 2, after_s)
    return {
        "capacity_per_s": capacity,
        "offered_per_s": 3 * capacity,
        "goodput_of_capacity": round(over["load"]["good"] / seconds / capacity, 3),
        "critical_good": round(over["critical"]["good"] / sum(over["critical"][each] for each in _ENDS), 4),
        "overload": over,
        "afterwards": after,
    }


def run() -> dict[str, Any]:
    figures = {
        "hot_path_batches_of_50": measure(is_hot=True, each=50),
        "litestar_batches_of_50": measure(is_hot=False, each=50),
        "litestar_single_hearts": measure(is_hot=False, each=1),
    }
    for figure in figures.values():
        for part in ("overload", "afterwards"):
            del figure[part]["refusal"]
    return figures


def main() -> None:
    port, each, clients = map(int, sys.argv[1:4])
    per_s, seconds = map(float, sys.argv[4:])
    print(json.dumps(uvloop.run(offer(port, each, clients, per_s, seconds))))


if __name__ == "__main__":
    main()
