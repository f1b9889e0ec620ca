"""The breaker: when it opens, what it lets through, and that nothing wedges or misleads it."""

import asyncio
import inspect
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from benchmarks import outages
from heartcast.core.errors import InvalidInput, Overloaded, StoreUnavailable
from heartcast.resilience.breaker import (
    Breaker,
    BreakerPolicy,
    Circuit,
    GatePolicy,
    Outcome,
    Registry,
    SloGate,
    State,
    classify,
)
from heartcast.resilience.errors import CircuitOpen
from heartcast.testing import ManualClock

MS = 1_000_000
SECOND = 1000 * MS


def breaker(**fields: object) -> Breaker:
    return Breaker("dependency", BreakerPolicy(jitter=0.0, **fields), random=Random(1))


def calls(target: Breaker, good: int, bad: int, now: int, took: int = 0) -> None:
    for n in range(good + bad):
        permit = target.enter(now)
        (target.ok if n < good else target.fail)(permit, now + took)


def opened(**fields: object) -> Breaker:
    target = breaker(**fields)
    calls(target, 0, 20, 0)
    assert target.state is State.OPEN
    return target


def test_it_opens_at_the_failure_rate_and_not_before_enough_calls() -> None:
    target = breaker(min_calls=20)
    calls(target, 10, 9, 0)
    assert target.state is State.CLOSED
    calls(target, 0, 1, 0)

    assert target.state is State.OPEN
    assert target.enter(0) == -5 * SECOND
    assert target.enter(4 * SECOND) == -SECOND


def test_a_good_call_can_complete_the_minimum_of_a_verdict() -> None:
    target = breaker(min_calls=4)
    calls(target, 0, 2, 0)
    calls(target, 2, 0, 0)

    assert target.state is State.OPEN


def test_p95_above_t_is_exactly_more_than_five_percent_slower_than_t() -> None:
    target = breaker(slow_s=0.8, slow_rate=0.05, min_calls=100)
    calls(target, 95, 0, 0, took=800 * MS)
    calls(target, 5, 0, 0, took=801 * MS)
    assert target.state is State.CLOSED
    calls(target, 1, 0, 0, took=801 * MS)

    assert target.state is State.OPEN


def test_a_time_window_forgets_and_a_count_window_keeps_the_last_calls() -> None:
    by_time, by_count = breaker(min_calls=20), breaker(window="count", window_size=20, min_calls=20)
    calls(by_time, 0, 19, 0)
    calls(by_count, 0, 19, 0)
    calls(by_time, 0, 1, 11 * SECOND)
    calls(by_count, 30, 0, 11 * SECOND)

    assert by_time.state is State.CLOSED
    assert by_time.window.calls == 1
    assert by_count.state is State.OPEN


@pytest.mark.parametrize("trip", ["any", "all"])
def test_any_of_opens_on_a_dependency_that_fails_fast_and_all_of_as_the_article_has_it_does_not(
    trip: str,
) -> None:
    target = breaker(trip=trip, min_calls=20, slow_s=0.8, slow_rate=0.05)
    calls(target, 0, 100, 0, took=2 * MS)

    assert (target.state is State.OPEN) == (trip == "any")


def test_a_hundred_failing_requests_a_second_open_it_within_three_tenths() -> None:
    assert outages.failing_seen_s() <= 0.3


def test_calls_that_hang_open_it_while_they_hang() -> None:
    assert 0 < outages.hang_seen_s(slow_s=1.0) <= 0.3


def test_breaks_grow_to_the_cap_and_vary_by_the_jitter() -> None:
    target = Breaker("x", BreakerPolicy(), random=Random(4))
    calls(target, 0, 20, 0)
    now, breaks = 0, []
    for _ in range(6):
        wait = -target.enter(now)
        breaks.append(wait / SECOND)
        now += wait
        calls(target, 0, 2, now)
        assert target.state is State.OPEN

    for wait_s, middle in zip(breaks, [5, 10, 20, 40, 60, 60], strict=True):
        assert middle * 0.8 <= wait_s <= middle * 1.2
    assert (
        len(
            {
                round(wait_s / middle, 3)
                for wait_s, middle in zip(breaks, [5, 10, 20, 40, 60, 60], strict=True)
            }
        )
        > 3
    )


def test_less_than_one_percent_of_normal_load_reaches_a_dead_dependency() -> None:
    assert outages.share_of_load_on_the_dead() <= 0.01


