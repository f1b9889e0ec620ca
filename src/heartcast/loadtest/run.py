"""One run of one scenario: connect, send when the schedule says, listen, settle the account.

``Run`` owns what every scenario needs: the pool of HTTP connections, the crowd of
WebSockets, the ledger, the meters and the record of each second. What a scenario does
is a ``Scene``. Whatever happens on the way, a run that has begun ends with a report of
what was seen so far, and says what ended it.
"""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import msgspec

from heartcast.core.clock import Clock
from heartcast.core.errors import HeartcastError, Unavailable
from heartcast.core.quantiles import Histogram
from heartcast.loadtest.arrivals import Arrivals
from heartcast.loadtest.audience import Audience
from heartcast.loadtest.crowd import Crowd
from heartcast.loadtest.http import Pool
from heartcast.loadtest.marks import Marker
from heartcast.loadtest.meter import Meter, Quantiles
from heartcast.loadtest.pacer import Pacer
from heartcast.loadtest.scenario import Scenario
from heartcast.loadtest.sessions import Subscriber
from heartcast.loadtest.sessions.kinds import KINDS
from heartcast.loadtest.target import Asker, Target, Usage, pid_listening, usage_in, usage_of
from heartcast.loadtest.verdict import Ledger

_MOST_AT_ONCE = 1_000
"""Sends in one turn of the loop: then arrivals are looked at again, so that neither side starves."""
_SILENT_SERVER_S = 5.0
"""No answer to anything for so long ends the run: the server is gone."""


def _dice(seed: int, purpose: str) -> Random:
    return Random(f"{seed} {purpose}")  # noqa: S311 - load is drawn, not secrets


class Second(msgspec.Struct, frozen=True, kw_only=True):
    """What one second held."""

    at_s: int
    """Its number since the load began."""
    offered: int
    """Messages that were due."""
    answered: int
    refused: int
    """Answers that were no success."""
    delivered: int
    listening: int
    """Subscribers with a subscription."""
    requests: Quantiles
    """From the intended moment to the answer."""
    deliveries: Quantiles
    """From the intended moment to the arrival at a subscriber."""
    tester_cpu: float
    """Share of one core that the tester used."""
    server_cpu: float | None
    """The same of the server; None when it cannot be seen."""
    server_rss_bytes: int | None


class Scene(ABC):
    """What one kind of scenario does. One per run."""

    @abstractmethod
    async def prepare(self) -> None:
        """Get tokens, connect, subscribe."""

    @abstractmethod
    def send(self, intended_us: int) -> None:
        """One message is due. Must not wait."""

    @abstractmethod
    def answered(self, tag: Any, status: int, body: bytes) -> bool:
        """A request of this scene was answered; status 0: it never will be. Whether it succeeded."""

    def tick(self, at_s: float) -> None:
        """About ten times a second during the load."""
        return

    @abstractmethod
    async def settle(self) -> None:
        """After the load: wait for what is on its way, and settle every track."""


