"""From a target and a scenario to a report: what the command line calls."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any, TypeVar

from heartcast.core.clock import Clock, SystemClock
from heartcast.core.errors import InvalidInput
from heartcast.loadtest.live import LiveView
from heartcast.loadtest.outcome import outcome_of
from heartcast.loadtest.profile import Profile
from heartcast.loadtest.report import Report, report_of, run_name
from heartcast.loadtest.run import Run, Second
from heartcast.loadtest.scenario import Scenario
from heartcast.loadtest.scenarios import scene_of
from heartcast.loadtest.target import Target, meet

_SPARE_FILES = 64
_PORTS_PER_SOURCE = 24_000
"""The usual 28,232 of Linux, less what lingers and what others use."""

T = TypeVar("T")


def on_a_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to the end on uvloop, or on asyncio's own loop where there is none."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work())
    return uvloop.run(work())


async def bench(
    target: Target,
    scenario: Scenario,
    *,
    sources: tuple[str, ...] = (),
    view: LiveView | None = None,
    clock: Clock | None = None,
    profiled: Callable[[str], None] | None = None,
) -> Report:
    """Run one scenario against one server.

    Args:
        sources: Addresses to connect from; empty: as many as are needed.
        view: Shown while it runs.
        profiled: Takes a flame graph of the server as SVG, "" when there is none; None: none is made.

    Raises:
        HeartcastError: it could not begin; the text is one sentence that says why.
    """
    clock = clock or SystemClock()
    check_limits(scenario)
    began_ms = clock.wall_ms()
    listeners: list[Callable[[Second], None]] = [view.second] if view else []
    run = Run(
        target,
        scenario,
        clock,
        name=run_name(),
        sources=sources or enough_sources(target, scenario.sockets),
        on_second=lambda second: [listen(second) for listen in listeners],
        on_phase=view.phase if view else None,
    )
    if view is not None:
        view.follow(run)
    profile = Profile(run) if profiled is not None else None
    if profile is not None:
        listeners.append(profile.second)
    try:
        await meet(run.asker, target)
        await run.execute(scene_of)
    finally:
        await run.asker.close()
    if profile is not None and profiled is not None:
        profiled(await asyncio.to_thread(profile.flame))
    return report_of(outcome_of(run), began_ms=began_ms, ended_ms=clock.wall_ms())


def check_limits(scenario: Scenario) -> None:
    """Raise this process's soft limit of open files as far as the scenario needs.

    Raises:
        InvalidInput: the hard limit is too low.
    """
    needed = scenario.sockets + scenario.load.connections + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise InvalidInput(
            f"this scenario needs {needed:,} open files and this machine allows {hard:,} a process: "
            "raise 'ulimit -n', or use fewer connections"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def enough_sources(target: Target, sockets: int) -> tuple[str, ...]:
    """Loopback addresses to connect from, so that their ports suffice; () where one does.

    Raises:
        InvalidInput: the server is elsewhere, and one address has too few ports.
    """
    if sockets <= _PORTS_PER_SOURCE:
        return ()
    if not target.is_loopback or (target.host != "localhost" and ip_address(target.host).version != 4):
        raise InvalidInput(
            f"one address has ports for about {_PORTS_PER_SOURCE:,} connections, not {sockets:,}: "
            "give several addresses of this machine with --source"
        )
    return tuple(f"127.0.0.{2 + n}" for n in range(-(-sockets // _PORTS_PER_SOURCE)))
