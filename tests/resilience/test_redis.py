"""Shared limits on a real server: the script counts as the rules do, and faults become the policy."""

import asyncio
import subprocess
import sys
from random import Random

import pytest

from heartcast.backends.redis import RedisLink, WrongAnswer
from heartcast.core.errors import StoreUnavailable
from heartcast.resilience.breaker import BreakerPolicy, Registry, State
from heartcast.resilience.breaker.shared import BreakerBoard
from heartcast.resilience.limits import Limit
from heartcast.resilience.limits.rules import BucketRule, rule_of
from heartcast.resilience.limits.shared import Leases, SharedLimiter, script_text
from heartcast.testing import ManualClock
from heartcast.testing.fault_proxy import FaultProxy
from heartcast.testing.redis_server import RedisServer

HOUR_MS = 3_600_000
SECOND = 1_000_000_000


def random_limit(dice: Random) -> Limit:
    kind = dice.choice(["bucket", "log", "window"])
    limit = dice.choice([1, 2, 3, 7, 50, 1000 if kind != "log" else 40])
    burst = dice.randint(1, 60) if kind == "bucket" else 0
    period_ns = dice.choice([1_000_000, 999_000, SECOND, 60 * SECOND, 3600 * SECOND])
    return Limit(limit=limit, period_ns=period_ns, burst=burst, kind=kind)


