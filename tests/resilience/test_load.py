"""Adaptive limits, shedding and the supervisor."""

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    for utilisation in (0.4, 0.5, 0.75, 1.0, 19.9, 20.0):
        shedder.update(utilisation)
        levels.append(shedder.level)

    assert levels == [3, 2, 1, 0, 0, -1]


@pytest.mark.parametrize(
    ("load", "passing"),
    [(0.99, 300), (1.0, 300), (1.5, 225), (2.0, 150), (2.5, 75), (3.0, 0), (19.0, 0)],
)
def test_a_priority_goes_share_by_share_and_evenly(load: float, passing: int) -> None:
    shedder = Shedder()
    shedder.update(load)
    passed = [not shedder.refuses(Priority.NORMAL) for _ in range(300)]

    assert sum(passed) == passing
    assert {sum(passed[at : at + 20]) for at in range(0, 300, 20)} == {passing // 15}
    assert shedder.shed == [0, 300 - passing, 0, 0]
    assert not shedder.refuses(Priority.CRITICAL)


@given(load=st.floats(0, 100), more=st.floats(0, 100))
def test_more_load_never_lets_more_in_and_never_the_less_important_instead(load: float, more: float) -> None:
    def passing(at: float) -> list[int]:
        shares = []
        for priority in Priority:
            shedder = Shedder()
            shedder.update(at)
            shares.append(sum(not shedder.refuses(priority) for _ in range(50)))
        return shares

    light, heavy = passing(load), passing(load + more)
    assert all(few <= many for few, many in zip(heavy, light, strict=True))
    assert light == sorted(light, reverse=True)


def test_a_late_event_loop_counts_as_full_when_it_is_late_again_and_again() -> None:
    shedder, lag = Shedder(), LoopLag(0.1, now_s=0.0)
    now_s, refusing = 0.0, []
    for late_s in (0.0, 0.15, 0.15, 0.15, 0.0):
        now_s += 0.1 + late_s
        assert lag.tick(now_s) == pytest.approx(late_s)
        shedder.update(0.0, lag.standing_s)
        refusing.append(shedder.refuses(Priority.NORMAL))
        assert not shedder.refuses(Priority.CRITICAL)

    # One late turn is a hiccup, and the first that is not late is the end of it.
    assert refusing == [False, False, False, True, False]
    assert lag.lag_s == pytest.approx(0.15, rel=0.04)
    assert shedder.shed == [0, 1, 0, 0]


def test_how_late_the_next_look_is_can_be_asked_before_it_comes() -> None:
    lag = LoopLag(0.1, now_s=0.0)
    assert (lag.late_s(0.05), lag.late_s(0.1)) == (0.0, 0.0)
    assert lag.late_s(0.3) == pytest.approx(0.2)
    assert lag.standing_s == 0.0


def test_a_load_that_is_no_number_changes_nothing() -> None:
    shedder = Shedder()
    for load in (float("nan"), -1.0):
        with pytest.raises(ValueError, match="must be >= 0"):
            shedder.update(load)
    assert shedder.level == 3
    for wrong in (
        {"best_effort": 0.9},
        {"reserve": 0},
        {"critical": 2.9},
        {"lag_s": 0},
        {"normal": float("nan")},
    ):
        with pytest.raises(ValueError, match=r"must be|critical >="):
            ShedPolicy(**wrong)


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
