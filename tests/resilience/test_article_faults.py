"""The articles' sketches beside ours: each test shows the sketch failing where ours holds.

The sketches are ported line by line from the articles' Go, Lua and Python; only clocks and
sleeps are passed in, so that they can be moved. The numbers are those of
``docs/explanation/resilience.md``.
"""

import asyncio
import statistics
from itertools import pairwise
from random import Random

import pytest
from redis.exceptions import ResponseError

from heartcast.backends.redis import RedisLink
from heartcast.core.errors import InvalidInput, StoreUnavailable
from heartcast.resilience import (
    AdaptiveTimeout,
    Backoff,
    BreakerPolicy,
    Circuit,
    KeyedLimiter,
    LeakyBucket,
    Limit,
    Recovery,
    Registry,
    Retry,
    RetryBudget,
    SloGate,
    State,
    TimeoutPolicy,
    TokenBucket,
    dual_limiter,
)
from heartcast.resilience.breaker import Breaker
from heartcast.resilience.errors import CircuitOpen
from heartcast.resilience.limits.shared import SharedLimiter
from heartcast.testing import ManualClock

MS = 1_000_000
SECOND = 1000 * MS

QUOTA_LUA = """
local current = tonumber(redis.call("GET", KEYS[1]) or "0")
if current >= tonumber(ARGV[1]) then
redis.call("DECRBY", KEYS[1], ARGV[1])
redis.call("EXPIRE", KEYS[1], ARGV[2])
return 1
else
return 0
end
"""

STATISTICS_LUA = """
local window_start = tonumber(ARGV[1]) - 60000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', window_start)
local all = redis.call('ZCARD', KEYS[1])
local errors = redis.call('ZCOUNT', KEYS[1], window_start, '+inf', 'WITHSCORES')
return {all, errors}
"""


class ArticleBucket:
    """``time.Ticker`` and an atomic: one token per tick."""

    def __init__(self, capacity: int) -> None:
        self.capacity = self.tokens = capacity

    def tick(self) -> None:
        if self.tokens < self.capacity:
            self.tokens += 1

    def try_take(self) -> bool:
        if self.tokens <= 0:
            return False
        self.tokens -= 1
        return True


class ArticleDual:
    """60 slots by second and a token bucket: first the window, then the bucket."""

    def __init__(self, cap: int, tokens: int) -> None:
        self.window, self.cap, self.tokens = [0] * 60, cap, tokens

    def admit(self, second: int) -> bool:
        if sum(self.window) >= self.cap:
            return False
        self.window[second % 60] += 1
        if self.tokens <= 0:
            return False
        self.tokens -= 1
        return True


class ArticleBreaker:
    """``AllowRequest`` as it stands, with the results recorded the only way its fields allow."""

    def __init__(self, threshold: int = 1, sleep_window_ns: int = 60 * SECOND) -> None:
        self.state, self.success_count, self.failures = State.CLOSED, 0, 0
        self.last_failure_ns, self.threshold, self.sleep_window_ns = 0, threshold, sleep_window_ns

    def allow(self, now_ns: int) -> bool:
        if self.state is State.CLOSED:
            return True
        if self.state is State.OPEN:
            if now_ns - self.last_failure_ns > self.sleep_window_ns:
                self.state = State.HALF_OPEN
                return True
            return False
        return self.success_count < 1

    def done(self, ok: bool, now_ns: int) -> None:
        if ok:
            self.success_count += 1
            if self.state is State.HALF_OPEN:
                self.state = State.CLOSED
            return
        self.last_failure_ns = now_ns
        self.failures += 1
        if self.state is State.HALF_OPEN or self.failures >= self.threshold:
            self.state = State.OPEN


class Article:
    """``adaptive_retry``, with sleep, dice and probe passed in."""

    def __init__(self, probe: bool = True) -> None:
        self.slept: list[float] = []
        self.probes = 0
        self._probe = probe
        self._dice = Random(1)

    def probe_health(self) -> bool:
        self.probes += 1
        return self._probe

    def retry(self, func, max_attempts: int = 8, base_delay_ms: int = 100):  # noqa: RET503
        for i in range(max_attempts):
            try:
                return func()
            except Exception:
                if i % 5 == 4 and not self.probe_health():
                    break
                delay = min(base_delay_ms * (2**i), 5000)
                jitter = self._dice.uniform(0.8, 1.2)
                self.slept.append((delay * jitter) / 1000)


