"""Hearts per second into real servers, below the port: PostgreSQL and Valkey, durable.

python -m benchmarks.stores
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import uvloop

from heartcast.app import heart_stores
from heartcast.core.clock import SystemClock
from heartcast.core.errors import StoreUnavailable
from heartcast.hearts.model import HeartKey, Outcome
from heartcast.hearts.options import HeartOptions
from heartcast.hearts.store import HeartStore
from heartcast.testing.postgres_server import PostgresServer
from heartcast.testing.redis_server import RedisServer

SECONDS = 4.0


def numbered(number: int) -> HeartKey:
    """The n-th user, on one of a thousand targets."""
    return HeartKey(f"post_{number % 1000}", f"u{number}")


class Load:
    """Keeps so many calls of one heart each under way; ``key`` names the n-th, and none twice."""

    def __init__(self, store: HeartStore, under_way: int, key: Callable[[int], HeartKey] = numbered) -> None:
        self._store = store
        self._key = key
        self._under_way = under_way
        self._sent = 0
        self._end_s = 0.0
        self._all_answered = asyncio.Event()
        self.waits_s: list[float] = []

    async def run(self) -> float:
        """Hearts per second."""
        started_s = time.perf_counter()
        self._end_s = started_s + SECONDS
        for _ in range(self._under_way):
            self._next()
        await self._all_answered.wait()
        return len(self.waits_s) / (time.perf_counter() - started_s)

    def _next(self) -> None:
        self._sent += 1
        sent_s = time.perf_counter()

        def done(result: list[Outcome] | StoreUnavailable) -> None:
            if isinstance(result, StoreUnavailable):
                raise result
            now_s = time.perf_counter()
            self.waits_s.append(now_s - sent_s)
            if now_s < self._end_s:
                self._next()
            elif len(self.waits_s) == self._sent:
                self._all_answered.set()

        self._store.add([self._key(self._sent)], 1, done)


async def measure(name: str, url: str, under_way: int) -> None:
    """One line."""
    options, clock = HeartOptions(), SystemClock()
    if heart_stores.is_migrated(url):
        await heart_stores.migrate(url, options)
    store = await heart_stores.open_store(url, options, clock)
    load = Load(store, under_way)
    per_s = await load.run()
    waits_s = sorted(load.waits_s)
    p95_ms = waits_s[len(waits_s) * 95 // 100] * 1000
    print(f"{name:32} {under_way:4} under way  {per_s:8,.0f} hearts/s  P95 {p95_ms:6.1f} ms")
    await store.close()


def _each(name: str, url: str) -> None:
    for under_way in (64, 512):
        uvloop.run(measure(name, url, under_way))


def main() -> None:
    with PostgresServer(settings={}) as postgres:
        _each("PostgreSQL, fsync on", postgres.make_database("bench"))
    for sync in ("always", "everysec"):
        with RedisServer(settings={"appendonly": "yes", "appendfsync": sync}) as redis:
            _each(f"Valkey, appendfsync {sync}", redis.url)


if __name__ == "__main__":
    main()
