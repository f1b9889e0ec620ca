"""Ten million hearts in SQLite: bytes per heart, and the speed of writing and reading as the file grows.

    chrt -f 50 python -m benchmarks heart_sizes

Below the port, ``synchronous=FULL``, events off, a hundred thousand targets, users at random: the worst
case for an index, and the usual one. At each size: new hearts in calls of one, 512 under way at a time;
then, with the file closed and opened again so that nothing of it is remembered, whether a user hearts ten
targets, and the first fifty hearts of a target. Takes some minutes and 150 MB of disk per million hearts.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import uvloop

from benchmarks.stores import Load
from heartcast.core.clock import SystemClock
from heartcast.hearts.importer import MAX_ROWS
from heartcast.hearts.model import KIND, HeartKey
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.sqlite import SqliteHeartStore

SIZES = (0, 100_000, 1_000_000, 3_000_000, 10_000_000)
TARGETS = 100_000
QUESTIONS = 2_000


def run() -> list[dict[str, Any]]:
    """One row per size."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        return uvloop.run(_grow(Path(folder) / "hearts.db"))


def page(result: dict[str, Any]) -> list[str]:
    """The curve as a table for docs/benchmarks.md."""
    rows = result["figures"]
    lines = [
        "| hearts there | added, one a call | offered, 20,000 at a time | bytes each "
        "| does a user heart these ten? | fifty who hearted |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['hearts']:,} | {row['added_per_s']:,}/s | {row.get('offered_per_s', 0):,}/s "
        f"| {row['bytes_per_heart']} | {row['hearted_10_targets_us']} µs | {row['page_of_50_us']} µs |"
        for row in rows
    ]
    return [
        *lines,
        "",
        "`synchronous=FULL`, a hundred thousand targets, users at random, 512 calls under way, 64 MiB of",
        "cache; questions right after the file was opened. Writing slows down when the indexes outgrow the",
        "cache: nearly every heart then reads and writes two pages of its own. The rates contain the",
        "checkpoints that fell into the four seconds of each, and a disk that other programs used too.",
        "",
    ]


async def _grow(path: Path) -> list[dict[str, Any]]:
    random, there, rows = Random(5), 0, []
    for size in SIZES:
        store = SqliteHeartStore(path, clock=SystemClock())
        filled_s, filled = time.perf_counter(), there
        while there < size:
            keys = [_key(random) for _ in range(min(MAX_ROWS, size - there))]
            there += await store.offer(keys, [1_700_000_000_000] * len(keys))
        filled, filled_s = there - filled, time.perf_counter() - filled_s
        row: dict[str, Any] = {"hearts": there}
        if filled:
            row["offered_per_s"] = round(filled / filled_s)
        load = Load(store, 512, lambda _: _key(random))
        row["added_per_s"] = round(await load.run())
        there += len(load.waits_s)
        await store.close()
        row["bytes_per_heart"] = round(path.stat().st_size / there)
        row |= await _questions(path, random)
        print(f"  {row}", flush=True)
        rows.append(row)
    return rows


def _key(random: Random) -> HeartKey:
    return HeartKey(f"post_{random.randrange(TARGETS)}", f"u{random.randrange(100_000_000)}")


async def _questions(path: Path, random: Random) -> dict[str, float]:
    store = SqliteHeartStore(path, clock=SystemClock())
    asked = Awaiting(store)
    started_s = time.perf_counter()
    for _ in range(QUESTIONS):
        targets = [f"post_{random.randrange(TARGETS)}" for _ in range(10)]
        await asked.hearted(f"u{random.randrange(100_000_000)}", targets, KIND)
    hearted_s = time.perf_counter() - started_s
    started_s = time.perf_counter()
    for _ in range(QUESTIONS):
        await store.page(
            target_id=f"post_{random.randrange(TARGETS)}", user_id=None, kind=KIND, after="", limit=50
        )
    page_s = time.perf_counter() - started_s
    await store.close()
    return {
        "hearted_10_targets_us": round(hearted_s / QUESTIONS * 1e6),
        "page_of_50_us": round(page_s / QUESTIONS * 1e6),
    }