def down() -> None:
    raise OSError("down")


def opened(policy: BreakerPolicy | None = None) -> Breaker:
    breaker = Breaker("x", policy or BreakerPolicy(jitter=0.0), random=Random(1))
    for _ in range(20):
        breaker.fail(breaker.enter(0), 0)
    assert breaker.state is State.OPEN
    return breaker


# --- The quota in Redis (1-7) -------------------------------------------------------


async def test_01_on_a_fresh_key_the_quota_denies_everybody_and_ours_is_a_full_bucket(
    link: RedisLink,
) -> None:
    assert await link.run("EVAL", QUOTA_LUA, 1, "love:uid:1", 1, 3600) == 0
    assert await SharedLimiter(link, "t", "10/h").admit("1") == 0


async def test_02_each_success_prolongs_the_quotas_period_and_ours_refills_by_time_that_passed(
    link: RedisLink,
) -> None:
    await link.run("SET", "love:uid:1", 10, "EX", 100)
    await link.run("EVAL", QUOTA_LUA, 1, "love:uid:1", 1, 3600)
    assert await link.run("TTL", "love:uid:1") > 3500

    limiter = SharedLimiter(link, "t", "10/h")
    await limiter.admit("1")
    assert await link.run("PTTL", limiter.keys("1")[0]) <= 360_000 + 1000


async def test_03_a_negative_amount_mints_quota_and_ours_is_refused_before_anything_changes(
    link: RedisLink,
) -> None:
    await link.run("SET", "love:uid:1", 4)
    await link.run("EVAL", QUOTA_LUA, 1, "love:uid:1", -5, 3600)
    assert int(await link.run("GET", "love:uid:1")) == 9

    limiter = SharedLimiter(link, "t", "10/h")
    for cost in (-5, 0, 11):
        with pytest.raises(ValueError, match="cost must be"):
            await limiter.admit("1", cost)
    assert await link.run("EXISTS", *limiter.keys("1")) == 0


async def test_04_the_quota_says_yes_or_no_and_ours_says_which_rule_how_much_and_when(
    link: RedisLink,
) -> None:
    assert await link.run("EVAL", QUOTA_LUA, 1, "love:uid:1", 1, 3600) in (0, 1)
    limiter = SharedLimiter(link, "t", "10/s", "2/h burst 1")
    await limiter.decide("1")
    refused = await limiter.decide("1")
    assert (refused.allowed, refused.rule, refused.remaining) == (False, "2/h burst 1", 0)
    assert 1790 < refused.retry_after_s <= 1800


async def test_05_a_flushed_script_is_loaded_again(link: RedisLink) -> None:
    limiter = SharedLimiter(link, "t", "10/h")
    sha = await link.run("SCRIPT", "LOAD", QUOTA_LUA)
    await link.run("SCRIPT", "FLUSH")
    with pytest.raises(StoreUnavailable, match="No matching script"):
        await link.run("EVALSHA", sha, 1, "love:uid:1", 1, 3600)
    assert await limiter.admit("1") == 0


async def test_06_two_quotas_of_one_request_burn_the_first_and_ours_count_all_or_nothing(
    link: RedisLink,
) -> None:
    await link.run("SET", "love:uid:1", 5)
    for _ in range(5):
        await link.run("EVAL", QUOTA_LUA, 1, "love:uid:1", 1, 3600)
        assert await link.run("EVAL", QUOTA_LUA, 1, "love:campaign:9", 1, 3600) == 0
    assert int(await link.run("GET", "love:uid:1")) == 0

    limiter = SharedLimiter(link, "t", "5/h log", "1/h", max_denied=0)
    assert [await limiter.admit("1") == 0 for _ in range(4)] == [True, False, False, False]
    assert await link.run("LLEN", limiter.keys("1")[0]) == 1


