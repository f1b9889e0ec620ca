"""How much one machine takes, measured; how many machines that means, calculated.

A closed-loop sweep (``sweep``) keeps N requests in flight and notes throughput, latency
and the server's processor time, for growing N. Three models then speak of the same numbers:

formula  cores x 0.7 / cpu_ms x 1000: linear in cores, needs one figure
Little   in flight = rate x latency: what a limit of concurrency must be
USL      what queueing and coordination take away; see ``usl``

The last load of the sweep, half as much again as the largest that the fit saw, is not
given to the fit: how far the prediction misses it is part of the result. Where refusals, a
busy tester or a noisy machine leave nothing to fit, that is said instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import msgspec

from heartcast.core.clock import Clock, rfc3339
from heartcast.core.errors import HeartcastError, InvalidInput, SettingsError
from heartcast.loadtest.report import machine
from heartcast.loadtest.sweep import Step, sweep
from heartcast.loadtest.target import Asker, Target, may_send, meet
from heartcast.loadtest.usl import Intervals, Point, Usl, bootstrap, robust_fit, scatter

HEADROOM = 0.7
"""Share of the capacity that is planned with, as in the well-known formula."""
MOST_SCATTER = 0.1
"""A law that misses the very points it was made from by more than this will not foretell others within it."""
MOST_ERROR = 0.05
"""Standard error of a load: nobody can say whether a prediction is within ten percent of a figure that
is itself not known within ten percent."""
MOST_FAILED = 0.01
MOST_TESTER = 0.95
"""Share of its core from which on the tester is what is measured."""


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep found."""

    of: str
    url: str
    machine: str
    began_at: str
    steps: list[Step]
    """Those that the fit was made from."""
    law: Usl
    scatter: float
    """How far those lie from the law, as a share of their throughput."""
    intervals: Intervals
    hold_out: Step
    predicted_per_s: float
    """What the fit says of the held-out load."""

    @property
    def miss(self) -> float:
        """Share by which the prediction misses the held-out load; above 0: it promised too much."""
        return self.predicted_per_s / self.hold_out.per_s - 1

    @property
    def cpu_ms(self) -> float | None:
        """Processor time per request at the highest load that the fit saw."""
        return self.steps[-1].server_cpu_ms


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How many nodes, by each model."""

    per_node: float
    """Requests per second that one node is planned with."""
    nodes: int
    by: str
    """Which finding decided."""
    formula_per_s: float | None
    """One process's core, by the formula."""
    measured_per_s: float
    """Highest measured throughput whose p99 keeps the bound."""
    usl_per_s: float
    """The law's best within what it may say."""
    in_flight: float
    """Requests in flight per node at the planned rate (Little)."""


async def measure(
    target: Target,
    clock: Clock,
    *,
    of: str = "push",
    largest: int = 32,
    seconds: float = 3.0,
    on_step: Callable[[Step], None] | None = None,
) -> Capacity:
    """Sweep, fit and check.

    Args:
        of: push, hearts or publish.
        seconds: Length of each load, all rounds together.

    Raises:
        HeartcastError: it could not begin, the server stopped answering, or no curve can be
            drawn through what was measured; says why.
    """
    began_ms = clock.wall_ms()
    asker = Asker(clock, target)
    try:
        await meet(asker, target)
        await may_send(asker, target)
        seen, hold_out = await sweep(target, clock, of=of, largest=largest, seconds=seconds, on_step=on_step)
    finally:
        await asker.close()
    law = law_of([*seen, hold_out], fitted=len(seen))
    points = points_of(seen)
    return Capacity(
        of=of,
        url=target.url,
        machine=machine(),
        began_at=rfc3339(began_ms),
        steps=seen,
        law=law,
        scatter=scatter(law, points),
        intervals=bootstrap(law, points, Random(1)),  # noqa: S311 - a bootstrap is no secret
        hold_out=hold_out,
        predicted_per_s=law.throughput(hold_out.n),
    )


def points_of(steps: Sequence[Step]) -> list[Point]:
    return [(step.n, step.per_s) for step in steps]


