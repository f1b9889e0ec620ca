"""Retry, timeout, hedge, bulkhead and policy: bounded, cancellable at every await, and in the right order."""

import asyncio
import inspect
from itertools import pairwise
from random import Random

import pytest

from benchmarks import outages
from heartcast.core.errors import InvalidInput, StoreUnavailable
from heartcast.resilience.breaker import BreakerPolicy, Circuit, State
from heartcast.resilience.bulkhead import Bulkhead
from heartcast.resilience.errors import BulkheadFull, CircuitOpen, DeadlineExceeded, LimitExceeded
from heartcast.resilience.hedge import Hedge
from heartcast.resilience.limits import Limit, Throttle, TokenBucket
from heartcast.resilience.policy import Policy
from heartcast.resilience.retry import Backoff, Recovery, Retry, RetryBudget
from heartcast.resilience.timeout import AdaptiveTimeout, TimeoutPolicy, deadline
from heartcast.testing import ManualClock

pytestmark = pytest.mark.looptime
SECOND = 1_000_000_000


class LoopClock:
    """The loop's own time, which looptime moves."""

    @staticmethod
    def monotonic_s() -> float:
        return asyncio.get_running_loop().time()

    @staticmethod
    def monotonic_ns() -> int:
        return round(asyncio.get_running_loop().time() * 1e9)

    @staticmethod
    def wall_ms() -> int:
        return 0