async def test_07_lost_state_locks_the_quotas_users_out_and_opens_ours_once(link: RedisLink) -> None:
    await link.run("SET", "love:uid:1", 10)
    limiter = SharedLimiter(link, "t", "10/h")
    await limiter.admit("1")
    await link.run("FLUSHALL")
    assert await link.run("EVAL", QUOTA_LUA, 1, "love:uid:1", 1, 3600) == 0
    assert await limiter.admit("1") == 0


# --- The local bucket and the dual limiter (9-18) ------------------------------------


def test_09_dropped_ticks_lose_tokens_and_time_that_passed_does_not() -> None:
    sketch, ours = ArticleBucket(100), TokenBucket(Limit.parse("1000/s burst 100"))
    for _ in range(100):
        sketch.try_take()
        ours.admit(0)
    # A pause of 100 ms: a Go ticker keeps one tick and drops the other 99.
    sketch.tick()

    assert sum(sketch.try_take() for _ in range(100)) == 1
    assert sum(ours.admit(100 * MS) == 0 for _ in range(100)) == 100


def test_10_the_sketch_takes_one_at_a_time_and_ours_takes_a_weight_or_nothing() -> None:
    sketch, ours = ArticleBucket(3), TokenBucket(Limit.parse("3/h"))
    taken = [sketch.try_take() for _ in range(5)]
    assert taken == [True] * 3 + [False] * 2  # three are gone, and the batch of five was not admitted
    assert ours.admit(0, 2) == 0
    assert ours.admit(0, 2) > 0
    assert ours.admit(0, 1) == 0


def test_13_slots_that_never_expire_count_for_ever_and_our_window_forgets() -> None:
    sketch, ours = ArticleDual(cap=3, tokens=10**6), KeyedLimiter("3/min log")
    for second in (0, 1, 2):
        assert sketch.admit(second)
        assert ours.admit("u", second * SECOND) == 0

    assert not any(sketch.admit(3600 + second) for second in range(60))
    assert ours.admit("u", 3600 * SECOND) == 0


def test_15_a_refusal_by_the_bucket_burns_the_sketches_window_and_costs_ours_nothing() -> None:
    sketch, ours = ArticleDual(cap=3, tokens=1), dual_limiter("3/min log", "1/10s burst 1")
    for _ in range(4):
        sketch.admit(0)
        ours.admit("u", 0)
    sketch.tokens = 1
    assert not sketch.admit(10)
    assert ours.admit("u", 10 * SECOND) == 0


def test_16_one_user_uses_up_the_sketch_for_all_and_ours_counts_by_user() -> None:
    sketch, ours = ArticleDual(cap=3, tokens=100), dual_limiter("3/min log", "100/s")
    for _ in range(3):
        sketch.admit(0)
        ours.admit("loud", 0)
    assert not sketch.admit(0)
    assert ours.admit("loud", 0) > 0
    assert ours.admit("quiet", 0) == 0


def test_17_a_wall_clock_that_steps_back_blocks_a_window_by_stamps_and_ours_goes_on() -> None:
    stamps = [7200.0] * 3
    now = 3600.0 + 60
    assert sum(stamp > now - 60 for stamp in stamps) >= 3  # the sketch's rule: full for an hour
    ours = KeyedLimiter("3/min log")
    for _ in range(2):
        assert ours.admit("u", 7200 * SECOND) == 0
    assert ours.admit("u", 3660 * SECOND) == 0


def test_18_a_bucket_admits_nearly_twice_its_limit_in_a_window_and_a_log_never_more() -> None:
    bucket, log = TokenBucket(Limit.parse("3/day")), KeyedLimiter("3/day log")
    times = [hour * 3600 * SECOND for hour in range(24)]
    assert sum(bucket.admit(now) == 0 for now in times for _ in range(3)) == 5
    assert sum(log.admit("u", now) == 0 for now in times for _ in range(3)) == 3


# --- The breaker (20-31) --------------------------------------------------------------


def test_20_half_open_is_a_stampede_until_the_first_answer_and_ours_lets_two_pass() -> None:
    sketch, ours = ArticleBreaker(), opened()
    sketch.done(False, 0)
    assert sum(sketch.allow(61 * SECOND) for _ in range(1000)) == 1000
    assert sum(ours.enter(61 * SECOND) > 0 for _ in range(1000)) == 2