@pytest.mark.timeout(300)
async def test_the_script_and_the_rules_agree_on_a_hundred_thousand_operations(link: RedisLink) -> None:
    dice, mismatches, refused, done = Random(11), 0, 0, 0
    while done < 100_000:
        limits = [random_limit(dice) for _ in range(dice.randint(1, 3))]
        rules = [rule_of(limit, unit_ns=1000) for limit in limits]
        sha = await link.run("SCRIPT", "LOAD", script_text(limits))
        keys = [f"{{{done}}}:{n}" for n in range(len(limits))]
        states: list[object] = [None] * len(limits)
        now, commands, expected = 10**15, [], []
        most = min(limit.capacity for limit in limits)
        for _ in range(1000):
            # Mostly forwards, sometimes back, sometimes far.
            scale = dice.choice([1, 1000, 10**6, 10**8])
            now = max(0, now + dice.randint(-scale // 3, scale))
            cost, mode = (
                dice.randint(1, min(most, 4)),
                dice.choice(["admit"] * 8 + ["decide", "peek", "refund"]),
            )
            commands.append(("EVALSHA", sha, len(keys), *keys, cost, mode, now, HOUR_MS))
            waits = [rule.wait(state, now, cost) for rule, state in zip(rules, states, strict=True)]
            wait = 0 if mode == "refund" else max(waits)
            if mode == "refund":
                states = [rule.refund(state, now, cost) for rule, state in zip(rules, states, strict=True)]
            elif not wait and mode != "peek":
                states = [rule.spend(state, now, cost) for rule, state in zip(rules, states, strict=True)]
            if mode in ("decide", "peek"):
                left = [rule.left(state, now) for rule, state in zip(rules, states, strict=True)]
                index = waits.index(wait) if wait else left.index(min(left))
                reset = rules[index].reset(states[index], now)
                expected.append([wait, index + 1, max(0, left[index]), reset])
            else:
                expected.append([wait, waits.index(wait) + 1 if wait else 0, 0, 0])
        for wanted, got in zip(expected, await link.run_all(commands), strict=True):
            mismatches += wanted != [got[0], got[1], max(0, got[2]), got[3]]
            refused += wanted[0] > 0
        done += 1000

    assert mismatches == 0
    assert 10_000 < refused < 90_000


async def test_a_fresh_key_is_a_full_bucket_and_its_entry_goes_when_it_is_full_again(link: RedisLink) -> None:
    limiter = SharedLimiter(link, "t", "100/min", "5/day log")
    first = await limiter.decide("u")

    assert (first.allowed, first.rule, first.remaining) == (True, "5/day log", 4)
    assert 1 <= await link.run("PTTL", limiter.keys("u")[0]) <= 600 + 1000
    assert 86_000_000 < await link.run("PTTL", limiter.keys("u")[1]) <= 86_400_000 + 1000


async def test_all_limits_of_a_key_live_in_one_slot_whatever_the_key_holds(link: RedisLink) -> None:
    limiter = SharedLimiter(link, "t", "100/min", "5/day log")
    for key in ("u", "", "a}b{c", "{}", "x" * 100_000, "💗", "a:b"):
        # The tag is what stands between the first brace and the next closing one.
        tags = {name[1 : name.index("}")] for name in limiter.keys(key)}
        assert len(tags) == 1
        assert tags != {""}
        assert await limiter.admit(key) == 0
    assert len({name for key in ("a%7Bb", "a{b") for name in limiter.keys(key)}) == 4


async def test_a_refusal_is_remembered_and_costs_no_round_trip_until_it_is_over(link: RedisLink) -> None:
    clock = ManualClock()
    limiter = SharedLimiter(link, "t", "1/h burst 2", clock=clock)
    assert [await limiter.admit("u"), await limiter.admit("u")] == [0, 0]
    wait = await limiter.admit("u")
    trips = limiter.round_trips
    for _ in range(100):
        assert 0 < await limiter.admit("u") <= wait
    assert limiter.round_trips == trips
    await limiter.refund("u")
    assert await limiter.admit("u") == 0
    assert await limiter.admit("u") > 0
    clock.advance(3601)
    await limiter.admit("u")
    assert limiter.round_trips == trips + 4


async def test_processes_that_share_a_server_admit_exactly_the_limit(
    server: RedisServer, link: RedisLink
) -> None:
    code = (
        "import asyncio, sys\n"
        "from heartcast.backends.redis import RedisLink\n"
        "from heartcast.resilience.limits.shared import SharedLimiter\n"
        "async def main():\n"
        "    link = RedisLink(sys.argv[1], timeout_s=10.0)\n"
        "    limiter = SharedLimiter(link, 't', '777/day log', max_denied=0)\n"
        "    waits = [await limiter.admit('u') for _ in range(400)]\n"
        "    print(sum(not wait for wait in waits))\n"
        "    await link.close()\n"
        "asyncio.run(main())\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, server.url], stdout=subprocess.PIPE) for _ in range(3)
    ]
    admitted = [int((await asyncio.to_thread(process.communicate))[0]) for process in processes]

    assert sum(admitted) == 777


async def test_a_server_that_lost_its_scripts_gets_them_again_and_counts_once(link: RedisLink) -> None:
    limiter = SharedLimiter(link, "t", "3/day log", max_denied=0)
    await limiter.admit("u")
    await link.run("SCRIPT", "FLUSH")
    waits = [await limiter.admit("u") for _ in range(3)]

    assert [wait == 0 for wait in waits] == [True, True, False]
    assert link.reloads >= 1


@pytest.mark.parametrize("limits", [["5/s"], ["5/s window"], ["5/s log"]], ids=["bucket", "window", "log"])
async def test_something_else_at_our_key_is_a_typed_error_and_stays_as_it_is(
    link: RedisLink, limits: list[str]
) -> None:
    limiter = SharedLimiter(link, "t", "9/s", *limits)
    other = limiter.keys("u")[1]
    await link.run("HSET", other, "field", "theirs")
    for _ in range(5):
        with pytest.raises(WrongAnswer, match="something else at our key"):
            await limiter.admit("u")

    assert await link.run("HGETALL", other) in ({b"field": b"theirs"}, [b"field", b"theirs"])
    assert await link.run("EXISTS", limiter.keys("u")[0]) == 0
    assert limiter.breaker.state is State.CLOSED
    await link.run("SET", limiter.keys("v")[0], "not ours")
    with pytest.raises(WrongAnswer, match="no limit was kept"):
        await limiter.admit("v")


async def test_costs_that_cannot_be_paid_do_not_reach_the_server(link: RedisLink) -> None:
    limiter = SharedLimiter(link, "t", "5/s")
    for cost in (0, -5, 6, 1.5, float("nan")):
        with pytest.raises(ValueError, match="cost must be a whole number"):
            await limiter.admit("u", cost)
    assert limiter.round_trips == 0


def test_a_limit_that_lua_cannot_count_exactly_is_refused_before_it_is_used() -> None:
    with pytest.raises(ValueError, match="too large to be counted exactly"):
        script_text([Limit.parse("1000003/day")])
    assert isinstance(rule_of(Limit.parse("1000000/day")), BucketRule)


@pytest.mark.parametrize("fault", ["refused", "hung", "slow"])
@pytest.mark.parametrize(("on_error", "admitted"), [("local", 5), ("allow", 100), ("deny", 0)])
async def test_a_server_in_trouble_becomes_the_policy_and_is_left_alone_after_three_failures(
    server: RedisServer, fault: str, on_error: str, admitted: int
) -> None:
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        link = RedisLink(f"redis://127.0.0.1:{proxy.port}/0", timeout_s=0.05)
        clock = ManualClock()
        limiter = SharedLimiter(
            link, f"{fault}-{on_error}", "10/h", on_error=on_error, instances=2, clock=clock
        )
        await limiter.admit("warm")
        if fault == "refused":
            await proxy.refuse()
        elif fault == "hung":
            proxy.hang()
        else:
            proxy.slow(5.0)
        waits = [await limiter.admit("u") for _ in range(100)]

        assert sum(not wait for wait in waits) == admitted
        assert limiter.round_trips == 1 + 3
        assert (limiter.is_degraded, limiter.degraded) == (True, 100)
        assert (await limiter.decide("u")).rule == f"redis:{on_error}"

        await proxy.heal()
        clock.advance(2)
        assert (await limiter.decide("fresh")).rule == "10/h burst 10"
        assert not limiter.is_degraded
        await link.close()


async def test_a_killed_server_that_comes_back_is_used_again(server: RedisServer) -> None:
    clock, link = ManualClock(), RedisLink(server.url)
    limiter = SharedLimiter(link, "t", "10/h", on_error="deny", clock=clock)
    await limiter.admit("u")
    server.kill()
    try:
        assert [await limiter.admit("u") > 0 for _ in range(10)] == [True] * 10
    finally:
        server.start()
    clock.advance(2)
    assert await limiter.admit("u") == 0
    await link.close()


async def test_cancelling_a_decision_holds_no_permit_and_breaks_no_connection(link: RedisLink) -> None:
    limiter = SharedLimiter(link, "t", "1000/h", max_denied=0)
    await limiter.admit("u")
    for turns in range(12):
        task = asyncio.ensure_future(limiter.admit("u"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await limiter.admit(f"v{turns}") == 0

    assert limiter.breaker.in_flight == 0
    assert limiter.breaker.state is State.CLOSED


async def test_a_hot_key_costs_few_round_trips_and_never_exceeds_its_limit(link: RedisLink) -> None:
    clock = ManualClock()
    limiter = SharedLimiter(link, "hot", "50000/h", clock=clock)
    leases = Leases(limiter, clock=clock)
    admitted = 0
    for _ in range(20_000):
        clock.advance(0.001)
        admitted += await leases.admit("k") == 0
    assert admitted == 20_000
    assert limiter.round_trips <= 0.05 * 20_000
    await leases.close()
    left = (await limiter.peek("k")).remaining
    assert left + 1000 >= 30_000


async def test_leases_of_several_processes_never_admit_more_than_the_limit(link: RedisLink) -> None:
    clock = ManualClock()
    limiter = [SharedLimiter(link, "hot", "500/day log", clock=clock) for _ in range(3)]
    leases = [Leases(one, instances=3, clock=clock) for one in limiter]
    admitted = 0
    for _ in range(400):
        clock.advance(0.001)
        for lease in leases:
            admitted += await lease.admit("k") == 0

    assert 500 - 3 * 16 <= admitted <= 500


async def test_an_operators_word_reaches_every_node_and_nodes_see_the_merged_window(link: RedisLink) -> None:
    clock = ManualClock()
    policies = {"db": BreakerPolicy(min_calls=20)}
    nodes = [Registry(policies, random=Random(1)) for _ in range(2)]
    boards = [BreakerBoard(link, node, clock=clock) for node in nodes]
    for node in nodes:
        breaker = node.get("db", now_ns=clock.monotonic_ns())
        for n in range(10):
            permit = breaker.enter(clock.monotonic_ns())
            (breaker.fail if n < 3 else breaker.ok)(permit, clock.monotonic_ns())
    for board in (*boards, *boards):
        await board.sync()
    assert boards[0].merged["db"] == boards[1].merged["db"] == (20, 6, 0)

    await boards[0].override("db", State.FORCED_OPEN)
    await boards[1].sync()
    assert nodes[1].get("db", now_ns=0).state is State.FORCED_OPEN
    await boards[1].override("db", None)
    for board in boards:
        await board.sync()
    assert [node.get("db", now_ns=0).state for node in nodes] == [State.CLOSED] * 2
    clock.advance(120)
    await boards[0].sync()
    assert boards[0].merged["db"] == (0, 0, 0)


async def test_a_board_without_its_server_leaves_the_breakers_as_they_are() -> None:
    registry = Registry(random=Random(1))
    registry.get("db", now_ns=0).force(State.FORCED_OPEN, 0)
    board = BreakerBoard(RedisLink("redis://127.0.0.1:1/0"), registry)
    with pytest.raises(StoreUnavailable):
        await board.sync()
    assert registry.get("db", now_ns=0).state is State.FORCED_OPEN