class Run:
    """See the module.

    Args:
        on_second: Told of every second as it ends.
        name: Of this run, in every mark; letters and digits.
        gate: Waited for when all is prepared; gives the monotonic ns at which the load begins. None: soon.
    """

    def __init__(
        self,
        target: Target,
        scenario: Scenario,
        clock: Clock,
        *,
        name: str,
        sources: tuple[str, ...] = (),
        on_second: Callable[[Second], object] | None = None,
        on_phase: Callable[[str], None] | None = None,
        gate: Callable[[], Awaitable[int]] | None = None,
    ) -> None:
        self.target = target
        self.scenario = scenario
        self.clock = clock
        # Apart, so that what is asked for does not depend on when something breaks.
        self.random = _dice(scenario.seed, "what")
        """Draws what is sent."""
        self.chance = _dice(scenario.seed, "whom")
        """Draws whose connection breaks, and when it comes back."""
        self.name = name
        self.marker = Marker(f"{scenario.name}-{name}")
        self.ledger = Ledger(late_us=round(scenario.bounds.late_ms * 1000))
        self.requests = Meter()
        self.deliveries = Meter()
        self.lag = Histogram()
        """How late the tester itself sent, in microseconds after the intended moment."""
        self.seconds: list[Second] = []
        self.asker = Asker(clock, target)
        self.offered = 0
        self.unsent = 0
        """Due while ``max_open`` requests were open already."""
        self.ended_by: str | None = None
        """One sentence when the run did not go to its end."""
        self.notes: list[str] = []
        """What a reader must know to judge the figures."""
        self.pool: Pool
        self.audience: Audience
        self.scene: Scene
        self.kind: type[Subscriber]
        """What its subscribers speak."""
        self.server_pid: int | None = None
        self._sources = sources
        self._on_second = on_second
        self._phase = on_phase or (lambda _: None)
        self._gate = gate
        self._start_ns = 0
        self.failed = 0
        """Requests that were refused or never answered."""
        self._last_answer_s = 0.0
        self._server_usage: Usage | None = None

    # -- for scenes -----------------------------------------------------------

    def now_us(self) -> int:
        return self.clock.monotonic_ns() // 1000

    def post(self, line: int, tag: Any, request: bytes, intended_us: int) -> None:
        """Send a request; what has the same ``line`` keeps its order."""
        connections = self.pool.connections
        connections[line % len(connections)].ask(tag, request, intended_us)

    def phase(self, sentence: str) -> None:
        """Say what is going on."""
        self._phase(sentence)

    async def until(self, is_done: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until it is done, or for so long; whether it was done."""
        deadline_s = self.clock.monotonic_s() + timeout_s
        while not is_done():
            if self.clock.monotonic_s() >= deadline_s:
                return False
            await asyncio.sleep(0.01)
        return True

    async def everyone_listens(self, count: int, timeout_s: float = 60.0) -> None:
        """Wait for ``count`` subscriptions.

        Raises:
            Unavailable: they do not come; says why as far as is known.
        """
        audience = self.audience
        quiet_s, seen = self.clock.monotonic_s(), -1
        deadline_s = quiet_s + timeout_s
        while audience.listening < count:
            now_s = self.clock.monotonic_s()
            if audience.listening != seen:
                seen, quiet_s = audience.listening, now_s
                self.phase(f"connecting: {seen:,} of {count:,}")
            if now_s > deadline_s or now_s - quiet_s > 8 or audience.crowd.limit_met:
                raise Unavailable(self._why_few(count))
            await asyncio.sleep(0.02)

    def _why_few(self, count: int) -> str:
        audience = self.audience
        begun = f"only {audience.listening:,} of {count:,} subscribers got through"
        if audience.crowd.limit_met:
            return f"{begun}: {audience.crowd.limit_met}"
        if audience.failures:
            reason, times = max(audience.failures.items(), key=lambda item: item[1])
            return f"{begun}: {reason} ({times:,} times)"
        return begun

    # -- the run --------------------------------------------------------------

    async def execute(self, scene_of: Callable[[Run], Scene]) -> None:
        """Everything from the first connection on.

        Raises:
            HeartcastError: the load could not begin; nothing was measured.
        """
        target = self.target
        self._start_ns = self.clock.monotonic_ns()
        self.pool = Pool(self.clock, target.host, target.port, target.tls(), self._answered)
        self.kind = KINDS[self.scenario.sessions]
        crowd = Crowd(
            target.host,
            target.port,
            subprotocol=self.kind.subprotocol,
            tls=target.tls(),
            sources=self._sources,
            now_us=self.now_us,
        )
        self.audience = Audience(
            crowd,
            self.ledger,
            self.marker,
            kind=self.kind,
            delivery=self.deliveries,
            random=self.chance,
            start_us=self.now_us(),
        )
        self.server_pid = pid_listening(target.port) if target.is_loopback else None
        try:
            await self.pool.open(self.scenario.load.connections)
            self.scene = scene_of(self)
            await self.scene.prepare()
            await self._load()
        finally:
            self.audience.is_stopping = True
            crowd.close()
            await self.pool.close()

    async def _load(self) -> None:
        load = self.scenario.load
        self._start_ns = await self._gate() if self._gate else self.clock.monotonic_ns() + 100_000_000
        self.audience.start_us = self._start_ns // 1000
        self._last_answer_s = self.clock.monotonic_s()
        is_constant = load.arrivals == "constant"
        arrivals = Arrivals(load.schedule(), None if is_constant else _dice(self.scenario.seed, "when"))
        done = asyncio.Event()
        pacer = Pacer(self.clock, lambda: self._wake(arrivals, pacer, done))
        seconds = asyncio.create_task(self._record())  # noqa: TID251 - awaited below
        try:
            pacer.at(self._next_ns(arrivals))
            await self._watch(done, load.seconds)
            self.phase("load is over: waiting for what is on its way")
            await self.pool.drain(5.0 if self.ended_by is None else 0.2)
            await self.scene.settle()
        except HeartcastError as error:
            self.ended_by = self.ended_by or error.detail
        finally:
            pacer.close()
            seconds.cancel()
            await asyncio.wait([seconds])
            self._turn()

    def _next_ns(self, arrivals: Arrivals) -> int:
        return self._start_ns + int(arrivals.next_s * 1e9)

    def _wake(self, arrivals: Arrivals, pacer: Pacer, done: asyncio.Event) -> None:
        now_ns = self.clock.monotonic_ns()
        max_open = self.scenario.load.max_open
        start_us = self._start_ns // 1000
        lag, send = self.lag.add, self.scene.send
        open_requests = self.pool.open_requests
        for moment_s in arrivals.due((now_ns - self._start_ns) / 1e9, _MOST_AT_ONCE):
            self.offered += 1
            intended_us = start_us + int(moment_s * 1e6)
            if open_requests >= max_open:
                self.unsent += 1
                continue
            open_requests += 1
            lag(max(0, now_ns // 1000 - intended_us))
            send(intended_us)
        self.pool.flush()
        if arrivals.next_s == float("inf") or self.ended_by is not None:
            done.set()
        else:
            pacer.at(self._next_ns(arrivals))

    async def _watch(self, done: asyncio.Event, seconds: float) -> None:
        end_ns = self._start_ns + int(seconds * 1e9)
        while not (done.is_set() and self.clock.monotonic_ns() >= end_ns):
            await asyncio.sleep(0.1)
            now_s = self.clock.monotonic_s()
            self.scene.tick(now_s - self._start_ns / 1e9)
            if self.pool.open_requests and now_s - self._last_answer_s > _SILENT_SERVER_S:
                self.ended_by = (
                    f"the server stopped answering {now_s - self._start_ns / 1e9:.0f} s into the run"
                )
                done.set()
                return

    def _answered(self, tag: Any, status: int, body: bytes, latency_us: int) -> None:
        if status:
            self._last_answer_s = self.clock.monotonic_s()
            self.requests.add(max(0, latency_us))
        if not self.scene.answered(tag, status, body):
            self.failed += 1

    # -- the record -----------------------------------------------------------

    async def _record(self) -> None:
        self._mark_usage()
        while True:
            now_ns = self.clock.monotonic_ns()
            await asyncio.sleep(max(0.0, 1 - (now_ns - self._start_ns) / 1e9 % 1))
            if self.server_pid is None:
                await self._scrape()
            self._turn()

    async def _scrape(self) -> None:
        status, body = await self.asker.ask("GET", "/metrics", timeout_s=2.0)
        self._server_usage = usage_in(body) if status == 200 else None

    def _mark_usage(self) -> None:
        self._since = (
            self.clock.monotonic_ns(),
            time.process_time(),
            self._usage(),
            self.offered,
            self.ledger.delivered,
            self.failed,
        )

    def _usage(self) -> Usage | None:
        return usage_of(self.server_pid) if self.server_pid is not None else self._server_usage

    def _turn(self) -> None:
        """End a second."""
        then_ns, cpu_s, usage, offered, delivered, refused = self._since
        span_s = (self.clock.monotonic_ns() - then_ns) / 1e9
        if span_s < 0.05:
            return
        # The first one begins before the load, and timers may wake a hair early.
        at_s = math.floor((then_ns - self._start_ns) / 1e9 + 0.05)
        is_warm = at_s >= round(self.scenario.load.warmup_s)
        self.requests.is_warm = self.deliveries.is_warm = is_warm
        used_s = time.process_time() - cpu_s
        now_usage = self._usage()
        requests = self.requests.turn()
        second = Second(
            at_s=at_s,
            offered=round((self.offered - offered) / span_s),
            answered=round(requests.count / span_s),
            refused=self.failed - refused,
            delivered=round((self.ledger.delivered - delivered) / span_s),
            listening=self.audience.listening,
            requests=requests,
            deliveries=self.deliveries.turn(),
            tester_cpu=round(used_s / span_s, 3),
            server_cpu=round((now_usage.cpu_s - usage.cpu_s) / span_s, 3) if now_usage and usage else None,
            server_rss_bytes=now_usage.rss_bytes if now_usage else None,
        )
        self._mark_usage()
        self.seconds.append(second)
        if self._on_second is not None:
            self._on_second(second)