def test_21_the_second_half_open_refuses_for_ever_and_ours_starts_anew() -> None:
    sketch, ours = ArticleBreaker(), opened()
    sketch.done(False, 0)
    for start in (61 * SECOND, 1000 * SECOND):
        sketch.allow(start)
        if sketch.allow(start):
            sketch.done(True, start)
        sketch.done(False, start)
    sketch.allow(2000 * SECOND)
    assert not any(sketch.allow(now * SECOND) for now in range(2001, 100_000, 1000))

    for start in (61 * SECOND, 1000 * SECOND):
        for _ in range(4):
            ours.ok(ours.enter(start), start)
        assert ours.state is State.CLOSED
        for _ in range(20):
            ours.fail(ours.enter(start), start)
        assert ours.state is State.OPEN


def test_22_a_hung_probe_decides_nothing_for_ever_and_our_lease_runs_out() -> None:
    sketch, ours = ArticleBreaker(), opened()
    sketch.success_count = 1
    sketch.done(False, 0)
    sketch.allow(61 * SECOND)  # the probe that never returns
    assert not sketch.allow(10**6 * SECOND)

    assert ours.enter(61 * SECOND) > 0
    assert ours.enter(61 * SECOND) > 0
    assert ours.enter(61 * SECOND) < 0
    assert ours.enter(66 * SECOND) < 0  # both leases ran out: open again
    assert ours.state is State.OPEN
    assert ours.enter(120 * SECOND) > 0


def test_23_late_failures_prolong_the_sketches_break_and_not_ours() -> None:
    sketch, ours = (
        ArticleBreaker(sleep_window_ns=5 * SECOND),
        Breaker("x", BreakerPolicy(jitter=0), random=Random(1)),
    )
    late = [ours.enter(0) for _ in range(5)]
    for _ in range(20):
        ours.fail(ours.enter(0), 0)
    sketch.done(False, 0)
    for second, permit in enumerate(late, 1):
        sketch.done(False, second * SECOND)
        ours.fail(permit, second * SECOND)
    assert not sketch.allow(5 * SECOND + 1)
    assert ours.enter(5 * SECOND + 1) > 0


def test_24_a_late_result_closes_the_sketch_and_means_nothing_to_ours() -> None:
    sketch, ours = ArticleBreaker(), Breaker("x", BreakerPolicy(jitter=0, slow_s=100), random=Random(1))
    late = [ours.enter(0) for _ in range(10)]
    for _ in range(30):
        permit = ours.enter(0)
        if permit > 0:
            ours.fail(permit, 0)
    sketch.done(False, 0)
    sketch.allow(61 * SECOND)
    ours.enter(61 * SECOND)
    sketch.done(True, 61 * SECOND)  # a call from before the break comes home
    for permit in late:
        ours.ok(permit, 61 * SECOND)

    assert sketch.state is State.CLOSED
    assert (ours.state, ours.late) == (State.HALF_OPEN, 10)


def test_26_one_flake_reopens_the_sketch_and_one_success_closes_it_and_ours_wants_four_of_five() -> None:
    sketch, ours = ArticleBreaker(), opened()
    sketch.done(False, 0)
    sketch.allow(61 * SECOND)
    sketch.done(True, 61 * SECOND)
    assert sketch.state is State.CLOSED

    ours.ok(ours.enter(61 * SECOND), 61 * SECOND)
    assert ours.state is State.HALF_OPEN
    ours.fail(ours.enter(61 * SECOND), 61 * SECOND)
    assert ours.state is State.HALF_OPEN
    for _ in range(3):
        ours.ok(ours.enter(61 * SECOND), 61 * SECOND)
    assert ours.state is State.CLOSED


def test_27_a_thousand_sketches_probe_in_one_moment_and_ours_spread() -> None:
    sketches = [ArticleBreaker(sleep_window_ns=5 * SECOND) for _ in range(1000)]
    for sketch in sketches:
        sketch.done(False, 0)
    assert sum(sketch.allow(5 * SECOND + 1) for sketch in sketches) == 1000

    waits = []
    for seed in range(1000):
        breaker = Breaker("x", BreakerPolicy(), random=Random(seed))
        for _ in range(20):
            breaker.fail(breaker.enter(0), 0)
        waits.append(-breaker.enter(0) / SECOND)
    assert max(sum(low <= wait < low + 0.1 for wait in waits) for low in (4, 4.5, 5, 5.5)) < 120


