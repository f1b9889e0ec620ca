"""What a failover of Redis loses: hearts that were answered and are not on the replica that takes over.

Redis answers before its replica has what it answers. So a machine that dies takes along what was on
its way, whatever its append-only file says. Each round: a primary with a replica of its own behind a
line of so many milliseconds, hearts as fast as they go, SIGKILL of the primary with the line cut, the
replica promoted, and every answered heart looked for. Without a line only the process dies: what it had
handed to the kernel still arrives.

python -m benchmarks.failover
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import uvloop

from heartcast.core.clock import SystemClock
from heartcast.core.errors import StoreUnavailable
from heartcast.hearts.model import HeartKey, Outcome
from heartcast.hearts.options import RedisOptions
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.redis import RedisHeartStore
from heartcast.testing.fault_proxy import FaultProxy
from heartcast.testing.redis_server import RedisServer

ROUNDS = 5
LINES_MS = (0, 5, 50)
UNDER_WAY = 64
SECONDS = 1.0
_DURABLE = {"appendonly": "yes", "appendfsync": "everysec", "repl-diskless-sync-delay": "0"}
_TARGETS = 50


class _Writer:
    """Hearts without end until the store fails; remembers which were answered, and when."""

    def __init__(self, store: RedisHeartStore) -> None:
        self._store = store
        self._sent = 0
        self.answered: list[tuple[int, float]] = []
        self.under_way = 0

    def begin(self) -> None:
        for _ in range(UNDER_WAY):
            self._next()

    def _next(self) -> None:
        self._sent += 1
        self.under_way += 1
        number = self._sent

        def done(result: list[Outcome] | StoreUnavailable) -> None:
            self.under_way -= 1
            if not isinstance(result, StoreUnavailable):
                self.answered.append((number, time.perf_counter()))
                self._next()

        self._store.add([key_of(number)], 1, done)


def key_of(number: int) -> HeartKey:
    return HeartKey(f"post_{number % _TARGETS}", f"u{number}")


async def _round(line_ms: float) -> tuple[int, int, float]:
    """Hearts answered, of these not on the replica, and how long before the kill the oldest lost one was
    answered, milliseconds."""
    with RedisServer(settings=_DURABLE) as primary:
        async with FaultProxy("127.0.0.1", primary.port) as line:
            return await _failover(primary, line, line_ms)


async def _failover(primary: RedisServer, line: FaultProxy, line_ms: float) -> tuple[int, int, float]:
    through = line.port if line_ms else primary.port
    replica = RedisServer(settings={**_DURABLE, "replicaof": f"127.0.0.1 {through}"})
    with replica:
        await _in_step(replica)
        if line_ms:
            line.slow(line_ms / 1000)
        answered, killed_s = await _write_until_killed(primary, line)
        replica.command("REPLICAOF", "NO", "ONE")
        there = await _open(replica)
        lost = await _lost(there, answered)
        await there.close()
    oldest_ms = max([(killed_s - at_s) * 1000 for _, at_s in lost], default=0.0)
    return len(answered), len(lost), max(0.0, oldest_ms)


async def _write_until_killed(
    primary: RedisServer, line: FaultProxy
) -> tuple[list[tuple[int, float]], float]:
    store = await _open(primary)
    writer = _Writer(store)
    writer.begin()
    await asyncio.sleep(SECONDS)
    killed_s = time.perf_counter()
    primary.kill()
    await line.refuse()
    while writer.under_way:
        await asyncio.sleep(0.001)
    await store.close()
    return writer.answered, killed_s


async def _in_step(replica: RedisServer) -> None:
    deadline_s = time.monotonic() + 20
    while "link_status:up" not in await asyncio.to_thread(_replication, replica):
        if time.monotonic() > deadline_s:
            raise TimeoutError("the replica did not connect to its primary")
        await asyncio.sleep(0.02)


def _replication(server: RedisServer) -> str:
    with socket.create_connection(("127.0.0.1", server.port), 5) as client:
        client.sendall(b"INFO replication\r\n")
        return client.recv(8192).decode()


async def _open(server: RedisServer) -> RedisHeartStore:
    store = RedisHeartStore(server.url, clock=SystemClock(), options=RedisOptions(timeout_s=5.0))
    await store.open()
    return store


async def _lost(store: RedisHeartStore, answered: list[tuple[int, float]]) -> list[tuple[int, float]]:
    users = {heart.key.user_id async for page in store.scan() for heart in page}
    counts = await Awaiting(store).counts([f"post_{target}" for target in range(_TARGETS)], "heart")
    if sum(count.count for count in counts) != len(users):
        raise AssertionError("counts and hearts differ on the replica")
    return [(number, at_s) for number, at_s in answered if f"u{number}" not in users]


def run() -> dict[str, Any]:
    """The figures."""
    return {f"line_of_{line_ms}_ms": _figures(line_ms) for line_ms in LINES_MS}


def _figures(line_ms: float) -> dict[str, float]:
    rounds = [uvloop.run(_round(line_ms)) for _ in range(ROUNDS)]
    return {
        "rounds": ROUNDS,
        "answered": sum(one[0] for one in rounds),
        "lost": sum(one[1] for one in rounds),
        "lost_most": max(one[1] for one in rounds),
        "oldest_lost_ms": round(max(one[2] for one in rounds), 1),
    }


if __name__ == "__main__":
    for _name, _found in run().items():
        print(_name, _found)