class Flaky:
    """Fails the first so many calls."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.calls, self._failures, self._error = 0, failures, error or OSError("down")

    async def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error
        return self.calls


def retry(**options: object) -> Retry:
    return Retry(clock=LoopClock(), random=Random(1), **options)


async def test_a_retry_returns_what_the_last_attempt_returned_and_raises_its_last_error() -> None:
    assert await retry().call(Flaky(2)) == 3
    flaky = Flaky(99)
    with pytest.raises(OSError, match="down"):
        await retry().call(flaky)
    assert flaky.calls == 3


async def test_there_is_no_wait_after_the_last_attempt() -> None:
    waits = Random(1)
    expected = waits.uniform(0, 0.05) + waits.uniform(0, 0.1)
    with pytest.raises(OSError, match="down"):
        await retry().call(Flaky(99))

    assert asyncio.get_running_loop().time() == pytest.approx(expected, abs=1e-3)


async def test_errors_that_cannot_pass_and_our_own_refusals_are_not_retried() -> None:
    for error in (
        InvalidInput("no"),
        CircuitOpen("later"),
        BulkheadFull("full"),
        LimitExceeded("slow down"),
        ValueError(),
    ):
        flaky = Flaky(99, error)
        with pytest.raises(type(error)):
            await retry().call(flaky)
        assert flaky.calls == 1


async def test_retry_after_is_a_floor_under_the_wait_and_the_deadline_its_ceiling() -> None:
    await retry().call(Flaky(1, StoreUnavailable("busy", retry_after_s=3)))
    assert 3 <= asyncio.get_running_loop().time() <= 3.1
    flaky = Flaky(1, StoreUnavailable("busy", retry_after_s=3))
    with deadline(2.0, LoopClock()), pytest.raises(StoreUnavailable):
        await retry().call(flaky)
    assert flaky.calls == 1


def test_the_budget_keeps_the_amplification_of_a_dead_dependency_within_a_tenth() -> None:
    assert 1.05 < outages.amplification() <= 1.1


def test_full_jitter_spreads_waits_over_the_whole_range() -> None:
    dice, backoff = Random(2), Backoff(first_s=1.0, max_s=8.0)
    waits = [backoff.wait_s(4, dice) for _ in range(1000)]

    assert min(waits) < 0.1
    assert max(waits) > 7.9
    assert all(0 <= wait <= 8 for wait in waits)


def test_every_fifth_failure_goes_again_at_once_and_a_success_makes_waits_short_for_all() -> None:
    recovery = Recovery(Backoff(first_s=0.1, max_s=10.0), probe_every=5, random=Random(3))
    waits = [recovery.failed() for _ in range(20)]
    assert [n for n, wait in enumerate(waits, 1) if wait == 0.0] == [5, 10, 15, 20]
    assert max(waits) > 1
    recovery.succeeded()
    assert recovery.failed() <= 0.1
    assert [recovery.failed(retry_after_s=2.0) >= 2 for _ in range(8)] == [True] * 8


async def test_callers_in_an_outage_share_the_waiting() -> None:
    recovery = Recovery(probe_every=5, random=Random(1))
    for _ in range(4):
        with pytest.raises(OSError, match="down"):
            await retry(recovery=recovery, backoff=Backoff(attempts=1)).call(Flaky(9))
    assert recovery.failures == 4
    assert await retry(recovery=recovery).call(Flaky(1)) == 2
    assert (recovery.probes, recovery.failures) == (1, 0)


def test_a_sync_function_stays_sync_and_an_async_one_async() -> None:
    @Retry(Backoff(first_s=1e-9, max_s=1e-9), random=Random(1))
    def twice(start: int) -> int:
        attempts.append(start)
        if len(attempts) < 2:
            raise OSError("down")
        return start

    @Retry()
    async def once() -> int:
        return 1

    attempts: list[int] = []
    assert twice(7) == 7
    assert attempts == [7, 7]
    assert inspect.iscoroutinefunction(once)
    assert twice.__name__ == "twice"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Backoff(attempts=0),
        lambda: Backoff(first_s=0),
        lambda: Backoff(first_s=3.0),
        lambda: Backoff(first_s=float("nan")),
        lambda: RetryBudget(percent=-1),
        lambda: Recovery(probe_every=1, random=Random(1)),
        lambda: TimeoutPolicy(start_s=3.0),
        lambda: TimeoutPolicy(step=1.0),
        lambda: TimeoutPolicy(factor=0.5),
        lambda: Hedge(0.0),
        lambda: Bulkhead(0),
        lambda: Bulkhead(1, queue=-1),
        lambda: Policy(deadline_s=float("nan")),
        lambda: Policy(timeout=2.0, deadline_s=1.0),
        lambda: Policy(retry=Retry(), hedge=Hedge(1.0)),
        lambda: Policy(hedge=Hedge(1.0), timeout=1.0),
    ],
    ids=map(str, range(16)),
)
def test_settings_that_contradict_themselves_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match=r"must|not together|outlive|timed out already"):
        make()


def test_the_timeout_follows_the_p99_by_steps_and_within_its_bounds() -> None:
    timeout, now = AdaptiveTimeout(now_ns=0), 0
    seen = [timeout.timeout_s]
    for _ in range(40):
        for _ in range(500):
            now += 10 * SECOND // 500
            timeout.record(200_000_000, now)
        seen.append(timeout.timeout_s)

    assert seen[-1] == pytest.approx(0.3, rel=0.04)
    assert all(after >= before * 0.8 - 1e-9 for before, after in pairwise(seen))


def test_the_timeout_does_not_ratchet_down_when_calls_start_to_time_out() -> None:
    timeout, now = AdaptiveTimeout(TimeoutPolicy(start_s=0.3), now_ns=0), 0
    for _ in range(30):
        for n in range(2000):
            now += 10 * SECOND // 2000
            slow = n % 20 == 0
            timeout.record(300_000_000 if slow else 100_000_000, now, timed_out=slow)

    assert timeout.timeout_s == 0.3


async def answer(after_s: float, value: str, log: list[str] | None = None) -> str:
    try:
        await asyncio.sleep(after_s)
    except asyncio.CancelledError:
        if log is not None:
            log.append(f"{value} cancelled")
        raise
    return value


async def test_a_late_answer_is_overtaken_by_a_second_call_and_the_loser_is_gone() -> None:
    log: list[str] = []
    delays = iter([(10.0, "first"), (0.1, "second")])
    hedge = Hedge(1.0, clock=LoopClock())

    assert await hedge.call(lambda: answer(*next(delays), log)) == "second"
    assert asyncio.get_running_loop().time() == pytest.approx(1.1)
    assert (log, hedge.started, hedge.won) == (["first cancelled"], 1, 1)
    assert len(asyncio.all_tasks()) == 1


async def test_a_quick_answer_makes_no_second_call_and_a_spent_budget_leaves_the_first_alone() -> None:
    hedge = Hedge(1.0, budget=RetryBudget(percent=0, floor_per_s=0), clock=LoopClock())
    assert await hedge.call(lambda: answer(0.5, "quick")) == "quick"
    assert await hedge.call(lambda: answer(5.0, "slow")) == "slow"
    assert hedge.started == 0


async def test_a_hedge_raises_when_both_fail_and_cancels_both_when_it_is_cancelled() -> None:
    hedge, log = Hedge(1.0, clock=LoopClock()), []

    async def fail() -> None:
        await asyncio.sleep(2)
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        await hedge.call(fail)
    task = asyncio.ensure_future(hedge.call(lambda: answer(9.0, "x", log)))
    await asyncio.sleep(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["x cancelled"] * 2


async def test_a_bulkhead_serves_in_order_and_turns_away_beyond_queue_and_time() -> None:
    bulkhead, order = Bulkhead(1, queue=2, wait_s=5.0), []

    async def visit(name: str) -> None:
        async with bulkhead:
            order.append(name)
            await asyncio.sleep(1)

    tasks = [asyncio.ensure_future(visit(name)) for name in "abc"]
    await asyncio.sleep(0)
    with pytest.raises(BulkheadFull, match="1 calls are under way"):
        await visit("d")
    await asyncio.gather(*tasks)

    assert order == ["a", "b", "c"]
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)
    assert bulkhead.try_enter()
    with pytest.raises(BulkheadFull, match="no place within"):
        await visit("late")
    assert bulkhead.waiting == 0


@pytest.mark.parametrize("turns", range(8))
async def test_cancelling_at_any_await_gives_every_place_and_permit_back(turns: int) -> None:
    clock = LoopClock()
    bulkhead, circuit = Bulkhead(1, queue=3), Circuit("x", clock=clock)
    policy = Policy(
        bulkhead=bulkhead, circuit=circuit, timeout=3.0, deadline_s=4.0, retry=retry(), clock=clock
    )

    async def work() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(policy.call(work)) for _ in range(3)]
    for _ in range(turns):
        await asyncio.sleep(0)
    tasks[1].cancel()
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert (bulkhead.in_flight, bulkhead.waiting, circuit.breaker.in_flight) == (0, 0, 0)
    assert not tasks[2].cancelled()
    assert bulkhead.try_enter()


async def test_a_policy_retries_inside_the_deadline_and_the_breaker_sees_every_attempt() -> None:
    clock = LoopClock()
    circuit = Circuit("x", BreakerPolicy(min_calls=3), clock=clock)
    policy = Policy(retry=retry(), circuit=circuit, clock=clock)
    with pytest.raises(OSError, match="down"):
        await policy.call(Flaky(99))

    assert circuit.breaker.state is State.OPEN
    flaky = Flaky(0)
    with pytest.raises(CircuitOpen):
        await policy.call(flaky)
    assert flaky.calls == 0


async def test_a_timeout_is_a_failure_of_the_dependency_and_a_deadline_ends_the_whole() -> None:
    clock = LoopClock()
    circuit = Circuit("x", BreakerPolicy(min_calls=1, slow_s=9.0), clock=clock)
    with pytest.raises(TimeoutError):
        await Policy(timeout=1.0, circuit=circuit, clock=clock).call(answer, 5.0, "late")
    assert (asyncio.get_running_loop().time(), circuit.breaker.failures) == (1.0, 1)
    with pytest.raises(DeadlineExceeded, match="within 2"):
        await Policy(timeout=1.5, deadline_s=2.0, retry=retry(), clock=clock).call(answer, 5.0, "late")
    assert asyncio.get_running_loop().time() == pytest.approx(3.0)
    assert asyncio.current_task().cancelling() == 0


async def test_a_policys_timeout_does_not_swallow_a_cancellation_from_outside() -> None:
    task = asyncio.ensure_future(Policy(timeout=1.0).call(answer, 5.0, "late"))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_many_calls_of_one_policy_time_out_each_at_its_own_time() -> None:
    policy, ended = Policy(timeout=1.0), []

    async def one(start_s: float, takes_s: float) -> None:
        await asyncio.sleep(start_s)
        try:
            await policy.call(answer, takes_s, "")
        except TimeoutError:
            ended.append((start_s, round(asyncio.get_running_loop().time() - start_s, 6)))

    await asyncio.gather(*[one(n / 10, 0.95 if n % 2 else 2.0) for n in range(20)])
    assert ended == [(n / 10, 1.0) for n in range(0, 20, 2)]


async def test_a_fallback_answers_when_all_else_failed_but_not_for_a_cancellation() -> None:
    bucket = TokenBucket(Limit.parse("1/h burst 1"))
    policy = Policy(limit=bucket, fallback=lambda error: type(error).__name__, clock=ManualClock())

    assert await policy.call(answer, 0.0, "fresh") == "fresh"
    assert await policy.call(answer, 0.0, "fresh") == "LimitExceeded"

    @policy
    async def decorated(value: str) -> str:
        return value

    assert await decorated("x") == "LimitExceeded"


async def test_a_throttle_serves_in_order_refuses_at_once_and_takes_back_what_was_cancelled() -> None:
    throttle, order = Throttle("10/s burst 1", wait_s=0.35, clock=LoopClock()), []

    async def visit(name: str) -> None:
        async with throttle:
            order.append((name, round(asyncio.get_running_loop().time(), 3)))

    tasks = [asyncio.ensure_future(visit(name)) for name in "abcd"]
    await asyncio.sleep(0)
    with pytest.raises(LimitExceeded) as refused:
        await visit("e")
    assert refused.value.retry_after_s == 1
    tasks[3].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await visit("f")

    assert order == [("a", 0.0), ("b", 0.1), ("c", 0.2), ("f", 0.3)]


async def test_a_throttled_function_keeps_its_name_and_answer() -> None:
    @Throttle("1/s burst 2", wait_s=0.0, clock=LoopClock())
    async def ask(value: int) -> int:
        return value

    assert (ask.__name__, await ask(1), await ask(2)) == ("ask", 1, 2)
    with pytest.raises(LimitExceeded):
        await ask(3)