def test_28_both_rates_at_once_never_open_on_fast_failures_or_slow_successes() -> None:
    for failing, took in ((True, 2 * MS), (False, 5 * SECOND)):
        both = Breaker("x", BreakerPolicy(trip="all", slow_s=0.8, slow_rate=0.05), random=Random(1))
        either = Breaker("x", BreakerPolicy(trip="any", slow_s=0.8, slow_rate=0.05), random=Random(1))
        for breaker in (both, either):
            for _ in range(1000):
                permit = breaker.enter(0)
                if permit > 0:
                    (breaker.fail if failing else breaker.ok)(permit, took)
        assert both.state is State.CLOSED
        assert either.state is State.OPEN


def test_29_one_failure_of_one_call_opens_the_sketch_and_ours_waits_for_enough() -> None:
    sketch, ours = ArticleBreaker(), Breaker("x", random=Random(1))
    sketch.done(False, 0)
    ours.fail(ours.enter(0), 0)
    assert sketch.state is State.OPEN
    assert ours.state is State.CLOSED


def test_30_one_bad_route_and_callers_mistakes_open_the_sketch_for_all() -> None:
    sketch = ArticleBreaker(threshold=20)
    for _ in range(20):
        sketch.done(False, 0)  # a route that is bad, or twenty requests that were wrong
    assert not sketch.allow(1)

    registry = Registry(random=Random(1))
    for _ in range(20):
        bad = registry.get("api", "bad", now_ns=0)
        bad.fail(bad.enter(0), 0)
    assert registry.get("api", "bad", now_ns=0).state is State.OPEN
    assert registry.get("api", "good", now_ns=0).state is State.CLOSED
    circuit = Circuit("api", clock=ManualClock())
    for _ in range(50):
        with pytest.raises(InvalidInput), circuit.guard():
            raise InvalidInput("wrong")
    assert circuit.breaker.state is State.CLOSED


def test_31_calls_that_hang_are_invisible_to_the_sketch_and_open_ours() -> None:
    sketch, ours = ArticleBreaker(), Breaker("x", random=Random(1))
    for now in range(0, 2 * SECOND, 10 * MS):
        assert sketch.allow(now)
        ours.enter(now)
    assert ours.state is State.OPEN


# --- Statistics in Redis (32-36) ------------------------------------------------------


async def test_32_the_statistics_script_never_runs_and_ours_count_in_process(link: RedisLink) -> None:
    with pytest.raises(StoreUnavailable, match="Wrong number of arg") as refused:
        await link.run("EVAL", STATISTICS_LUA, 1, "stats", 120_000)
    assert isinstance(refused.value.__cause__, ResponseError)

    breaker = opened()
    assert (breaker.window.calls, breaker.window.failures) == (20, 20)


async def test_33_a_score_that_is_time_and_failure_at_once_loses_every_failure(link: RedisLink) -> None:
    await link.run("ZADD", "stats", 1, "failed")
    await link.run("ZREMRANGEBYSCORE", "stats", "-inf", 60_000)
    assert await link.run("ZCARD", "stats") == 0
    breaker = Breaker("x", random=Random(1))
    breaker.fail(breaker.enter(120 * SECOND), 120 * SECOND)
    assert breaker.window.failures == 1


async def test_34_equal_results_overwrite_each_other_and_ours_are_two(link: RedisLink) -> None:
    for at in (1000, 1001):
        await link.run("ZADD", "stats", at, "120:ok")
    assert await link.run("ZCARD", "stats") == 1
    breaker = Breaker("x", random=Random(1))
    for _ in range(2):
        breaker.ok(breaker.enter(0), 120 * MS)
    assert breaker.window.calls == 2


