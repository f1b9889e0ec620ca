"""One call per library, doing the same: a token (or its nearest relative) that is there.

Every library is used as its documentation shows, with its in-memory store and the limit
so high that everything is admitted; refusals are measured on their own.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from random import Random
from typing import Any

from heartcast.core.clock import SystemClock
from heartcast.resilience.breaker import Breaker, State
from heartcast.resilience.limits import KeyedBucket, Limit, TokenBucket

Call = Callable[[], object]
_MANY = 1_000_000_000
_now_ns = SystemClock.monotonic_ns


def limiters() -> tuple[dict[str, Call], list[str]]:
    """(calls by title, packages that are not installed)."""
    calls: dict[str, Call] = {}
    plenty = Limit(limit=_MANY)
    bucket, keyed = TokenBucket(plenty), KeyedBucket(plenty)
    calls["heartcast TokenBucket.admit"] = lambda: bucket.admit(_now_ns())
    calls["heartcast KeyedBucket.admit_key"] = lambda: keyed.admit_key("user:1", _now_ns())
    calls["heartcast KeyedBucket.decide_key"] = lambda: keyed.decide_key("user:1", _now_ns())
    missing = _add(
        calls,
        {
            "throttled-py": _throttled,
            "limits": _limits,
            "pyrate-limiter": _pyrate,
            "aiolimiter": _aiolimiter,
        },
    )
    return calls, missing


def refusals() -> dict[str, Call]:
    """Our refusals, as values."""
    bucket, keyed = TokenBucket(Limit.parse("1/day burst 1")), KeyedBucket(Limit.parse("1/day burst 1"))
    breaker = Breaker("x", random=Random(1))  # noqa: S311 — dice for jitter
    breaker.force(State.OPEN, 0)
    keyed.admit_key("user:1", 0)
    bucket.admit(0)
    return {
        "heartcast TokenBucket.admit, refused": lambda: bucket.admit(1),
        "heartcast KeyedBucket.admit_key, refused": lambda: keyed.admit_key("user:1", 1),
        "heartcast Breaker.enter, open": lambda: breaker.enter(1),
    }


def breakers() -> tuple[dict[str, Call], list[str]]:
    """(calls by title, packages that are not installed): a call that goes well through a closed breaker."""
    breaker = Breaker("x", random=Random(1), now_ns=_now_ns())  # noqa: S311 — dice for jitter
    enter, ok = breaker.enter, breaker.ok
    told = Breaker("x", random=Random(1))  # noqa: S311 — dice for jitter
    calls: dict[str, Call] = {
        # Both readings of the clock are in it; purgatory and pybreaker read none while all is well.
        "heartcast Breaker enter + ok": lambda: ok(enter(_now_ns()), _now_ns()),
        "heartcast Breaker enter + ok, told the time": lambda: told.ok(told.enter(5000), 6000),
    }
    missing = _add(calls, {"purgatory": _purgatory, "pybreaker": _pybreaker, "interlock-cb": _interlock})
    return calls, missing


def _add(calls: dict[str, Call], builders: dict[str, Callable[[], dict[str, Call]]]) -> list[str]:
    missing = []
    for package, build in builders.items():
        try:
            number = version(package)
            calls.update({f"{package} {number} {title}": call for title, call in build().items()})
        except (PackageNotFoundError, ImportError):
            missing.append(package)
    return missing


def _module(name: str) -> Any:
    # By name: their types are not ours to check, and they may not be installed.
    return import_module(name)


def _throttled() -> dict[str, Call]:
    throttled = _module("throttled")
    calls: dict[str, Call] = {}
    for algorithm in ("token_bucket", "gcra"):
        limiter = throttled.Throttled(
            using=algorithm, quota=throttled.per_sec(_MANY, burst=_MANY), store=throttled.store.MemoryStore()
        )
        calls[algorithm] = lambda limiter=limiter: limiter.limit("user:1")  # type: ignore[misc]
    return calls


def _limits() -> dict[str, Call]:
    limits, strategies = _module("limits"), _module("limits.strategies")
    item = limits.RateLimitItemPerSecond(_MANY)
    storage = _module("limits.storage")
    fixed = strategies.FixedWindowRateLimiter(storage.MemoryStorage())
    sliding = strategies.SlidingWindowCounterRateLimiter(storage.MemoryStorage())
    return {
        "fixed window": lambda: fixed.hit(item, "user:1"),
        "sliding counter": lambda: sliding.hit(item, "user:1"),
    }


def _pyrate() -> dict[str, Call]:
    pyrate = _module("pyrate_limiter")
    bucket = pyrate.StateBucket([pyrate.Rate(1_000_000, 1000)], algorithm=pyrate.GCRA())
    limiter = pyrate.Limiter(bucket)
    return {"GCRA": lambda: limiter.try_acquire("user:1", blocking=False)}


def _aiolimiter() -> dict[str, Call]:
    limiter = _module("aiolimiter").AsyncLimiter(_MANY, 1)

    def acquire() -> None:
        # Its acquire never waits here, so one step runs it to its end without a loop.
        try:
            limiter.acquire().send(None)
        except StopIteration:
            return

    return {"acquire": acquire}


def _purgatory() -> dict[str, Call]:
    breaker = _module("purgatory").SyncCircuitBreakerFactory().get_breaker("x")

    def call() -> None:
        with breaker:
            pass

    return {"with": call}


def _pybreaker() -> dict[str, Call]:
    breaker = _module("pybreaker").CircuitBreaker()
    return {"call": lambda: breaker.call(_nothing)}


def _interlock() -> dict[str, Call]:
    breaker = _module("interlock").CircuitBreaker(name="x")
    return {"call_sync": lambda: breaker.call_sync(_nothing)}


def _nothing() -> None:
    pass
