"""A backlog of a million pushes, and how fast it goes while new ones keep coming.

    python -m benchmarks backlog

In process, without HTTP and the hub: a million pushes are taken while no worker runs, then
the workers begin and further pushes arrive at a steady rate of real time. ``recovery`` is
how many pushes left per push that arrived, until nothing waits; ``longest_turn_ms`` is the
longest that requests had to wait for a worker meanwhile.
"""

from __future__ import annotations

import gc
import json
import time
from random import Random

from benchmarks.push import Turns, made

BACKLOG = 1_000_000
ARRIVALS_PER_S = 12_000
USERS = 9_000


def run() -> dict[str, dict[str, float]]:
    """For users who are away, and for those who are connected."""
    gc.set_threshold(50_000, 50, 1000)
    return {"away": _recovered(()), "connected": _recovered([f"inbox:#{user}" for user in range(USERS)])}


def _recovered(watched: list[str] | tuple[()]) -> dict[str, float]:
    turns, random = Turns(), Random(7)
    service = made(turns, frozenset(watched))
    payload = {"title": "Go 1.23 released"}
    for _ in range(BACKLOG):
        service.accept(random.randrange(USERS), "news_v2", payload)
    arrived = 0
    longest_s = 0.0
    begin_s = time.perf_counter()
    while service.queued:
        due = int((time.perf_counter() - begin_s) * ARRIVALS_PER_S)
        for _ in range(arrived, due):
            service.accept(random.randrange(USERS), "news_v2", payload)
        arrived = due
        turn_s = time.perf_counter()
        turns.one()
        longest_s = max(longest_s, time.perf_counter() - turn_s)
    took_s = time.perf_counter() - begin_s
    left = BACKLOG + arrived
    return {
        "backlog": BACKLOG,
        "arrivals_per_s": ARRIVALS_PER_S,
        "left_per_s": round(left / took_s),
        "recovery": round(left / took_s / ARRIVALS_PER_S, 1),
        "took_s": round(took_s, 2),
        "longest_turn_ms": round(longest_s * 1e3, 2),
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