def law_of(steps: Sequence[Step], *, fitted: int) -> Usl:
    """The law through the first ``fitted`` steps.

    Raises:
        HeartcastError: the steps are no measurement of the server's capacity; the sentence says why.
    """
    for step in steps:
        if step.failed > MOST_FAILED * step.answers:
            raise _unfit(
                f"with {step.n} in flight the server refused {step.failed:,} requests: what it turns away "
                "has no capacity; raise its limits, or sweep less with --largest"
            )
        if step.tester_cpu > MOST_TESTER:
            raise _unfit(
                f"with {step.n} in flight the tester used {step.tester_cpu:.0%} of its core: this would be "
                "the tester's capacity, not the server's; give it a core of its own"
            )
        if step.error > MOST_ERROR:
            raise _unfit(
                f"the rounds differ so much that the throughput with {step.n} in flight is known to "
                f"{2 * step.error:.0%} only, and it must be to {2 * MOST_ERROR:.0%}: measure on a quieter "
                "machine, or longer with --seconds"
            )
    points = points_of(steps[:fitted])
    law = robust_fit(points)
    found = scatter(law, points)
    if found > MOST_SCATTER:
        raise _unfit(
            f"no curve fits what was measured: the loads lie {found:.0%} off the best one, and it may be "
            f"{MOST_SCATTER:.0%}; measure on a quieter machine, or longer with --seconds"
        )
    return law


def _unfit(why: str) -> HeartcastError:
    return HeartcastError(why, code="capacity_unfit")


def formula_per_s(cores: float, cpu_ms: float, headroom: float = HEADROOM) -> float:
    """What ``cores`` take when a request costs ``cpu_ms`` of processor time, by the linear formula.

    Raises:
        InvalidInput: a figure is not above 0.
    """
    if min(cores, cpu_ms, headroom) <= 0:
        raise InvalidInput("cores, processor time and headroom must be above 0")
    return cores * headroom / cpu_ms * 1000


def in_flight(per_s: float, latency_ms: float) -> float:
    """Little's law: requests in the system at this rate and mean latency."""
    return per_s * latency_ms / 1000


def plan(capacity: Capacity, *, per_s: float, p99_ms: float, headroom: float = HEADROOM) -> Plan:
    """How many nodes like the measured one carry a load.

    A node is planned with ``headroom`` of the highest throughput that was *measured*
    within the bound, and never with more than the law allows.

    Raises:
        InvalidInput: a figure is not above 0, or no measured load keeps the bound.
    """
    if min(per_s, p99_ms, headroom) <= 0:
        raise InvalidInput("the load, the bound and the headroom must be above 0")
    kept = [step for step in [*capacity.steps, capacity.hold_out] if step.p99_ms <= p99_ms]
    if not kept:
        best = min(capacity.steps, key=lambda step: step.p99_ms)
        raise InvalidInput(
            f"no measured load had a p99 within {p99_ms:g} ms; the best was {best.p99_ms:.1f} ms "
            f"at {best.per_s:,.0f} requests/s"
        )
    best = max(kept, key=lambda step: step.per_s)
    usl_per_s = capacity.law.best[1]
    planned = headroom * min(best.per_s, usl_per_s)
    cpu_ms = capacity.cpu_ms
    return Plan(
        per_node=planned,
        nodes=math.ceil(per_s / planned),
        by="the law" if usl_per_s < best.per_s else f"the measurement with {best.n} in flight",
        formula_per_s=formula_per_s(1, cpu_ms, headroom) if cpu_ms else None,
        measured_per_s=best.per_s,
        usl_per_s=usl_per_s,
        in_flight=in_flight(planned, best.mean_ms),
    )


def write(capacity: Capacity, path: Path) -> None:
    """As JSON.

    Raises:
        SettingsError: it cannot be written.
    """
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(capacity), indent=1) + b"\n")
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error


def read(path: Path) -> Capacity:
    """What ``write`` wrote.

    Raises:
        SettingsError: there is none, or it is something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Capacity)
    except OSError as error:
        raise SettingsError(
            f"cannot read {path}: {error.strerror}; measure first: heartcast bench capacity --json {path}"
        ) from error
    except ValueError as error:
        raise SettingsError(f"{path} was not written by heartcast bench capacity: {error}") from error