def test_35_a_percentile_of_the_time_order_is_not_one_of_the_durations() -> None:
    took_ms = [900.0] * 94 + [10.0] * 6  # slow, then just recovered
    by_time = took_ms[int(0.95 * len(took_ms))]
    assert by_time < 800 < statistics.quantiles(took_ms, n=20)[18]

    breaker = Breaker("x", BreakerPolicy(slow_s=0.8, slow_rate=0.05, min_calls=100), random=Random(1))
    for ms in took_ms:
        breaker.ok(breaker.enter(0), round(ms * MS))
    assert breaker.state is State.OPEN


def test_36_the_sketch_keeps_every_call_of_a_minute_and_ours_keeps_sixty_rows() -> None:
    policy = BreakerPolicy(window_size=60, min_calls=100)
    breaker = Breaker("x", policy, random=Random(1))
    kept = set()
    for now in range(0, 60 * SECOND, 5 * MS):
        kept.add(f"{now}:ok")  # a ZSET member for each
        breaker.ok(breaker.enter(now), now)
    assert len(kept) == 12_000
    assert len(breaker.window._rows) == 59


# --- Recovery (37-41) ------------------------------------------------------------------


@pytest.mark.looptime
async def test_37_the_sketch_swallows_the_error_and_ours_raises_the_last() -> None:
    assert Article().retry(down) is None
    with pytest.raises(OSError, match="down"):
        await Retry(random=Random(1)).call(failing)


async def failing() -> None:
    raise OSError("down")


def test_38_a_jitter_of_a_fifth_keeps_the_herd_together_and_full_jitter_spreads_it() -> None:
    dice, backoff = Random(1), Backoff(first_s=0.8, max_s=0.8)
    herd = [0.8 * dice.uniform(0.8, 1.2) for _ in range(1000)]
    spread = [backoff.wait_s(1, dice) for _ in range(1000)]
    assert max(herd) - min(herd) < 0.33
    assert max(spread) - min(spread) > 0.78


@pytest.mark.looptime
async def test_39_the_sketch_sleeps_after_its_last_attempt_and_ignores_retry_after() -> None:
    sketch = Article()
    sketch.retry(down)
    assert len(sketch.slept) == 8

    loop, attempts = asyncio.get_running_loop(), []

    async def busy() -> None:
        attempts.append(loop.time())
        raise StoreUnavailable("busy", retry_after_s=7)

    with pytest.raises(StoreUnavailable):
        await Retry(random=Random(1)).call(busy)
    assert loop.time() == attempts[-1]
    assert min(after - before for before, after in pairwise(attempts)) >= 7


def test_40_the_sketch_multiplies_the_load_of_an_outage_by_eight_and_the_budget_by_a_tenth() -> None:
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        raise OSError("down")

    for _ in range(100):
        Article().retry(count)
    assert calls == 800

    budget, retries = RetryBudget(), 0
    for now in range(0, 100 * SECOND, 10 * MS):
        budget.call(now)
        retries += sum(budget.take(now) for _ in range(7))
    assert 10_000 + retries <= 1.1 * 10_000


def test_41_every_sketch_asks_the_health_page_and_ours_share_one_count_of_real_probes() -> None:
    sketches = [Article() for _ in range(100)]
    for sketch in sketches:
        sketch.retry(down)
    assert sum(sketch.probes for sketch in sketches) == 100

    recovery = Recovery(probe_every=5, random=Random(1))
    at_once = sum(recovery.failed() == 0.0 for _ in range(100))
    assert at_once == recovery.probes == 20  # of a hundred failures, and each is a real call


# --- The dynamic threshold (42-46) -----------------------------------------------------


def article_trips(history: list[float], now: float) -> bool:
    return now < statistics.fmean(history) - 2 * statistics.pstdev(history)


def test_42_the_articles_rate_goes_below_zero_and_counts_that_are_none_are_refused_by_ours() -> None:
    success, failures = 30, 70
    assert (success - failures) / (success + failures) < 0
    with pytest.raises(ValueError, match="good: must be in"):
        SloGate().observe(-40, 100)


