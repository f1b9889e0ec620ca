"""Several testers in processes of their own, one load, one verdict.

Each process does a part of the scenario: its share of the rate, with subscribers, users,
channels and targets of its own, so that nothing has to be agreed on while the load runs.
All prepare, then all begin at the same moment. Every second is sent here with its
histograms, which add up where quantiles do not; in the end the accounts are merged.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import msgspec

from heartcast.core.clock import SystemClock
from heartcast.core.errors import HeartcastError, InvalidInput, Unavailable
from heartcast.core.quantiles import Histogram
from heartcast.loadtest.bench import check_limits, enough_sources, on_a_loop
from heartcast.loadtest.live import LiveView
from heartcast.loadtest.meter import Quantiles
from heartcast.loadtest.outcome import Outcome, merged, outcome_of, together
from heartcast.loadtest.report import Report, report_of, run_name
from heartcast.loadtest.run import Run, Second
from heartcast.loadtest.scenario import Scenario
from heartcast.loadtest.scenarios import scene_of
from heartcast.loadtest.target import Target, meet
from heartcast.loadtest.verdict import Ledger

MOST = 16
_SHARED_OUT = ("subscribers", "channels", "users", "targets", "watchers", "authors")
_PREPARE_S = 120.0
_SETTLE_S = 60.0
_AHEAD_NS = 300_000_000
"""From the word to the load's first moment: all processes have heard it by then."""


class Phase(NamedTuple):
    """A process says what it is doing; ``is_ready``: it waits for the load to begin."""

    text: str
    is_ready: bool = False


class Heard(NamedTuple):
    """A second of one process, with what its quantiles were read from."""

    second: Second
    requests: Histogram
    deliveries: Histogram
    counts: dict[str, int]


class Failed(NamedTuple):
    """A process could not begin."""

    why: str


