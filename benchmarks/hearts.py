"""Hearts in process: what a heart costs below the port, and what the disk can take.

    python -m benchmarks.hearts

Durable figures mean ``synchronous=FULL``; they depend on how long the disk takes to
sync, which is measured beside them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import uvloop

from heartcast.api.hearts import routes
from heartcast.api.route import Answer, Call, Identity
from heartcast.core.bus import Bus
from heartcast.core.clock import SystemClock
from heartcast.core.errors import StoreUnavailable
from heartcast.core.ids import IdSource
from heartcast.hearts.importer import Columns, Import, read_csv
from heartcast.hearts.model import HeartChanged, HeartKey, Outcome
from heartcast.hearts.service import HeartService
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.hearts.store.sqlite import SqliteHeartStore

_SERVER = Identity(is_server=True)


def run() -> dict[str, float]:
    """All figures; takes about 15 seconds."""
    results = {**_in_memory(), **_memory_per_heart(), "fdatasync_ms": _sync_ms()}
    for outstanding in (64, 512):
        results |= uvloop.run(_durable(outstanding))
    return results | uvloop.run(_import())


def _service(store: HeartStore) -> tuple[HeartService, Bus[HeartChanged]]:
    bus: Bus[HeartChanged] = Bus(lambda _: None)
    return HeartService(store, SystemClock(), bus), bus


def _in_memory(hearts: int = 100_000) -> dict[str, float]:
    service, bus = _service(MemoryHeartStore(IdSource(SystemClock())))
    keys = [(HeartKey(f"post_{number % 1000}", f"u{number}"),) for number in range(hearts)]
    add_us = _us_each(hearts, lambda at: service.add(keys[at], _ignore), bus)
    again_us = _us_each(hearts, lambda at: service.add(keys[at], _ignore), bus)
    service, bus = _service(MemoryHeartStore(IdSource(SystemClock())))
    table = {(route.method, route.path): route.handler for route in routes(service)}
    post = table["POST", "/api/v1/hearts"]
    bodies = [b'{"target_id":"post_%d","user_id":"u%d"}' % (at % 1000, at) for at in range(hearts)]
    handler_us = _us_each(
        hearts, lambda at: post(Call(body=bodies[at], identity=_SERVER, respond=_ignore)), bus
    )
    targets = [f"post_{number}" for number in range(100)]
    body = json.dumps({"target_ids": targets}).encode()
    ask = table["POST", "/api/v1/hearts/counts"]
    counts_us = _us_each(5000, lambda _: ask(Call(body=body, identity=_SERVER, respond=_ignore)), bus)
    return {
        "memory_add_us": add_us,
        "memory_add_again_us": again_us,
        "memory_post_handler_us": handler_us,
        "memory_100_counts_handler_us": counts_us,
    }


def _ignore(_: Answer | list[Outcome] | StoreUnavailable) -> None:
    return None


def _us_each(times: int, call: Callable[[int], object], bus: Bus[HeartChanged]) -> float:
    gc.collect()
    gc.freeze()
    started_s = time.process_time()
    for at in range(times):
        call(at)
        if at % 64 == 0:
            bus.flush()
    took_s = time.process_time() - started_s
    bus.flush()
    return round(took_s / times * 1e6, 2)


def _memory_per_heart(hearts: int = 60_000) -> dict[str, float]:
    tracemalloc.start()
    store = MemoryHeartStore(IdSource(SystemClock()))
    for number in range(hearts):
        # As from a request: texts that nobody else holds.
        store.add(
            [HeartKey(f"post_{number * 7 % 1009}", f"user_{number % (hearts // 3):07d}")], number, _ignore
        )
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"memory_bytes_per_heart": round(used / hearts)}


def _sync_ms(times: int = 50) -> float:
    with tempfile.NamedTemporaryFile(dir=Path.cwd()) as file:
        started_s = time.perf_counter()
        for _ in range(times):
            os.write(file.fileno(), b"x" * 65_536)
            os.fdatasync(file.fileno())
        return round((time.perf_counter() - started_s) / times * 1000, 3)


async def _durable(outstanding: int, hearts: int = 40_000) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        store = SqliteHeartStore(Path(folder) / "hearts.db", clock=SystemClock())
        service, _ = _service(store)
        finished = asyncio.Event()
        keys = iter([HeartKey(f"post_{at % 1000}", f"u{at * 7919 % 1_000_003}") for at in range(hearts)])
        left = hearts

        def done(_: list[Outcome] | StoreUnavailable) -> None:
            nonlocal left
            left -= 1
            key = next(keys, None)
            if key is not None:
                service.add((key,), done)
            elif left == 0:
                finished.set()

        started_s, cpu_s = time.perf_counter(), time.process_time()
        for _ in range(outstanding):
            service.add((next(keys),), done)
        await finished.wait()
        took_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
        groups = store.groups
        await store.close()
    name = f"durable_{outstanding}"
    return {
        f"{name}_per_s": round(hearts / took_s),
        f"{name}_cpu_us": round(cpu_s / hearts * 1e6, 1),
        f"{name}_hearts_per_commit": round(hearts / groups, 1),
    }


async def _import(hearts: int = 150_000, *, keeps_events: bool = False) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        lines = ["target_id,user_id,at\n"]
        lines += [
            f"post_{at * 31 % 2000},u{at * 7919 % 1_000_003},{1_700_000_000 + at}\n" for at in range(hearts)
        ]
        store = SqliteHeartStore(Path(folder) / "hearts.db", clock=SystemClock(), keeps_events=keeps_events)
        started_s = time.perf_counter()
        work = Import(store, bad=print, progress=lambda _: None)
        summary = await work.run(read_csv(lines, Columns(time="at"), now_ms=0))
        took_s = time.perf_counter() - started_s
        await store.close()
        size = (Path(folder) / "hearts.db").stat().st_size
    assert summary.added == hearts
    return {"import_per_s": round(hearts / took_s), "sqlite_bytes_per_heart": round(size / hearts)}


if __name__ == "__main__":
    print(
        json.dumps({**run(), "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}, indent=2)
    )
