"""A closed-loop sweep: N requests in flight, for growing N, and what comes of each.

Whatever else a machine does spoils a sweep more than anything that the server does, so
the sweep is made in many short rounds, each through all loads in another order, and is
read across the rounds: a round that was slow as a whole is lifted to the level of the
others, and then of each load the median counts. Before the first round the server is
loaded until its inboxes are full and its caches warm, and what is asked for is the same
work from the first request to the last, or later loads would be other loads. Time in which
the server or the tester was ready to run and some other program had its core is nobody's
capacity and is left out, as far as the kernel tells.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Sequence
from random import Random
from statistics import median
from typing import Any, NamedTuple

import msgspec

from heartcast.core.clock import Clock
from heartcast.core.errors import InvalidInput, Unavailable
from heartcast.core.quantiles import Histogram
from heartcast.loadtest.http import Pool
from heartcast.loadtest.report import run_name
from heartcast.loadtest.target import Target, Usage, pid_listening, usage_of, waited_s

ROUNDS = 5
HOLD_OUT = 1.5
_SETTLE_S = 0.1
_WARM_S = 2.5
_MOST_CONNECTIONS = 64
_PUSHED_USERS = 64
"""Nobody reads what is pushed here. Few users have full inboxes soon, and from then on each push does
what the next one does: it takes a place and ends the oldest."""
_TARGETS = 100
_FIRST_USER = 1_000_000_000

Source = Callable[[], bytes]
"""Gives the next request."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One load of the sweep."""

    n: int
    """Requests in flight."""
    per_s: float
    """Requests that succeeded, per second."""
    mean_ms: float
    p99_ms: float
    answers: int
    failed: int
    """Of the answers."""
    server_cpu_ms: float | None
    """Processor time of the server per request; None when it cannot be seen."""
    tester_cpu: float
    """Share of one core."""
    error: float
    """Standard error of ``per_s`` across the rounds, as a share of it; 0: there was one round."""
    waited: float
    """Share of the time in which the server or the tester waited for a core; left out of ``per_s``."""


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


async def sweep(
    target: Target,
    clock: Clock,
    *,
    of: str,
    largest: int,
    seconds: float,
    rounds: int = ROUNDS,
    on_step: Callable[[Step], None] | None = None,
) -> tuple[list[Step], Step]:
    """Measure every load, and the one that is to be held out.

    Args:
        of: push, hearts or publish.
        seconds: Length of each load, all rounds together.

    Raises:
        HeartcastError: there is no such sweep, or the server stopped answering.
    """
    seen = loads(largest)
    held = math.ceil(largest * HOLD_OUT)
    source = requests_of(target, of)
    found: dict[int, list[Step]] = {n: [] for n in [*seen, held]}
    await _step(target, clock, source, largest, min(_WARM_S, seconds * 2))
    order = Random(1)  # noqa: S311 - an order is no secret
    for _ in range(rounds):
        # In another order each time, or what comes and goes on the machine would always hit the same.
        for n, steps in order.sample(list(found.items()), len(found)):
            steps.append(await _step(target, clock, source, n, seconds / rounds))
            if on_step is not None:
                on_step(steps[-1])
    levels = levels_of([found[n] for n in seen])
    *fitted, hold_out = [across(steps, levels) for steps in found.values()]
    return fitted, hold_out


def levels_of(steps: Sequence[Sequence[Step]]) -> list[float]:
    """How fast each round was as a whole; 1: as the others.

    Args:
        steps: Of each load, the same load in all rounds. Without the held-out load, which must have
            no say in what it is measured against.
    """
    usual = [median(step.per_s for step in load) for load in steps]
    rounds = range(len(steps[0]))
    return [median(load[k].per_s / x for load, x in zip(steps, usual, strict=True)) for k in rounds]


def across(steps: Sequence[Step], levels: Sequence[float]) -> Step:
    """One load read across its rounds: each lifted to the level of the others, and then the median."""
    lifted = [step.per_s / level for step, level in zip(steps, levels, strict=True)]
    per_s = median(lifted)
    cpu = [step.server_cpu_ms for step in steps if step.server_cpu_ms is not None]
    return Step(
        n=steps[0].n,
        per_s=per_s,
        mean_ms=median(step.mean_ms * level for step, level in zip(steps, levels, strict=True)),
        p99_ms=median(step.p99_ms for step in steps),
        answers=sum(step.answers for step in steps),
        failed=sum(step.failed for step in steps),
        server_cpu_ms=median(cpu) if cpu else None,
        tester_cpu=median(step.tester_cpu for step in steps),
        error=_error(lifted),
        waited=median(step.waited for step in steps),
    )


