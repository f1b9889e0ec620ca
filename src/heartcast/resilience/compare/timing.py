"""How long a call takes, on a machine that does other things as well.

Short rounds, many of them, and the fastest counts: noise only ever adds. Contenders take
turns within a round, so that a slow moment is slow for all and ratios hold.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import perf_counter_ns

_CALLS = 2000


def ns_per_call(call: Callable[[], object], *, rounds: int = 25) -> float:
    """Nanoseconds a call takes, the loop around it taken off."""
    return in_turns({"": call}, rounds=rounds)[""]


def in_turns(calls: dict[str, Callable[[], object]], *, rounds: int = 25) -> dict[str, float]:
    """Nanoseconds per call of each, measured in turns."""
    best = dict.fromkeys(calls, float("inf"))
    empty = float("inf")
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            empty = min(empty, _round(_nothing))
            for name, call in calls.items():
                best[name] = min(best[name], _round(call))
            gc.collect(0)
    finally:
        if was_enabled:
            gc.enable()
    # What is taken off is the loop and an empty call, so the call itself is part of the price.
    loop_ns = empty / 2
    return {name: max(0.0, (took - loop_ns)) / _CALLS for name, took in best.items()}


def _nothing() -> None:
    pass


def _round(call: Callable[[], object]) -> float:
    steps = range(_CALLS)
    started = perf_counter_ns()
    for _ in steps:
        call()
    return perf_counter_ns() - started
