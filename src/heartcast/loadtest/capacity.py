"""How much one machine takes, measured; how many machines that means, calculated.

A closed-loop sweep keeps N requests in flight and notes throughput, latency and the
server's processor time, for growing N. Three models then speak of the same numbers:

formula  cores x 0.7 / cpu_ms x 1000: linear in cores, needs one figure
Little   in flight = rate x latency: what a limit of concurrency must be
USL      what queueing and coordination take away; see ``usl``

The last load of the sweep, half as much again as the largest that the fit saw, is not
given to the fit: how far the prediction misses it is part of the result.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from heartcast.core.clock import Clock, rfc3339
from heartcast.core.errors import InvalidInput, SettingsError, Unavailable
from heartcast.core.quantiles import Histogram
from heartcast.loadtest.http import Pool
from heartcast.loadtest.report import machine, run_name
from heartcast.loadtest.target import Asker, Target, may_send, meet, pid_listening, usage_of
from heartcast.loadtest.usl import Intervals, Point, Usl, bootstrap, fit

HEADROOM = 0.7
"""Share of the capacity that is planned with, as in the well-known formula."""
HOLD_OUT = 1.5
ROUNDS = 3
"""The sweep is made so often, and of each load the median counts: what else happens on the machine
then spoils a round and not the fit."""
_SETTLE_S = 0.2
_USERS = 500
_MOST_CONNECTIONS = 64


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One load of the sweep."""

    n: int
    """Requests in flight."""
    per_s: float
    mean_ms: float
    p99_ms: float
    failed: int
    server_cpu_ms: float | None
    """Processor time of the server per request; None when it cannot be seen."""
    tester_cpu: float
    """Share of one core."""


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep found."""

    of: str
    url: str
    machine: str
    began_at: str
    steps: list[Step]
    """Those that the fit was made from."""
    law: Usl
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


def loads(largest: int) -> list[int]:
    """Eight equal steps up to ``largest``.

    Not 1, 2, 4 …: an event loop under little load wakes up for every request and under much load for
    several at once, which are two curves, and the one that planning needs is the second.

    Raises:
        InvalidInput: too small for a fit.
    """
    if largest < 16:
        raise InvalidInput(f"the largest load must be at least 16 in flight, got {largest}")
    return [largest * k // 8 for k in range(1, 9)]


async def measure(
    target: Target,
    clock: Clock,
    *,
    of: str = "push",
    largest: int = 32,
    seconds: float = 2.0,
    on_step: Callable[[Step], None] | None = None,
) -> Capacity:
    """Sweep, fit and check.

    Args:
        of: push, hearts or publish.
        seconds: Length of each load, all rounds together.

    Raises:
        HeartcastError: it could not begin, or the server stopped answering.
    """
    began_ms = clock.wall_ms()
    asker = Asker(clock, target)
    try:
        await meet(asker, target)
        await may_send(asker, target)
        held = math.ceil(largest * HOLD_OUT)
        steps: dict[int, list[Step]] = {n: [] for n in [*loads(largest), held]}
        order = Random(1)  # noqa: S311 - an order is no secret
        for _ in range(ROUNDS):
            # In another order each time, or what comes and goes on the machine would always hit the same.
            for n, found in order.sample(list(steps.items()), len(steps)):
                found.append(await _step(target, clock, _requests(target, of), n, seconds / ROUNDS))
                if on_step is not None:
                    on_step(found[-1])
    finally:
        await asker.close()
    *seen, hold_out = map(_median, steps.values())
    points: list[Point] = [(step.n, step.per_s) for step in seen]
    law = fit(points)
    return Capacity(
        of=of,
        url=target.url,
        machine=machine(),
        began_at=rfc3339(began_ms),
        steps=seen,
        law=law,
        intervals=bootstrap(law, points, Random(1)),  # noqa: S311 - a bootstrap is no secret
        hold_out=hold_out,
        predicted_per_s=law.throughput(held),
    )


def _median(steps: list[Step]) -> Step:
    return sorted(steps, key=lambda step: step.per_s)[len(steps) // 2]


def _requests(target: Target, of: str) -> list[bytes]:
    name = run_name()
    if of == "push":
        bodies = [
            b'{"user_id":"bench-%s-%d","template":"news_v2","payload":{"title":"capacity"}}'
            % (name.encode(), user)
            for user in range(_USERS)
        ]
        return [target.request("POST", "/push", body) for body in bodies]
    if of == "hearts":
        bodies = [b'{"target_id":"bench-%s","user_id":%d}' % (name.encode(), user) for user in range(50_000)]
        return [target.request("POST", "/api/v1/hearts", body) for body in bodies]
    if of == "publish":
        body = b'{"channel":"public:bench-%s","data":"capacity"}' % name.encode()
        return [target.request("POST", "/api/publish", body)]
    raise InvalidInput(f"there is no sweep of {of!r}: push, hearts or publish")


class _Loop:
    """N requests in flight, each followed by the next when it is answered."""

    def __init__(self, clock: Clock, requests: list[bytes]) -> None:
        self._clock = clock
        self._requests = requests
        self._next = 0
        self.pool: Pool
        self.is_running = True
        self.latencies = Histogram()
        self.failed = 0
        self.answers = 0

    def ask(self, line: int) -> None:
        request = self._requests[self._next]
        self._next = (self._next + 1) % len(self._requests)
        self.pool.connections[line].ask(line, request, self.pool.now_us())

    def answered(self, tag: Any, status: int, body: bytes, latency_us: int) -> None:
        self.answers += 1
        self.latencies.add(max(0, latency_us))
        if not 200 <= status < 300:
            self.failed += 1
        if self.is_running and status:
            self.ask(tag)

    def clear(self) -> None:
        self.answers = self.failed = 0
        self.latencies.clear()


async def _step(target: Target, clock: Clock, requests: list[bytes], n: int, seconds: float) -> Step:
    loop = _Loop(clock, requests)
    loop.pool = Pool(clock, target.host, target.port, target.tls(), loop.answered)
    pid = pid_listening(target.port) if target.is_loopback else None
    connections = min(n, _MOST_CONNECTIONS)
    try:
        await loop.pool.open(connections)
        for k in range(n):
            loop.ask(k % connections)
        loop.pool.flush()
        await asyncio.sleep(_SETTLE_S)
        loop.clear()
        server, own_s, began_s = usage_of(pid) if pid else None, time.process_time(), clock.monotonic_s()
        await asyncio.sleep(seconds)
        took_s = clock.monotonic_s() - began_s
        answers, own_s, after = loop.answers, time.process_time() - own_s, usage_of(pid) if pid else None
        loop.is_running = False
        await loop.pool.drain(5.0)
    finally:
        await loop.pool.close()
    if not answers:
        raise Unavailable(f"{target.url} answered nothing with {n} requests in flight")
    latencies = loop.latencies
    cpu_s = after.cpu_s - server.cpu_s if after and server else None
    return Step(
        n=n,
        per_s=answers / took_s,
        mean_ms=latencies.sum / latencies.count / 1000,
        p99_ms=(latencies.quantile(0.99) or 0) / 1000,
        failed=loop.failed,
        server_cpu_ms=cpu_s / answers * 1000 if cpu_s is not None else None,
        tester_cpu=own_s / took_s,
    )


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
