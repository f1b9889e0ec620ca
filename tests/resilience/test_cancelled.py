"""A caller that goes away in the middle, at every await there is: nothing is held, lost or wedged."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from itertools import count
from random import Random
from time import monotonic_ns
from typing import Any

import pytest

from heartcast.backends.redis import RedisLink
from heartcast.resilience import (
    AdaptiveTimeout,
    Backoff,
    Bulkhead,
    Circuit,
    Hedge,
    Limit,
    Policy,
    Registry,
    Retry,
    State,
    Supervisor,
    Throttle,
    TokenBucket,
)
from heartcast.resilience.breaker.shared import BreakerBoard
from heartcast.resilience.limits.shared import Leases, SharedLimiter

Scenario = tuple[Awaitable[object], Callable[[], Awaitable[None]]]


class CancelledAt:
    """Awaits something and cancels the task at its n-th suspension, whatever it waits for there."""

    def __init__(self, inner: Awaitable[object], suspension: int) -> None:
        self._inner = inner
        self._left = suspension
        self.was_reached = False

    def __await__(self) -> Generator[Any, Any, object]:
        steps = self._inner.__await__()
        sent: Any = None
        while True:
            try:
                waits_for = steps.send(sent)
            except StopIteration as end:
                return end.value
            if self._left == 0:
                self.was_reached = True
                task = asyncio.current_task()
                assert task is not None
                # While the task runs: it is cancelled as soon as it waits, which is now.
                task.cancel()
            self._left -= 1
            try:
                sent = yield waits_for
            except BaseException as error:
                try:
                    waits_for = steps.throw(error)
                except StopIteration as end:
                    return end.value
                sent = yield waits_for


async def at_every_await(scenario: Callable[[], Scenario]) -> int:
    """Run it to its end, cancelled at the first await, at the second, …; how many there were."""
    for suspension in count():
        call, check = scenario()
        cancelled = CancelledAt(call, suspension)
        task = asyncio.ensure_future(_awaited(cancelled))
        async with asyncio.timeout(10):
            [result] = await asyncio.gather(task, return_exceptions=True)
        assert not isinstance(result, Exception), f"at await {suspension}: {result!r}"
        await check()
        if not cancelled.was_reached:
            assert not isinstance(result, BaseException)
            return suspension
        assert isinstance(result, asyncio.CancelledError), f"swallowed at await {suspension}"
    raise AssertionError


async def _awaited(call: Awaitable[object]) -> object:
    return await call


async def work() -> int:
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    return 7


async def test_waiting_for_a_turn() -> None:
    def scenario() -> Scenario:
        throttle = Throttle("1000/s burst 1", wait_s=1.0)

        async def call() -> None:
            await throttle.acquire()
            await throttle.acquire()

        async def check() -> None:
            assert throttle.waiting == 0
            # Of the two turns taken one at most is not over yet: a turn waited for in vain came back.
            assert throttle.bucket.wait_ns(monotonic_ns()) <= 1_000_000

        return call(), check

    assert await at_every_await(scenario) >= 1


async def test_waiting_for_a_place_in_a_bulkhead() -> None:
    def scenario() -> Scenario:
        bulkhead = Bulkhead(1, queue=3)
        assert bulkhead.try_enter()
        asyncio.get_running_loop().call_later(0.002, bulkhead.leave)

        async def call() -> None:
            async with bulkhead:
                await work()

        async def check() -> None:
            assert bulkhead.waiting == 0
            await asyncio.sleep(0.003)
            assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)
            assert bulkhead.try_enter()

        return call(), check

    assert await at_every_await(scenario) >= 3


@pytest.mark.parametrize("layer", ["retry", "hedge"])
async def test_a_call_through_all_layers(layer: str) -> None:
    def scenario() -> Scenario:
        bulkhead, circuit = Bulkhead(2), Circuit("x")
        retry = Retry(Backoff(first_s=0.001, max_s=0.001)) if layer == "retry" else None
        policy = Policy(
            deadline_s=5.0,
            retry=retry,
            hedge=Hedge(0.0005) if layer == "hedge" else None,
            limit=TokenBucket(Limit.parse("1000/s")),
            circuit=circuit,
            bulkhead=bulkhead,
            timeout=AdaptiveTimeout(now_ns=0),
        )
        failures = iter([OSError("down")] if layer == "retry" else [])

        async def call() -> int:
            result = await work()
            if (error := next(failures, None)) is not None:
                raise error
            return result

        async def check() -> None:
            assert (bulkhead.in_flight, bulkhead.waiting, circuit.breaker.in_flight) == (0, 0, 0)
            assert circuit.breaker.state is State.CLOSED
            assert len(asyncio.all_tasks()) == 1, "what was started goes with its caller"
            assert await policy.call(work) == 7

        return policy.call(call), check

    assert await at_every_await(scenario) >= 2


async def test_a_guarded_block_and_a_probe() -> None:
    def scenario() -> Scenario:
        circuit = Circuit("x")
        now_ns = round(asyncio.get_running_loop().time() * 1e9)
        circuit.breaker.force(State.HALF_OPEN, now_ns)

        async def call() -> None:
            async with circuit.guard():
                await work()

        async def check() -> None:
            assert circuit.breaker.in_flight == 0
            # Every place for a probe is free again, or its answer was counted.
            for _ in range(4):
                async with circuit.guard():
                    pass
            assert circuit.breaker.state is State.CLOSED

        return call(), check

    assert await at_every_await(scenario) == 2


async def test_leaving_a_supervisor() -> None:
    def scenario() -> Scenario:
        supervisor = Supervisor(backoff=Backoff(first_s=0.001, max_s=0.001))
        ran = []

        async def run(worker: object) -> None:
            ran.append(worker)
            await work()
            raise OSError("down")

        async def call() -> None:
            async with supervisor:
                supervisor.start("one", run)
                await work()

        async def check() -> None:
            assert not any(worker.is_running for worker in supervisor.workers.values())
            assert len(asyncio.all_tasks()) == 1

        return call(), check

    assert await at_every_await(scenario) >= 3


@pytest.mark.parametrize("method", ["admit", "decide", "peek", "refund"])
async def test_a_shared_decision(link: RedisLink, method: str) -> None:
    limiter = SharedLimiter(link, "t", "1000/h", "9/s burst 1000", max_denied=0)

    def scenario() -> Scenario:
        async def check() -> None:
            assert limiter.breaker.in_flight == 0
            assert await limiter.admit("another") == 0

        return getattr(limiter, method)("u"), check

    assert await at_every_await(scenario) >= 1
    assert limiter.breaker.state is State.CLOSED
    # Cancelled in flight it may have been counted all the same; never more than once each.
    assert 900 <= (await limiter.peek("u")).remaining <= 1000


async def test_a_lease_taken_and_given_back(link: RedisLink) -> None:
    limiter = SharedLimiter(link, "t", "100000/h", max_denied=0)

    def scenario() -> Scenario:
        leases = Leases(limiter)

        async def call() -> None:
            for _ in range(3):
                assert await leases.admit("u") == 0
            await leases.close()

        async def check() -> None:
            assert limiter.breaker.in_flight == 0
            assert await leases.admit("u") == 0

        return call(), check

    assert await at_every_await(scenario) >= 2


async def test_what_operators_tell_all_nodes(link: RedisLink) -> None:
    registry = Registry(random=Random(1))
    registry.get("db", now_ns=0)
    board = BreakerBoard(link, registry)

    def scenario() -> Scenario:
        async def call() -> None:
            await board.override("db", State.FORCED_OPEN)
            await board.sync()
            await board.override("db", None)
            await board.sync()

        async def check() -> None:
            await board.override("db", None)
            await board.sync()
            assert registry.get("db", now_ns=0).state is State.CLOSED

        return call(), check

    assert await at_every_await(scenario) >= 4
