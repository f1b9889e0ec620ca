"""The figures of the resilience kit: ``python -m benchmarks resilience``.

Costs are the fastest of many short rounds, measured in turns. Redis is a real Valkey from
the test requirements. Memory is measured in processes of their own. What happens in outages
is simulated (``outages``). Run it on a quiet machine; it takes about two minutes.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import subprocess
import sys
import time
import tracemalloc
from random import Random
from typing import Any

from benchmarks import outages
from heartcast.backends.redis import RedisLink
from heartcast.backends.redis_pipe import RedisPipe
from heartcast.core.clock import SystemClock
from heartcast.core.quantiles import Histogram
from heartcast.resilience import (
    Bulkhead,
    Circuit,
    KeyedBucket,
    Limit,
    Policy,
    Retry,
    Shedder,
    State,
    TokenBucket,
)
from heartcast.resilience.breaker import Breaker
from heartcast.resilience.compare import contenders
from heartcast.resilience.compare.timing import in_turns
from heartcast.resilience.limits.shared import REDIS_BREAKER, Leases, SharedLimiter
from heartcast.resilience.limits.shared_bucket import LATER, SharedBucket, script_of
from heartcast.testing.fault_proxy import FaultProxy
from heartcast.testing.redis_server import RedisServer

_PLENTY = Limit(limit=1_000_000_000)


def calls_us(rounds: int) -> dict[str, float]:
    """Microseconds per call, the time passed in."""
    bucket, keyed, histogram = TokenBucket(_PLENTY), KeyedBucket(_PLENTY), Histogram()
    empty, breaker, opened = TokenBucket(Limit.parse("1/day burst 1")), _breaker(), _breaker()
    empty.admit(0)
    opened.force(State.OPEN, 0)
    shedder, now = Shedder(), 5000
    took = in_turns(
        {
            "token bucket": lambda: bucket.admit(now),
            "token bucket, clock read": lambda: bucket.admit(SystemClock.monotonic_ns()),
            "keyed": lambda: keyed.admit_key("user:1", now),
            "keyed, with a Decision": lambda: keyed.decide_key("user:1", now),
            "reject as a value": lambda: empty.admit(1),
            "breaker closed": lambda: breaker.ok(breaker.enter(now), 6000),
            "breaker open": lambda: opened.enter(1),
            "histogram add": lambda: histogram.add(1234),
            "shed check": lambda: shedder.refuses(1),
        },
        rounds=rounds,
    )
    return {name: ns / 1000 for name, ns in took.items()}


def _breaker() -> Breaker:
    return Breaker("x", random=Random(1))


async def rivals(rounds: int) -> dict[str, float]:
    """Ours beside the fastest library, all in one run: microseconds per call, the clock read."""
    limiters, _ = contenders.limiters()
    breakers, _ = contenders.breakers()
    decisions, guarded = in_turns(limiters, rounds=rounds), in_turns(breakers, rounds=rounds)
    return {
        **{f"fastest limiter: {name}": ns / 1000 for name, ns in [_fastest(decisions)]},
        "our keyed limiter": decisions["heartcast KeyedBucket.admit_key"] / 1000,
        **{f"fastest breaker: {name}": ns / 1000 for name, ns in [_fastest(guarded)]},
        "our breaker": guarded["heartcast Breaker enter + ok"] / 1000,
        "our breaker, told the time": guarded["heartcast Breaker enter + ok, told the time"] / 1000,
    }


def _fastest(costs_ns: dict[str, float]) -> tuple[str, float]:
    return min(
        ((name, ns) for name, ns in costs_ns.items() if not name.startswith("heartcast")),
        key=lambda pair: pair[1],
    )


async def policy_us(rounds: int) -> float:
    """Microseconds that five layers add to an awaited call."""
    policy = Policy(
        limit=TokenBucket(_PLENTY), circuit=Circuit("x"), bulkhead=Bulkhead(10), retry=Retry(), timeout=1.0
    )

    async def nothing() -> None:
        pass

    bare = through = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(2000):
            await nothing()
        bare = min(bare, time.perf_counter() - started)
        started = time.perf_counter()
        for _ in range(2000):
            await policy.call(nothing)
        through = min(through, time.perf_counter() - started)
    return (through - bare) / 2000 * 1e6


def retained_bytes(rejects: int) -> int:
    """Memory that so many refusals leave behind."""
    keyed, breaker = KeyedBucket(Limit.parse("1/day burst 1")), _breaker()
    breaker.force(State.OPEN, 0)
    keyed.admit_key("u", 0)
    for _ in range(1000):
        keyed.admit_key("u", 1)
        breaker.enter(1)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in itertools.repeat(None, rejects):
        keyed.admit_key("u", 1)
        breaker.enter(1)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before


def memory_apart(keys: int) -> dict[str, Any]:
    """``memory`` in a fresh process, and once more where glibc keeps what is freed.

    Whole generations are freed at once; by default glibc then returns the top of its heap
    to the system, in the middle of somebody's call.
    """
    kept = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}
    return {"as_it_is": _memory_in_a_process(keys, {}), "without_trimming": _memory_in_a_process(keys, kept)}


def _memory_in_a_process(keys: int, environ: dict[str, str]) -> dict[str, float]:
    code = f"import json; from benchmarks.resilience import memory; print(json.dumps(memory({keys})))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ, **environ}
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def memory(keys: int) -> dict[str, float]:
    """Bytes a key, names included, and the longest single call while maps grow and turn."""
    limit = Limit.parse("10/min")
    names = [f"user:{number:08}" for number in range(keys)]
    keyed, longest_ns, late = KeyedBucket(limit, max_keys=keys * 2), 0, 0
    gc.collect()
    gc.disable()
    for turn in range(3):
        at = turn * 61_000_000_000
        for name in names:
            # The thread's own time: what the machine did meanwhile is no pause of ours.
            started = time.thread_time_ns()
            keyed.admit_key(name, at)
            took = time.thread_time_ns() - started
            longest_ns = max(longest_ns, took)
            late += took > 1_000_000
    gc.enable()
    del keyed
    keyed = KeyedBucket(limit, max_keys=keys * 2)
    tracemalloc.start()
    for number in range(keys):
        keyed.admit_key(f"user:{number:08}", 7)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"bytes_per_key": held / keys, "longest_call_us": longest_ns / 1000, "calls_above_1_ms": late}


async def redis_figures(rounds: int) -> dict[str, float]:
    with RedisServer() as server:
        link = RedisLink(server.url, timeout_s=1.0)
        limiter = SharedLimiter(link, "bench", _SHARED, max_denied=0)
        decision, increment = await _against_incrby(link, limiter, rounds)
        leases = Leases(SharedLimiter(link, "leased", _SHARED))
        for _ in range(20_000):
            await leases.admit("k")
        trips = leases._limiter.round_trips / 20_000
        await link.close()
        dead = await _dead(server)
        hot = await _hot_path(server)
    return {
        "decision_us": decision * 1e6,
        "incrby_us": increment * 1e6,
        "ratio": decision / increment,
        "leased_round_trips": trips,
        **dead,
        **hot,
    }


# The largest round numbers that are exact in Lua: never refused within the run.
_SHARED = "1000000/s burst 1000000"


async def _against_incrby(link: RedisLink, limiter: SharedLimiter, rounds: int) -> tuple[float, float]:
    decision = increment = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(300):
            await link.run("INCRBY", "counter", 1)
        increment = min(increment, (time.perf_counter() - started) / 300)
        started = time.perf_counter()
        for _ in range(300):
            await limiter.admit("user:1")
        decision = min(decision, (time.perf_counter() - started) / 300)
    return decision, increment


async def _dead(server: RedisServer) -> dict[str, float]:
    """What a decision takes while the server hangs, after the first three."""
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        link = RedisLink(f"redis://127.0.0.1:{proxy.port}/0")
        limiter = SharedLimiter(link, "dead", "1000000/s")
        await limiter.admit("u")
        proxy.hang()
        for _ in range(3):
            await limiter.admit("u")
        seen = Histogram()
        until = time.perf_counter() + 3
        while time.perf_counter() < until:
            started = time.perf_counter_ns()
            await limiter.admit("u")
            seen.add((time.perf_counter_ns() - started) // 1000)
            await asyncio.sleep(0)
        await link.close()
    return {
        "dead_p99_us": float(seen.quantile(0.99) or 0),
        "dead_max_us": float(seen.quantile(1.0) or 0),
        "dead_decisions": float(seen.count),
    }


async def _hot_path(server: RedisServer) -> dict[str, float]:
    """The same for what the port uses: its round trips, and what it adds while the server hangs."""
    limit = Limit.parse(_SHARED)
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        pipe = RedisPipe(f"redis://127.0.0.1:{proxy.port}/0", timeout_s=0.05, scripts=[script_of(limit)])
        now_ns = SystemClock.monotonic_ns
        breaker = Breaker("limits", REDIS_BREAKER, random=Random(1), now_ns=now_ns())
        bucket = SharedBucket(pipe.send, breaker, "hot", limit, now_ns=now_ns)
        for _ in range(20_000):
            await _admit(bucket)
        trips = bucket.round_trips / 20_000
        proxy.hang()
        while breaker.state is State.CLOSED:
            await _admit(bucket)
        seen = Histogram()
        until = time.perf_counter() + 3
        while time.perf_counter() < until:
            started = time.perf_counter_ns()
            await _admit(bucket)
            seen.add((time.perf_counter_ns() - started) // 1000)
            await asyncio.sleep(0)
        await pipe.close()
    return {
        "hot_path_round_trips": trips,
        "hot_path_dead_p99_us": float(seen.quantile(0.99) or 0),
        "hot_path_dead_max_us": float(seen.quantile(1.0) or 0),
    }


async def _admit(bucket: SharedBucket) -> int:
    wait_ns = bucket.take("campaign", SystemClock.monotonic_ns())
    if wait_ns != LATER:
        return wait_ns
    judged: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    bucket.ask("campaign", SystemClock.monotonic_ns(), 1, judged.set_result)
    return await judged


def run(*, is_quick: bool = False) -> dict[str, Any]:
    """All figures; ``is_quick``: with fewer rounds and keys."""
    rounds, keys = (10, 100_000) if is_quick else (50, 1_000_000)
    return {
        "calls_us": calls_us(rounds),
        "policy_us": asyncio.run(policy_us(rounds)),
        "retained_bytes": retained_bytes(100_000 if is_quick else 1_000_000),
        "beside_libraries_us": asyncio.run(rivals(rounds)),
        "memory": memory_apart(keys),
        "redis": asyncio.run(redis_figures(rounds)),
        "outages": outages.figures(),
    }


if __name__ == "__main__":
    print(json.dumps(run(is_quick="--quick" in sys.argv), indent=2))
