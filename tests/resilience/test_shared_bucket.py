"""Limits of all processes without awaiting: exact on a real server, and the policy without one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from heartcast.backends.redis import RedisLink
from heartcast.backends.redis_pipe import RedisPipe
from heartcast.core.clock import SystemClock
from heartcast.resilience.breaker import Breaker, State
from heartcast.resilience.limits import Limit
from heartcast.resilience.limits.limit import SECOND_NS
from heartcast.resilience.limits.rules import BucketRule
from heartcast.resilience.limits.shared import REDIS_BREAKER, key_name
from heartcast.resilience.limits.shared_bucket import LATER, UNKNOWN, SharedBucket, script_of
from heartcast.testing.fault_proxy import FaultProxy
from heartcast.testing.redis_server import RedisServer

now_ns = SystemClock.monotonic_ns


@asynccontextmanager
async def opened(url: str, limit: str, **options: object) -> AsyncIterator[SharedBucket]:
    parsed = Limit.parse(limit)
    pipe = RedisPipe(url, timeout_s=options.pop("timeout_s", 5.0), scripts=[script_of(parsed)])
    breaker = Breaker("limits", REDIS_BREAKER, random=Random(1), now_ns=now_ns())
    bucket = SharedBucket(pipe.send, breaker, "t", parsed, now_ns=now_ns, **options)
    try:
        yield bucket
    finally:
        bucket.close()
        await pipe.close()


async def admit(bucket: SharedBucket, key: str, cost: int = 1) -> int:
    """Take it, or ask and wait, as the port does."""
    wait_ns = bucket.take(key, now_ns(), cost)
    if wait_ns != LATER:
        return wait_ns
    judged: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    bucket.ask(key, now_ns(), cost, judged.set_result)
    return await judged


async def test_processes_that_share_a_server_admit_exactly_the_limit(
    server: RedisServer, link: RedisLink
) -> None:
    async with opened(server.url, "500/day") as one, opened(server.url, "500/day") as other:
        waits = await asyncio.gather(*[admit(bucket, "u") for _ in range(600) for bucket in (one, other)])

    # A lease is left over on one side at most, and never is more than the limit admitted.
    assert sum(not wait for wait in waits) == 500
    assert all(wait > 0 for wait in waits if wait)


async def test_callers_of_one_key_wait_in_order_behind_one_question(
    server: RedisServer, link: RedisLink
) -> None:
    async with opened(server.url, "100/day") as bucket:
        told: list[tuple[int, int]] = []
        for number in range(100):
            assert bucket.take("u", now_ns()) == LATER
            bucket.ask("u", now_ns(), 1, lambda wait_ns, number=number: told.append((number, wait_ns)))
        async with asyncio.timeout(10):
            while len(told) < 100:
                await asyncio.sleep(0)

        assert told == [(number, 0) for number in range(100)]
        # The first asks for itself, all others are the second question.
        assert bucket.round_trips == 2


async def test_a_hot_key_costs_few_round_trips(server: RedisServer, link: RedisLink) -> None:
    async with opened(server.url, "1000000/s burst 1000000") as bucket:
        for _ in range(5000):
            assert await admit(bucket, "campaign") == 0

        assert bucket.round_trips <= 5000 * 0.05


async def test_a_refused_key_costs_no_round_trip_until_its_time_is_over(
    server: RedisServer, link: RedisLink
) -> None:
    async with opened(server.url, "1/h burst 2") as bucket:
        assert [await admit(bucket, "u"), await admit(bucket, "u")] == [0, 0]
        assert await admit(bucket, "u") > 0
        trips = bucket.round_trips
        waits = [bucket.take("u", now_ns()) for _ in range(1000)]

        assert all(0 < wait <= 3600 * SECOND_NS for wait in waits)
        assert bucket.round_trips == trips
        assert bucket.take("u", now_ns() + 3601 * SECOND_NS) == LATER


async def test_the_last_units_go_to_who_fits(server: RedisServer, link: RedisLink) -> None:
    async with opened(server.url, "10/day") as bucket:
        assert await admit(bucket, "u", 7) == 0
        waits = await asyncio.gather(*[admit(bucket, "u", cost) for cost in (5, 2, 5, 1, 1)])

        assert [wait == 0 for wait in waits] == [False, True, False, True, False]


async def test_units_that_nobody_uses_go_back(server: RedisServer, link: RedisLink) -> None:
    async with opened(server.url, "1000/day", keep_s=0.25) as bucket:
        for _ in range(30):
            await admit(bucket, "u")
        bucket.tend(now_ns() + SECOND_NS)
        # Replies come in order: when this one is here, the refund was made.
        assert await admit(bucket, "another") == 0

        debt, _ = (await link.run("GET", key_name("t", "u", 0))).split(b":")
        assert -(-int(debt) // BucketRule(bucket.limit, unit_ns=1000).weight) == 30
        assert bucket.take("u", now_ns()) == LATER


async def test_a_refund_is_used_before_anybody_is_asked(server: RedisServer, link: RedisLink) -> None:
    async with opened(server.url, "1/h burst 2") as bucket:
        assert [await admit(bucket, "u"), await admit(bucket, "u")] == [0, 0]
        bucket.refund("u", now_ns(), 1)

        assert bucket.take("u", now_ns()) == 0


async def test_a_server_that_lost_its_scripts_gets_them_again_and_nobody_notices(
    server: RedisServer, link: RedisLink
) -> None:
    async with opened(server.url, "5/day") as bucket:
        assert await admit(bucket, "u") == 0
        await link.run("SCRIPT", "FLUSH")
        waits = [await admit(bucket, "u") for _ in range(5)]

        assert [wait == 0 for wait in waits] == [True, True, True, True, False]
        assert (bucket.degraded, bucket.breaker.state) == (0, State.CLOSED)


async def test_something_else_at_our_key_is_decided_by_the_policy_and_stays_as_it_is(
    server: RedisServer, link: RedisLink
) -> None:
    theirs = key_name("t", "u", 0)
    await link.run("HSET", theirs, "field", "theirs")
    async with opened(server.url, "10/h", on_error="deny") as bucket:
        assert [await admit(bucket, "u") for _ in range(5)] == [UNKNOWN] * 5
        assert await admit(bucket, "v") == 0
        assert bucket.breaker.state is State.CLOSED

    assert await link.run("EXISTS", theirs) == 1
    assert await link.run("TYPE", theirs) in (b"hash", "hash")


@pytest.mark.parametrize("fault", ["refused", "hung", "slow"])
@pytest.mark.parametrize(("on_error", "admitted"), [("local", 5), ("allow", 100), ("deny", 0)])
async def test_after_three_failures_the_policy_decides_without_waiting(
    server: RedisServer, link: RedisLink, fault: str, on_error: str, admitted: int
) -> None:
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with opened(url, "10/h", on_error=on_error, instances=2, timeout_s=0.05) as bucket:
            await admit(bucket, "warm")
            if fault == "refused":
                await proxy.refuse()
            elif fault == "hung":
                proxy.hang()
            else:
                proxy.slow(5.0)
            waits = [await admit(bucket, "u") for _ in range(3)]
            assert bucket.breaker.state is State.OPEN
            # Nothing is awaited here: no decision can have waited for Redis.
            waits += [bucket.take("u", now_ns()) for _ in range(97)]

            assert sum(not wait for wait in waits) == admitted
            assert LATER not in waits
            assert UNKNOWN in waits or on_error != "deny"
            assert bucket.degraded == 100

            await proxy.heal()
            async with asyncio.timeout(20):
                while bucket.breaker.state is not State.CLOSED:
                    # Each of these may be the probe, and is decided by the policy all the same.
                    assert bucket.take("w", now_ns()) != LATER or bucket.breaker.state is State.CLOSED
                    await asyncio.sleep(0.01)
            assert await admit(bucket, "fresh") == 0


async def test_a_caller_that_raises_keeps_the_answer_from_nobody(
    server: RedisServer, link: RedisLink
) -> None:
    async with opened(server.url, "100/day") as bucket:
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def raises(wait_ns: int) -> None:
            raise RuntimeError("a bug of the caller's")

        bucket.ask("u", now_ns(), 1, raises)
        bucket.ask("u", now_ns(), 1, told.set_result)

        assert await told == 0
        assert bucket.failed == 1


def test_a_limit_that_cannot_be_shared_is_refused_before_anything_is_sent() -> None:
    breaker = Breaker("limits", REDIS_BREAKER, random=Random(1))
    for limit, options in [("1000003/day", {}), ("5/s", {"instances": 0}), ("5/s", {"keep_s": 0.01})]:
        with pytest.raises(ValueError, match=r"exactly in Redis|instances"):
            SharedBucket(
                lambda command, done: None, breaker, "t", Limit.parse(limit), now_ns=now_ns, **options
            )
