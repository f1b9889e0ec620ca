"""Object reuse in Python: where a free list pays, and what the collector's settings do to its pauses.

    python -m benchmarks reuse

A pool is the usual answer to a garbage collector's pauses. Here objects die when their
last reference goes, without a collector, so two questions are apart: is taking an object
from a list cheaper than making one, and how long does the cyclic collector stand in the
way while half a million objects of a running server live.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct

ROUNDS = 200_000
REPEATS = 7
LIVE = 500_000
"""Objects that stay, as sessions and tables of a server do."""
BURSTS = 10
BURST = 200_000
"""Objects that come, are kept for a while and go together, as sessions and queued pushes do. What comes
and goes one by one never wakes the collector: it counts makings less droppings."""
SETTINGS = ("default", "thresholds", "freeze", "freeze and thresholds")


class _Slots:
    __slots__ = ("body", "key", "user")

    def __init__(self, user: int, key: str, body: bytes) -> None:
        self.user = user
        self.key = key
        self.body = body


class _Struct(Struct, gc=False):
    user: int
    key: str
    body: bytes


def _made(kind: Callable[[int, str, bytes], Any]) -> Callable[[], None]:
    def run() -> None:
        for number in range(ROUNDS):
            kind(number, "news", b"body")

    return run


def _reused(kind: Callable[[int, str, bytes], Any]) -> Callable[[], None]:
    free = [kind(0, "", b"")]
    take, give = free.pop, free.append

    def run() -> None:
        for number in range(ROUNDS):
            each = take()
            each.user = number
            each.key = "news"
            each.body = b"body"
            give(each)

    return run


def _buffer_made(size_bytes: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(ROUNDS // 10):
            bytearray(size_bytes)[0] = 1

    return run


def _buffer_reused(size_bytes: int) -> Callable[[], None]:
    free = [bytearray(size_bytes)]
    take, give = free.pop, free.append

    def run() -> None:
        for _ in range(ROUNDS // 10):
            buffer = take()
            buffer[0] = 1
            give(buffer)

    return run


def _best_ns(run: Callable[[], None], rounds: int) -> float:
    best_s = float("inf")
    for _ in range(REPEATS):
        start_s = time.perf_counter()
        run()
        best_s = min(best_s, time.perf_counter() - start_s)
    return round(best_s / rounds * 1e9, 1)


def run() -> dict[str, Any]:
    """Nanoseconds new and reused, and the collector's pauses by setting, each in a process of its own."""
    objects: dict[str, Any] = {}
    for name, kind in (("object with slots", _Slots), ("msgspec.Struct", _Struct)):
        objects[name] = {
            "new_ns": _best_ns(_made(kind), ROUNDS),
            "reused_ns": _best_ns(_reused(kind), ROUNDS),
        }
    for size_bytes in (512, 4_096, 65_536, 1_048_576):
        objects[f"buffer of {size_bytes:,} bytes"] = {
            "new_ns": _best_ns(_buffer_made(size_bytes), ROUNDS // 10),
            "reused_ns": _best_ns(_buffer_reused(size_bytes), ROUNDS // 10),
        }
    pauses = {}
    for setting in SETTINGS:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.reuse", setting], capture_output=True, text=True, check=True
        )
        pauses[setting] = json.loads(done.stdout)
    return {"objects": objects, "live": LIVE, "bursts": BURSTS, "burst": BURST, "pauses": pauses}


def _pauses(setting: str) -> dict[str, Any]:
    """Make objects that the collector looks at while many others live."""
    live = [[number] for number in range(LIVE)]
    if "freeze" in setting:
        gc.collect()
        gc.freeze()
    if "thresholds" in setting:
        gc.set_threshold(50_000, 50, 1000)
    pauses_s: list[float] = []
    began_s = 0.0

    def watch(phase: str, info: dict[str, int]) -> None:
        nonlocal began_s
        if phase == "start":
            began_s = time.perf_counter()
        else:
            pauses_s.append(time.perf_counter() - began_s)

    gc.callbacks.append(watch)
    start_s = time.perf_counter()
    for _ in range(BURSTS):
        kept = [[number] for number in range(BURST)]
        kept.clear()
    took_s = time.perf_counter() - start_s
    gc.callbacks.remove(watch)
    assert len(live) == LIVE
    return {
        "collections": len(pauses_s),
        "longest_pause_ms": round(max(pauses_s, default=0.0) * 1e3, 2),
        "paused_ms": round(sum(pauses_s) * 1e3, 1),
        "ns_per_object": round(took_s / (BURSTS * BURST) * 1e9, 1),
    }


def page(result: dict[str, Any]) -> list[str]:
    """Lines for the book."""
    figures = result["figures"]
    lines = [
        f"`{result['command']}` on {result['machine']}.",
        "",
        "| | made new | taken from a free list | worth it |",
        "|---|---:|---:|---|",
    ]
    for name, row in figures["objects"].items():
        gain = row["new_ns"] / row["reused_ns"]
        verdict = f"yes, {gain:.1f}x" if gain > 1.2 else f"no, {gain:.1f}x"
        lines.append(f"| {name} | {row['new_ns']:,.0f} ns | {row['reused_ns']:,.0f} ns | {verdict} |")
    lines += [
        "",
        "The free list is at its best here: no call, no lock, no check whether somebody still holds the",
        "object. What it saves on an object with slots is `__init__`, which is Python; `msgspec.Struct`",
        "makes and fills an object in C, and needs no list for that. A large buffer is cleared each time it",
        "is made, which grows with its size.",
        "heartcast has no pool: what it makes per message are such structs and bytes that sockets keep, and",
        "what it sends is made once for many receivers.",
        "",
        f"The collector, with {figures['live']:,} objects alive, while {figures['bursts']} times "
        f"{figures['burst']:,} more come and go:",
        "",
        "| setting | collections | longest pause | all pauses | per object |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in figures["pauses"].items():
        lines.append(
            f"| {name} | {row['collections']:,} | {row['longest_pause_ms']:.2f} ms "
            f"| {row['paused_ms']:.0f} ms | {row['ns_per_object']:.0f} ns |"
        )
    return [
        *lines,
        "",
        "Times of both tables are the best or the only of one run: their order counts, not their last digit.",
        "`heartcast serve` collects once at its start, freezes what is there, and sets the thresholds to",
        "50,000, 50 and 1,000. Freezing takes what start-up made out of every later look; sessions that come",
        "later are looked at, seldom.",
        "",
    ]


if __name__ == "__main__":
    print(json.dumps(_pauses(sys.argv[1])))
