"""The whole comparison as one value, and as a picture."""

from __future__ import annotations

import asyncio
import platform
from pathlib import Path

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


def plot(report: Report, path: Path) -> None:
    """Draw the decisions' costs and the algorithms' answer to the burst.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl  # type: ignore[import-not-found, unused-ignore]

    mpl.use("Agg")
    from matplotlib import pyplot  # type: ignore[import-not-found, unused-ignore]

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(14, 5))
    costs = sorted({**report.limiters_ns, **report.breakers_ns}.items(), key=lambda item: -item[1])
    colours = ["#d6336c" if name.startswith("heartcast") else "#adb5bd" for name, _ in costs]
    left.barh([name for name, _ in costs], [ns / 1000 for _, ns in costs], color=colours)
    left.set_xscale("log")
    left.set_xlabel("µs per call (log)")
    left.set_title(f"Cost of a decision, {report.python}")
    names = [row.algorithm for row in report.algorithms]
    right.barh(names, [row.burst_admitted for row in report.algorithms], color="#d6336c")
    right.axvline(500, color="#495057", linestyle="--", label="the rate itself")
    right.set_xlabel(f"admitted of {report.algorithms[0].burst_offered} in a burst of 500 ms")
    right.set_title("Burst tolerance at a limit of 1000/s")
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
