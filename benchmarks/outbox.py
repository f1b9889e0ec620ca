"""What events cost: hearts per second below the port with the outbox off and on, in real stores.

python -m benchmarks.outbox

Off and on take turns, and each figure is the median of its turns. Imports are hearts a second
from CSV into SQLite.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import uvloop

from benchmarks.hearts import _import
from benchmarks.stores import Load
from heartcast.app import heart_stores
from heartcast.core.clock import SystemClock
from heartcast.hearts.options import HeartOptions, OutboxOptions
from heartcast.testing.postgres_server import PostgresServer
from heartcast.testing.redis_server import RedisServer

TURNS = 3
UNDER_WAY = 512


def run() -> dict[str, dict[str, float]]:
    """All figures; takes about a minute and a half."""
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        PostgresServer() as postgres,
        RedisServer(settings={"appendonly": "yes", "appendfsync": "everysec"}) as redis,
    ):
        turns: dict[str, dict[bool, list[tuple[float, float]]]] = {}
        for turn in range(TURNS):
            for is_on in (False, True):
                urls = {
                    "sqlite": f"sqlite:{folder}/{turn}{is_on}",
                    "postgres": postgres.make_database(f"t{turn}{int(is_on)}"),
                    "redis_everysec": f"{redis.url}/{2 * turn + is_on}",
                }
                for name, url in urls.items():
                    found = turns.setdefault(name, {False: [], True: []})
                    found[is_on].append(uvloop.run(_measure(url, is_on=is_on)))
    figures = {name: _figures(found) for name, found in turns.items()}
    imports = {
        f"import_events_{word}": uvloop.run(_import(500_000, keeps_events=is_on))
        for word, is_on in (("off", False), ("on", True))
    }
    return {**figures, **imports}


def _figures(found: dict[bool, list[tuple[float, float]]]) -> dict[str, float]:
    off, on = (statistics.median(per_s for per_s, _ in found[is_on]) for is_on in (False, True))
    off_us, on_us = (statistics.median(cpu_us for _, cpu_us in found[is_on]) for is_on in (False, True))
    return {
        "off_per_s": round(off),
        "on_per_s": round(on),
        "on_to_off": round(on / off, 2),
        "off_our_cpu_us": round(off_us, 1),
        "on_our_cpu_us": round(on_us, 1),
    }


async def _measure(url: str, *, is_on: bool) -> tuple[float, float]:
    options = HeartOptions(outbox=OutboxOptions(is_on=is_on))
    if heart_stores.is_migrated(url):
        await heart_stores.migrate(url, options)
    store = await heart_stores.open_store(url, options, SystemClock())
    load = Load(store, UNDER_WAY)
    cpu_s = time.process_time()
    per_s = await load.run()
    cpu_us = (time.process_time() - cpu_s) / len(load.waits_s) * 1e6
    await store.close()
    return per_s, cpu_us


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
