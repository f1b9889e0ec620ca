"""The articles' experiment: 1000 requests a second, and half a second of a burst.

Time is virtual, so the admitted numbers are the algorithm's and not the machine's: a
limiter measured in real time only shows the rate it was set to.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import msgspec

from heartcast.core.quantiles import Histogram
from heartcast.resilience.compare.timing import ns_per_call
from heartcast.resilience.limits import KeyedBucket, KeyedLimiter, LeakyBucket, Limit

_SECOND = 1_000_000_000
_RATE = 1000
_STEADY_S = 10
_BURST_AT_S = 5.0
_BURST_S = 0.5
_BURST_FACTOR = 5
_KEYS = 2000


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one algorithm did."""

    algorithm: str
    admitted_per_s: float
    """Over the seconds without the burst."""
    burst_admitted: int
    """Of the requests in the half second of the burst."""
    burst_offered: int
    worst_second: int
    """Most that left in any one second: how hard the cap is."""
    wait_p99_ms: float
    """Of the admitted: how long the leaky bucket keeps them; the others admit at once."""
    decision_ns: float
    bytes_per_key: float


def arrivals() -> list[int]:
    """Times in nanoseconds: a steady pace, and five times as many during the burst."""
    times, now = [], 0.0
    while now < _STEADY_S:
        times.append(round(now * _SECOND))
        in_burst = _BURST_AT_S <= now < _BURST_AT_S + _BURST_S
        now += 1 / (_RATE * (_BURST_FACTOR if in_burst else 1))
    return times


def compare() -> list[Row]:
    """Run every algorithm over the same arrivals."""
    return [
        _run("sliding window (log)", _keyed("1000/s log"), key_limit="100/min log"),
        _run("sliding window (counter)", _keyed("1000/s window"), key_limit="100/min window"),
        _run("token bucket", _bucket("1000/s"), key_limit="100/min"),
        _run("token bucket, burst 100", _bucket("1000/s burst 100"), key_limit="100/min burst 10"),
        _run("leaky bucket, queue 100", _leaky("1000/s leak 100"), key_limit="100/min leak 10"),
    ]


def _keyed(text: str) -> Callable[[int], int]:
    limiter = KeyedLimiter(text)
    return lambda now_ns: -1 if limiter.admit("key", now_ns) else 0


def _bucket(text: str) -> Callable[[int], int]:
    bucket = KeyedBucket(Limit.parse(text))
    return lambda now_ns: -1 if bucket.admit_key("key", now_ns) else 0


def _leaky(text: str) -> Callable[[int], int]:
    return LeakyBucket(Limit.parse(text)).delay_ns


def _run(name: str, delay_ns: Callable[[int], int], *, key_limit: str) -> Row:
    waits, leaving = Histogram(), []
    steady = burst = offered = 0
    for now_ns in arrivals():
        wait_ns = delay_ns(now_ns)
        in_burst = _BURST_AT_S <= now_ns / _SECOND < _BURST_AT_S + _BURST_S
        offered += in_burst
        if wait_ns < 0:
            continue
        burst += in_burst
        steady += not in_burst
        waits.add(wait_ns // 1000)
        leaving.append(now_ns + wait_ns)
    after = iter(range(1 << 60))
    return Row(
        algorithm=name,
        admitted_per_s=steady / (_STEADY_S - _BURST_S),
        burst_admitted=burst,
        burst_offered=offered,
        worst_second=_worst_second(leaving),
        wait_p99_ms=(waits.quantile(0.99) or 0) / 1000,
        # A slow pace of time: most decisions admit, some refuse, as in use.
        decision_ns=ns_per_call(lambda: delay_ns(20 * _SECOND + next(after) * 900_000)),
        bytes_per_key=_bytes_per_key(key_limit),
    )


def _worst_second(leaving: list[int]) -> int:
    leaving.sort()
    worst = first = 0
    for last, now_ns in enumerate(leaving):
        while leaving[first] <= now_ns - _SECOND:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


def _bytes_per_key(text: str) -> float:
    """Memory of a key that used a tenth of its limit, its name included."""
    limit = Limit.parse(text)
    keyed = KeyedBucket(limit) if limit.kind in ("bucket", "leak") else KeyedLimiter(limit)
    admit = keyed.admit_key if isinstance(keyed, KeyedBucket) else keyed.admit
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(_KEYS):
        key = f"user:{number:08}"
        for use in range(10):
            admit(key, use)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / _KEYS