def parts(scenario: Scenario, processes: int) -> list[Scenario]:
    """One scenario in as many parts.

    Raises:
        InvalidInput: there is not enough of something to give each a part.
    """
    if not 1 <= processes <= MOST:
        raise InvalidInput(f"--processes must be 1 to {MOST}, got {processes}")
    load = scenario.load
    peak = load.peak_per_s / processes if load.peak_per_s is not None else None
    found: list[Scenario] = []
    for number in range(processes):
        changes: dict[str, Any] = {
            "seed": scenario.seed * MOST + number,
            "load": msgspec.structs.replace(
                load,
                rate_per_s=load.rate_per_s / processes,
                peak_per_s=peak,
                connections=-(-load.connections // processes),
                max_open=-(-load.max_open // processes),
            ),
        }
        for name in _SHARED_OUT:
            whole = getattr(scenario, name, None)
            if whole is None:
                continue
            if whole < processes:
                raise InvalidInput(
                    f"{name}: {whole} cannot be shared out among {processes} processes: "
                    f"use at least {processes}, or fewer --processes"
                )
            changes[name] = whole // processes + (number < whole % processes)
        if hasattr(scenario, "churn_per_s"):
            changes["churn_per_s"] = scenario.churn_per_s / processes
        found.append(msgspec.structs.replace(scenario, **changes))
    return found


def added(seconds: Sequence[Heard]) -> Second:
    """The same second of all processes as one."""
    each = [heard.second for heard in seconds]
    return Second(
        at_s=each[0].at_s,
        offered=sum(second.offered for second in each),
        answered=sum(second.answered for second in each),
        refused=sum(second.refused for second in each),
        delivered=sum(second.delivered for second in each),
        listening=sum(second.listening for second in each),
        requests=Quantiles.of(merged([heard.requests for heard in seconds])),
        deliveries=Quantiles.of(merged([heard.deliveries for heard in seconds])),
        # The busiest: one saturated process spoils the figures of all.
        tester_cpu=max(second.tester_cpu for second in each),
        server_cpu=max((s.server_cpu for s in each if s.server_cpu is not None), default=None),
        server_rss_bytes=max((s.server_rss_bytes for s in each if s.server_rss_bytes), default=None),
    )


def bench_with(
    processes: int,
    target: Target,
    scenario: Scenario,
    *,
    sources: tuple[str, ...] = (),
    view: LiveView | None = None,
) -> Report:
    """Run one scenario against one server, from several processes.

    Raises:
        HeartcastError: it could not begin; the text is one sentence that says why.
    """
    clock = SystemClock()
    shares = parts(scenario, processes)
    sources = sources or enough_sources(target, scenario.sockets)
    began_ms = clock.wall_ms()
    crew = Crew(target, scenario, name=run_name(), view=view)
    if view is not None:
        view.follow(crew)
    outcome = crew.run(shares, sources)
    return report_of(outcome, began_ms=began_ms, ended_ms=clock.wall_ms())


class Crew:
    """The processes of one load, and what they have told so far."""

    def __init__(self, target: Target, scenario: Scenario, *, name: str, view: LiveView | None) -> None:
        self.target = target
        self.scenario = scenario
        self.seconds: list[Second] = []
        self.ledger = Ledger(round(scenario.bounds.late_ms * 1000))
        self._name = name
        self._view = view
        self._heard: dict[int, dict[Connection, Heard]] = {}
        self._outcomes: dict[Connection, Outcome] = {}
        self._ended_by: str | None = None

    def run(self, shares: Sequence[Scenario], sources: tuple[str, ...]) -> Outcome:
        """Start, wait for the end, add up.

        Raises:
            Unavailable: a process could not begin, or none came to an end.
        """
        # Not forked: a child would inherit the loop, the sockets and the threads of who called.
        spawn = multiprocessing.get_context("spawn")
        pipes: list[Connection] = []
        workers = []
        try:
            for number, share in enumerate(shares):
                ours, theirs = spawn.Pipe()
                name = f"{self._name}{number:x}"
                worker = spawn.Process(
                    target=_work, args=(theirs, self.target, share, name, sources), daemon=True
                )
                worker.start()
                theirs.close()
                workers.append(worker)
                pipes.append(ours)
            self._prepare(pipes)
            start_ns = time.monotonic_ns() + _AHEAD_NS
            for pipe in pipes:
                pipe.send(start_ns)
            self._listen(pipes)
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.join()
        return self._added_up(pipes)

    def _prepare(self, pipes: list[Connection]) -> None:
        deadline_s = time.monotonic() + _PREPARE_S
        missing = set(pipes)
        while missing:
            readable = _readable(pipes, deadline_s)
            if not readable:
                raise Unavailable(
                    f"{len(missing)} of {len(pipes)} processes were not ready in {_PREPARE_S:g} s"
                )
            for pipe in readable:
                match _received(pipe):
                    case Phase(text, is_ready):
                        if is_ready:
                            missing.discard(pipe)
                        self._show(f"process {pipes.index(pipe) + 1} of {len(pipes)}: {text}")
                    case Failed(why):
                        raise Unavailable(why)
                    case _:
                        raise Unavailable("a process of the tester ended before the load began")

    def _listen(self, pipes: list[Connection]) -> None:
        deadline_s = time.monotonic() + self.scenario.load.seconds + _SETTLE_S
        open_ = list(pipes)
        while open_:
            readable = _readable(open_, deadline_s)
            if not readable:
                self._ended_by = (
                    f"{len(open_)} of {len(pipes)} processes of the tester did not come to an end"
                )
                return
            for pipe in readable:
                if self._take(pipe, _received(pipe), len(pipes)):
                    open_.remove(pipe)

    def _take(self, pipe: Connection, said: object, of: int) -> bool:
        """Note what a process said; whether it was its last."""
        match said:
            case Heard(second):
                row = self._heard.setdefault(second.at_s, {})
                row[pipe] = said
                if len(row) == of:
                    self._second(second.at_s)
            case Phase(text):
                self._show(text)
            case Outcome():
                self._outcomes[pipe] = said
                return True
            case Failed(why):
                self._ended_by = why
                return True
            case _:
                self._ended_by = "a process of the tester ended in the middle of the load"
                return True
        return False

    def _second(self, at_s: int) -> None:
        heard = list(self._heard.pop(at_s).values())
        self.seconds.append(added(heard))
        for kind in self.ledger.counts:
            self.ledger.counts[kind] = sum(each.counts[kind] for each in heard)
        if self._view is not None:
            self._view.second(self.seconds[-1])

    def _show(self, text: str) -> None:
        if self._view is not None:
            self._view.phase(text)

    def _added_up(self, pipes: list[Connection]) -> Outcome:
        if not self._outcomes:
            raise Unavailable(self._ended_by or "no process of the tester came to an end")
        for at_s in sorted(self._heard):  # what not everyone lived to tell
            self._second(at_s)
        self.seconds.sort(key=lambda second: second.at_s)
        outcomes = [self._outcomes[pipe] for pipe in pipes if pipe in self._outcomes]
        whole = together(outcomes, name=self._name, scenario=self.scenario, seconds=self.seconds)
        whole.ended_by = self._ended_by or whole.ended_by
        whole.notes.insert(
            0, f"The load came from {len(pipes)} processes; tester CPU is that of the busiest."
        )
        return whole


def _readable(pipes: list[Connection], deadline_s: float) -> list[Connection]:
    return wait(pipes, max(0.0, deadline_s - time.monotonic()))  # type: ignore[return-value]


def _received(pipe: Connection) -> object:
    """What a process sent; None: it is gone."""
    try:
        said: object = pipe.recv()
    except (EOFError, OSError):
        return None
    return said


def _work(pipe: Connection, target: Target, scenario: Scenario, name: str, sources: tuple[str, ...]) -> None:
    """A process of the crew."""
    try:
        pipe.send(on_a_loop(lambda: _part(pipe, target, scenario, name, sources)))
    except HeartcastError as error:
        pipe.send(Failed(error.detail))
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        return  # whoever asked is gone


async def _part(
    pipe: Connection, target: Target, scenario: Scenario, name: str, sources: tuple[str, ...]
) -> Outcome:
    async def gate() -> int:
        pipe.send(Phase("ready", is_ready=True))
        start_ns: int = await asyncio.to_thread(pipe.recv)
        return start_ns

    def tell(second: Second) -> None:
        pipe.send(Heard(second, run.requests.last, run.deliveries.last, dict(run.ledger.counts)))

    check_limits(scenario)
    run = Run(
        target,
        scenario,
        SystemClock(),
        name=name,
        sources=sources,
        on_second=tell,
        on_phase=lambda text: pipe.send(Phase(text)),
        gate=gate,
    )
    try:
        await meet(run.asker, target)
        await run.execute(scene_of)
    finally:
        await run.asker.close()
    return outcome_of(run)