def test_enough_good_probes_close_it_without_waiting_for_the_last() -> None:
    target = opened()
    calls(target, 4, 0, 5 * SECOND)

    assert target.state is State.CLOSED
    assert target.window.calls == 0


def test_a_cancelled_probe_gives_its_place_back() -> None:
    target, now = opened(), 5 * SECOND
    for _ in range(50):
        target.ignore(target.enter(now), now)
    calls(target, 4, 0, now)

    assert target.state is State.CLOSED


def test_a_cancelled_call_that_was_already_slow_counts_as_slow() -> None:
    target = breaker(min_calls=5, slow_s=0.5)
    permits = [target.enter(0) for _ in range(5)]
    for permit in permits:
        target.ignore(permit, 501 * MS)

    assert target.state is State.OPEN


def test_operators_can_force_disable_and_only_measure() -> None:
    target = breaker()
    target.force(State.FORCED_OPEN, 0)
    assert target.enter(10**6 * SECOND) < 0
    target.force(State.METRICS_ONLY, 0)
    calls(target, 0, 100, 0)
    assert (target.state, target.window.failures) == (State.METRICS_ONLY, 100)
    target.force(State.DISABLED, 0)
    calls(target, 0, 100, 0)
    assert target.window.failures == 100
    target.force(State.CLOSED, 0)
    calls(target, 1, 0, 0)
    assert target.window.calls == 1


def test_a_listener_that_raises_takes_the_news_from_nobody() -> None:
    heard, target = [], breaker()

    def broken(change: object) -> None:
        raise RuntimeError("listener")

    target.on_change(broken)
    target.on_change(heard.append)
    calls(target, 0, 20, 7)

    assert [(change.before, change.after, change.at_ns) for change in heard] == [
        (State.CLOSED, State.OPEN, 7)
    ]
    assert target.failed == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"failure_rate": 0.0}, "failure_rate"),
        ({"failure_rate": float("nan")}, "failure_rate"),
        ({"slow_s": -1.0}, "slow_s"),
        ({"slow_s": float("inf")}, "slow_s"),
        ({"slow_rate": 1.5}, "slow_rate"),
        ({"window": "count", "window_size": 10, "min_calls": 20}, "min_calls"),
        ({"open_s": 90.0}, "max_open_s"),
        ({"jitter": 1.0}, "jitter"),
        ({"probes": 2, "probes_needed": 3}, "probes_at_once|probes_needed"),
        ({"lease_s": 0.5}, "lease_s"),
    ],
)
def test_a_policy_that_contradicts_itself_names_the_field(fields: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=f"^({field}): must be"):
        BreakerPolicy(**fields)


class AgainstAModel(RuleBasedStateMachine):
    """The promises that hold whatever happens, checked against plain lists."""

    def __init__(self) -> None:
        super().__init__()
        policy = BreakerPolicy(
            min_calls=3, window_size=4, slow_s=1.0, open_s=2.0, jitter=0.0, probes=3, probes_needed=2
        )
        self.breaker = Breaker("x", policy, random=Random(1))
        self.now = 0
        self.held: list[tuple[int, int, State]] = []
        self.probes_since: list[int] = []
        self.breaker.on_change(self.note)
        self.allowed: set[tuple[State, State]] = {
            (State.CLOSED, State.OPEN),
            (State.OPEN, State.HALF_OPEN),
            (State.HALF_OPEN, State.OPEN),
            (State.HALF_OPEN, State.CLOSED),
        }
        self.changes: list[tuple[State, State]] = []

    def note(self, change: object) -> None:
        self.changes.append((change.before, change.after))
        self.probes_since = []

    @rule(ms=st.integers(0, 3000))
    def pass_time(self, ms: int) -> None:
        self.now += ms * MS

    @rule()
    def enter(self) -> None:
        permit = self.breaker.enter(self.now)
        if permit > 0:
            assert self.breaker.state in (State.CLOSED, State.HALF_OPEN)
            self.held.append((permit, self.now, self.breaker.state))
            if self.breaker.state is State.HALF_OPEN:
                self.probes_since.append(permit)
        else:
            assert permit < 0
            assert self.breaker.state in (State.OPEN, State.HALF_OPEN)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), how=st.sampled_from(["ok", "fail", "ignore"]))
    def leave(self, data: st.DataObject, how: str) -> None:
        permit, _, _ = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        if how == "ignore" and permit in self.probes_since:
            self.probes_since.remove(permit)
        getattr(self.breaker, how)(permit, self.now)
        getattr(self.breaker, how)(permit, self.now)  # twice is once

    @invariant()
    def only_known_ways_are_taken(self) -> None:
        assert set(self.changes) <= self.allowed

    @invariant()
    def no_more_probes_than_the_policy_lets_pass(self) -> None:
        assert len(self.probes_since) <= 3

    @invariant()
    def what_is_held_is_what_is_in_flight(self) -> None:
        assert self.breaker.in_flight == len(self.held)

    @invariant()
    def never_wedged(self) -> None:
        if self.breaker.state is State.HALF_OPEN and not self.held:
            probe = self.breaker.enter(self.now)
            assert probe > 0
            self.breaker.ignore(probe, self.now)

    @invariant()
    def a_verdict_was_due_when_it_opened(self) -> None:
        window = self.breaker.window
        assert window.calls >= 0
        assert 0 <= window.slow <= window.calls
        if self.breaker.state is State.CLOSED and window.calls >= 3:
            assert window.failures * 2 < window.calls
            assert window.slow * 2 <= window.calls


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


