"""The whole comparison as one value."""

from __future__ import annotations

import asyncio
import platform

import msgspec

from heartcast.resilience.compare import algorithms, contenders
from heartcast.resilience.compare.timing import in_turns


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one run measured."""

    python: str
    machine: str
    algorithms: list[algorithms.Row]
    limiters_ns: dict[str, float]
    """Nanoseconds per admitted decision, the reading of the clock included."""
    refusals_ns: dict[str, float]
    breakers_ns: dict[str, float]
    """Nanoseconds per good call through a closed breaker."""
    missing: list[str]
    """Libraries that are not installed."""


def measure(*, rounds: int = 25) -> Report:
    """Run everything; takes about ``rounds`` times half a second."""
    limiters, no_limiters = contenders.limiters()
    breakers, no_breakers = contenders.breakers()
    return Report(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        machine=f"{platform.system()} {platform.machine()}",
        algorithms=algorithms.compare(),
        limiters_ns=asyncio.run(_in_loop(limiters, rounds)),
        refusals_ns=in_turns(contenders.refusals(), rounds=rounds),
        breakers_ns=in_turns(breakers, rounds=rounds),
        missing=no_limiters + no_breakers,
    )


async def _in_loop(calls: dict[str, contenders.Call], rounds: int) -> dict[str, float]:
    # aiolimiter asks for the running loop, so all are measured inside one.
    return in_turns(calls, rounds=rounds)