def _error(values: Sequence[float]) -> float:
    """Standard error of the median, by the median deviation from it: one outlier does not count."""
    middle = median(values)
    deviation = 1.4826 * median(abs(value - middle) for value in values)
    # The median of a normal sample scatters 1.2533 times as much as its mean.
    return 1.2533 * deviation / math.sqrt(len(values)) / middle


def requests_of(target: Target, of: str) -> Source:
    """What a sweep sends, one after the other, without an end; always the same kind of work.

    Raises:
        InvalidInput: there is no such sweep.
    """
    name = run_name().encode()
    if of == "push":
        body = b'{"user_id":"bench-%s-%d","template":"news_v2","payload":{"title":"capacity"}}'
        bodies = [body % (name, user) for user in range(_PUSHED_USERS)]
        return _in_turn([target.request("POST", "/push", each) for each in bodies])
    if of == "hearts":
        return _hearts(target, name)
    if of == "publish":
        body = b'{"channel":"public:bench-%s","data":"capacity"}' % name
        return _in_turn([target.request("POST", "/api/publish", body)])
    raise InvalidInput(f"there is no sweep of {of!r}: push, hearts or publish")


def _in_turn(requests: list[bytes]) -> Source:
    number = -1

    def following() -> bytes:
        nonlocal number
        number = number + 1 if number + 1 < len(requests) else 0
        return requests[number]

    return following


def _hearts(target: Target, name: bytes) -> Source:
    # Each from a user who has not given one: to give a heart again is less work, and no heart.
    body = b'{"target_id":"bench-%s-%02d","user_id":%d}'
    heads = [
        target.request("POST", "/api/v1/hearts", body % (name, number, _FIRST_USER))
        .removesuffix(b"%d}" % _FIRST_USER)
        .replace(b"%", b"%%")
        + b"%d}"
        for number in range(_TARGETS)
    ]
    user = _FIRST_USER

    def following() -> bytes:
        nonlocal user
        user += 1
        return heads[user % _TARGETS] % user

    return following


class _Loop:
    """N requests in flight, each followed by the next when it is answered."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.pool: Pool
        self.is_running = True
        self.latencies = Histogram()
        self.failed = 0
        self.answers = 0

    def ask(self, line: int) -> None:
        self.pool.connections[line].ask(line, self._source(), self.pool.now_us())

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


async def _step(target: Target, clock: Clock, source: Source, n: int, seconds: float) -> Step:
    loop = _Loop(source)
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
        before = _Moment.now(clock, pid)
        await asyncio.sleep(seconds)
        after, answers, failed = _Moment.now(clock, pid), loop.answers, loop.failed
        loop.is_running = False
        await loop.pool.drain(5.0)
    finally:
        await loop.pool.close()
    if not answers:
        raise Unavailable(f"{target.url} answered nothing with {n} requests in flight")
    latencies = loop.latencies
    took_s = after.at_s - before.at_s
    # Not both: while the one waits the other soon does too, for the first.
    waited_s = min(
        max(after.own_wait_s - before.own_wait_s, after.server_wait_s - before.server_wait_s), took_s * 0.9
    )
    cpu_s = after.server.cpu_s - before.server.cpu_s if after.server and before.server else None
    return Step(
        n=n,
        per_s=(answers - failed) / (took_s - waited_s),
        mean_ms=latencies.sum / latencies.count / 1000,
        p99_ms=(latencies.quantile(0.99) or 0) / 1000,
        answers=answers,
        failed=failed,
        server_cpu_ms=cpu_s / answers * 1000 if cpu_s is not None else None,
        tester_cpu=(after.own_cpu_s - before.own_cpu_s) / (took_s - waited_s),
        error=0.0,
        waited=waited_s / took_s,
    )


class _Moment(NamedTuple):
    """What both sides had used at a moment."""

    at_s: float
    own_cpu_s: float
    own_wait_s: float
    server: Usage | None
    server_wait_s: float

    @classmethod
    def now(cls, clock: Clock, pid: int | None) -> _Moment:
        return cls(
            clock.monotonic_s(),
            time.process_time(),
            waited_s(os.getpid()),
            usage_of(pid) if pid else None,
            waited_s(pid) if pid else 0.0,
        )