async def test_a_circuit_guards_blocks_and_functions_and_keeps_their_kind() -> None:
    clock = ManualClock()
    circuit = Circuit("db", BreakerPolicy(min_calls=3), clock=clock)

    @circuit
    async def read(key: str) -> str:
        return key

    @circuit
    def broken() -> int:
        raise OSError("down")

    assert inspect.iscoroutinefunction(read)
    assert await read("a") == "a"
    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            broken()
    with pytest.raises(CircuitOpen) as refused:
        await read("a")

    assert refused.value.retry_after_s in range(4, 7)
    assert refused.value.retryable


async def test_cancelling_a_guarded_call_says_nothing_about_the_dependency() -> None:
    circuit = Circuit("db", BreakerPolicy(min_calls=1), clock=ManualClock())

    async def hang() -> None:
        async with circuit.guard():
            await asyncio.Event().wait()

    task = asyncio.ensure_future(hang())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (circuit.breaker.ignored, circuit.breaker.in_flight, circuit.breaker.state) == (1, 0, State.CLOSED)


def test_errors_of_the_caller_and_backpressure_are_no_failures_of_the_dependency() -> None:
    assert classify(InvalidInput("no")) is Outcome.OK
    assert classify(Overloaded("later")) is Outcome.IGNORE
    assert classify(CircuitOpen("later")) is Outcome.IGNORE
    assert classify(StoreUnavailable("down")) is Outcome.FAIL
    assert classify(TimeoutError()) is Outcome.FAIL
    assert classify(asyncio.CancelledError()) is Outcome.IGNORE


def test_a_registry_makes_room_only_by_dropping_breakers_that_know_nothing() -> None:
    registry = Registry({"db": BreakerPolicy(min_calls=1)}, random=Random(1), max_partitions=2)
    bad = registry.get("db", "a", now_ns=0)
    calls(bad, 0, 1, 0)
    registry.get("db", "b", now_ns=0)
    third = registry.get("db", "c", now_ns=0)

    assert registry.get("db", "a", now_ns=0) is bad
    assert len(registry) == 2
    calls(third, 1, 0, 0)
    assert (
        registry.get("db", "d", now_ns=0) is registry.get("db", "e", now_ns=0) is registry.get("db", now_ns=0)
    )


def test_the_gate_stays_tripped_for_as_long_as_the_outage_lasts() -> None:
    gate = SloGate()
    for _ in range(60):
        assert not gate.observe(999, 1000)
    assert [gate.observe(0, 1000) for _ in range(200)] == [False] + [True] * 199
    assert [gate.observe(999, 1000) for _ in range(3)] == [True, False, False]


def test_the_gate_is_not_moved_by_few_calls_or_ordinary_noise() -> None:
    gate, dice = SloGate(), Random(3)
    for _ in range(2000):
        good = sum(dice.uniform(0, 1) < 0.99 for _ in range(200))
        assert not gate.observe(good, 200)
    assert not gate.observe(0, 3)
    assert not gate.observe(0, 3)


def test_a_gate_refuses_counts_that_are_none() -> None:
    with pytest.raises(ValueError, match="good: must be in"):
        SloGate().observe(5, 4)
    with pytest.raises(ValueError, match="min_calls: must be"):
        GatePolicy(min_calls=0)