def test_43_a_perfect_past_makes_a_thousandth_of_a_percent_an_outage_and_not_for_ours() -> None:
    assert article_trips([1.0] * 60, 0.99999)
    gate = SloGate()
    for _ in range(60):
        gate.observe(100_000, 100_000)
    assert not any(gate.observe(99_999, 100_000) for _ in range(10))
    assert not any(gate.observe(0, 3) for _ in range(10))


@pytest.mark.parametrize("depth", [0.9, 0.5, 0.0])
def test_44_any_outage_becomes_normal_after_a_fifth_of_the_window_and_ours_stays_tripped(
    depth: float,
) -> None:
    dice, history, gate, sketch, ours = Random(2), [], SloGate(), [], []
    for _ in range(60):
        rate = 0.999 + dice.uniform(-0.0005, 0.0005)
        history.append(rate)
        gate.observe(round(rate * 100_000), 100_000)
    for _ in range(60):
        history = [*history[1:], depth]
        sketch.append(article_trips(history, depth))
        ours.append(gate.observe(round(depth * 100_000), 100_000))

    assert sketch[:10] == [True] * 10
    assert not any(sketch[13:])
    assert all(ours[1:])


def test_45_healthy_windows_trip_the_sketch_and_not_ours() -> None:
    dice, history, gate = Random(5), [], SloGate()
    sketch = ours = 0
    for n in range(2000):
        good = 980 + sum(dice.uniform(0, 1) < 0.5 for _ in range(20))
        if n >= 60:
            sketch += article_trips(history[-60:], good / 1000)
        history.append(good / 1000)
        ours += gate.observe(good, 1000)
    assert sketch > 20
    assert ours == 0


def test_46_a_mean_of_ratios_lets_three_calls_weigh_as_much_as_ten_thousand() -> None:
    windows = [(9_990, 10_000)] * 30 + [(0, 3)] * 30
    assert statistics.fmean(good / total for good, total in windows) < 0.51
    gate = SloGate()
    for good, total in windows:
        gate.observe(good, total)
    assert gate.baseline == pytest.approx(0.999)


# --- Timeouts and pace -----------------------------------------------------------------


def test_50_a_timeout_learnt_from_timed_out_calls_ratchets_down_and_ours_stands_still() -> None:
    dice, timeout_s = Random(3), 1.0
    for _ in range(20):
        seen = sorted(dice.expovariate(1 / 0.3) for _ in range(2000))
        in_time = [took for took in seen if took <= timeout_s]
        timeout_s = in_time[int(0.99 * len(in_time))] * 0.999  # what timed out was never seen
    assert timeout_s < 0.9

    ours, now = AdaptiveTimeout(TimeoutPolicy(start_s=1.0), now_ns=0), 0
    for _ in range(40_000):
        now += 5 * MS
        took_s = dice.expovariate(1 / 0.3)
        ours.record(round(min(took_s, ours.timeout_s) * 1e9), now, timed_out=took_s > ours.timeout_s)
    assert ours.timeout_s >= 1.0


def test_12_a_leaky_bucket_is_a_pace_and_not_a_throughput() -> None:
    bucket, leaky = TokenBucket(Limit.parse("1000/s burst 100")), LeakyBucket(Limit.parse("1000/s leak 100"))
    assert sum(bucket.admit(0) == 0 for _ in range(500)) == 100
    delays = [leaky.delay_ns(0) for _ in range(500)]
    assert sorted(delay for delay in delays if delay >= 0) == [n * MS for n in range(101)]


async def test_19_a_refusal_that_is_raised_again_collects_tracebacks_and_ours_is_fresh_each_time() -> None:
    stale = OSError("open")
    for _ in range(50):
        with pytest.raises(OSError, match="open"):
            raise stale
    circuit = Circuit("x", clock=ManualClock())
    circuit.breaker.force(State.FORCED_OPEN, 0)
    frames = []
    for error in (stale, *[refusal(circuit) for _ in range(3)]):
        trace, depth = error.__traceback__, 0
        while trace is not None:
            trace, depth = trace.tb_next, depth + 1
        frames.append(depth)
    assert frames[0] == 50
    assert len(set(frames[1:])) == 1


def refusal(circuit: Circuit) -> CircuitOpen:
    try:
        circuit.enter()
    except CircuitOpen as error:
        return error
    raise AssertionError("it was open")
