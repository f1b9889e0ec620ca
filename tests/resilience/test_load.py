"""Adaptive limits, shedding and the supervisor."""

import asyncio
from random import Random

import pytest

from benchmarks.outages import overload
from heartcast.resilience.adaptive import Aimd, Gradient
from heartcast.resilience.shedding import LoopLag, Priority, Shedder, ShedPolicy
from heartcast.resilience.supervisor import Supervisor, Worker
from heartcast.testing import ManualClock

MS = 1_000_000


def test_at_three_times_the_capacity_shedding_keeps_the_goodput_and_the_critical() -> None:
    without, shed = overload(None), overload(Shedder())

    assert without["goodput"] < 0.1
    assert shed["goodput"] >= 0.85
    assert shed["critical"] >= 0.99


def test_the_least_important_goes_first_and_the_critical_last() -> None:
    shedder = Shedder()
    levels = []
    for utilisation in (0.5, 0.7, 0.85, 1.0, 1.19, 1.2):
        shedder.update(utilisation)
        levels.append(shedder.level)

    assert levels == [3, 2, 1, 0, 0, -1]


def test_a_priority_comes_back_a_little_later_than_it_left() -> None:
    shedder = Shedder()
    levels = []
    for utilisation in (0.7, 0.69, 0.66, 0.64):
        shedder.update(utilisation)
        levels.append(shedder.level)

    assert levels == [2, 2, 2, 3]


def test_a_late_event_loop_counts_as_full() -> None:
    shedder, lag = Shedder(), LoopLag(0.1, now_s=0.0)
    assert lag.tick(0.1) == 0.0
    shedder.update(0.0, lag.tick(0.255))
    assert shedder.refuses(Priority.NORMAL)
    assert not shedder.refuses(Priority.CRITICAL)
    for n in range(1, 20):
        shedder.update(0.0, lag.tick(0.255 + n / 10))
    assert not shedder.refuses(Priority.BEST_EFFORT)
    assert shedder.shed == [0, 1, 0, 0]


def test_a_load_that_is_no_number_changes_nothing() -> None:
    shedder = Shedder()
    for load in (float("nan"), -1.0):
        with pytest.raises(ValueError, match="must be >= 0"):
            shedder.update(load)
    assert shedder.level == 3
    with pytest.raises(ValueError, match="best_effort"):
        ShedPolicy(best_effort=0.9)


def run(limit: Aimd | Gradient, capacity: int, rounds: int = 4000, base_ms: int = 10) -> list[int]:
    """A dependency that works on ``capacity`` calls at a time; more wait behind each other."""
    seen = []
    for _ in range(rounds):
        in_flight = limit.limit
        took_ms = base_ms * max(1.0, in_flight / capacity)
        limit.sample(round(took_ms * MS), in_flight, dropped=in_flight > capacity * 3)
        seen.append(limit.limit)
    return seen


def test_the_gradient_finds_the_capacity_and_does_not_drift_away_from_it() -> None:
    seen = run(Gradient(), capacity=50, rounds=60_000)
    assert min(seen[5000:]) >= 25
    assert sorted(seen[5000:])[len(seen) // 20] >= 45
    assert max(seen[5000:]) <= 100


def test_aimd_stays_below_what_the_dependency_refuses() -> None:
    seen = run(Aimd(), capacity=20, rounds=20_000)
    assert max(seen) <= 61
    assert min(seen[2000:]) >= 50


def test_limits_that_are_not_felt_do_not_grow() -> None:
    aimd, gradient = Aimd(), Gradient()
    for _ in range(5100):
        aimd.sample(MS, 1)
        gradient.sample(MS, 1)
    assert (aimd.limit, gradient.limit) == (20, 20)


def test_an_adaptive_limit_checks_its_bounds() -> None:
    for make in (
        lambda: Aimd(least=0),
        lambda: Aimd(start=300),
        lambda: Gradient(window=1),
        lambda: Gradient(tolerance=0.5),
    ):
        with pytest.raises(ValueError, match="must be"):
            make()


@pytest.mark.looptime
async def test_a_worker_that_raises_fails_alone_is_reported_and_started_again() -> None:
    reports, done = [], []

    async def broken(worker: Worker) -> None:
        if worker.failures < 3:
            raise RuntimeError(f"number {worker.failures}")
        await asyncio.sleep(1000)

    async def steady(worker: Worker) -> None:
        for _ in range(50):
            await asyncio.sleep(1)
            done.append(1)

    async with Supervisor(
        report=lambda worker, error: reports.append((worker.name, str(error))), random=Random(1)
    ) as supervisor:
        bad = supervisor.start("shard-1", broken)
        supervisor.start("shard-2", steady)
        await asyncio.sleep(60)
        assert bad.is_running

    assert reports == [("shard-1", f"number {n}") for n in range(3)]
    assert (bad.failures, bad.restarts, bad.last_error) == (3, 3, "RuntimeError: number 2")
    assert len(done) == 50
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.looptime
async def test_a_cancelled_future_inside_a_worker_does_not_end_it_silently() -> None:
    async def waits_for_a_cancelled_future(worker: Worker) -> None:
        if worker.failures:
            return
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async with Supervisor(random=Random(1)) as supervisor:
        worker = supervisor.start("w", waits_for_a_cancelled_future)
        await asyncio.sleep(5)

    assert (worker.failures, worker.restarts) == (1, 1)
    assert worker.last_error == "CancelledError: "


@pytest.mark.looptime
async def test_a_report_that_raises_does_not_end_the_worker() -> None:
    def report(worker: Worker, error: BaseException) -> None:
        raise RuntimeError("logs are full")

    async def once(worker: Worker) -> None:
        if not worker.failures:
            raise OSError("down")

    async with Supervisor(report=report, random=Random(1)) as supervisor:
        worker = supervisor.start("w", once)
        await asyncio.sleep(5)

    assert worker.restarts == 1
    assert worker.last_error == "OSError: down (and the report of it failed)"


@pytest.mark.looptime
async def test_a_worker_that_stands_still_while_work_waits_is_visible() -> None:
    clock, queue = ManualClock(), []

    async def hang(worker: Worker) -> None:
        await asyncio.Event().wait()

    async with Supervisor(clock=clock) as supervisor:
        worker = supervisor.start("w", hang, waiting=lambda: len(queue))
        clock.advance(100)
        assert supervisor.stalled() == []
        queue.append("work")
        clock.advance(4.9)
        assert supervisor.stalled() == []
        clock.advance(0.1)
        assert supervisor.stalled() == [worker]
        worker.beat()
        assert supervisor.stalled() == []
        with pytest.raises(ValueError, match="already"):
            supervisor.start("w", hang)
