"""The promises of the limits: within the envelope, honest waits, all or nothing, nothing live forgotten."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.resilience.limits import (
    KeyedBucket,
    KeyedLimiter,
    LeakyBucket,
    Limit,
    TokenBucket,
    dual_limiter,
)
from heartcast.resilience.limits.rules import BucketRule, LogRule, Rule, WindowRule, rule_of

SECOND = 1_000_000_000
limits = st.builds(
    Limit,
    limit=st.integers(1, 10**6),
    period_ns=st.integers(1, 10**12),
    burst=st.integers(1, 10**4),
)
steps = st.lists(st.tuples(st.integers(-5, 10**9), st.integers(1, 3)), max_size=150)


@given(limits, steps)
def test_a_bucket_answers_exactly_as_the_plain_rule_does(limit: Limit, steps: list[tuple[int, int]]) -> None:
    fast, keyed, rule, state, now, latest = (
        TokenBucket(limit),
        KeyedBucket(limit),
        BucketRule(limit),
        None,
        0,
        0,
    )
    for step, cost in steps:
        cost = min(cost, limit.capacity)
        now = max(0, now + step)
        latest = max(latest, now)
        expected = rule.wait(state, latest, cost)
        if not expected:
            state = rule.spend(state, latest, cost)

        assert fast.wait_ns(now, cost) == expected
        assert fast.admit(now, cost) == expected
        assert keyed.admit_key("k", now, cost) == expected


@given(limits, steps)
def test_a_bucket_never_admits_more_than_burst_plus_what_flowed_back(
    limit: Limit, steps: list[tuple[int, int]]
) -> None:
    bucket, now, latest, admitted = TokenBucket(limit), 0, 0, 0
    for step, cost in steps:
        cost = min(cost, limit.capacity)
        now += step
        latest = max(latest, now)
        admitted += 0 if bucket.admit(now, cost) else cost

    assert admitted * limit.period_ns <= limit.capacity * limit.period_ns + latest * limit.limit


@given(limits, st.data())
def test_the_wait_a_bucket_names_is_enough_and_not_a_nanosecond_too_long(
    limit: Limit, data: st.DataObject
) -> None:
    bucket = TokenBucket(limit)
    assert bucket.admit(0, limit.capacity) == 0
    cost = data.draw(st.integers(1, limit.capacity))
    wait = bucket.admit(0, cost)

    assert bucket.admit(wait - 1, cost) > 0
    assert bucket.admit(wait, cost) == 0


@pytest.mark.parametrize("rule_type", [LogRule, WindowRule, BucketRule])
@given(
    limit=st.integers(1, 8),
    period=st.integers(2, 50),
    steps=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 3)), max_size=80),
)
def test_every_rule_names_the_least_wait_that_is_enough(
    rule_type: type[Rule], limit: int, period: int, steps: list[tuple[int, int]]
) -> None:
    kind = {LogRule: "log", WindowRule: "window", BucketRule: "bucket"}[rule_type]
    rule = rule_of(Limit(limit=limit, period_ns=period, kind=kind))
    state, now = None, 0
    for step, cost in steps:
        cost = min(cost, limit)
        now += step
        wait = rule.wait(state, now, cost)
        if wait:
            assert rule.wait(state, now + wait, cost) == 0
            assert rule.wait(state, now + wait - 1, cost) == 1
        else:
            state = rule.spend(state, now, cost)


@given(st.integers(1, 8), st.integers(2, 50), steps)
def test_a_log_never_holds_more_than_its_limit_in_any_window(
    limit: int, period: int, steps: list[tuple[int, int]]
) -> None:
    rule, state, now, stamps = LogRule(Limit(limit=limit, period_ns=period, kind="log")), None, 0, []
    for step, cost in steps:
        cost = min(cost, limit)
        now = max(0, now + step % 20 - 1)
        if not rule.wait(state, now, cost):
            state = rule.spend(state, now, cost)
            stamps += [max(now, stamps[-1] if stamps else 0)] * cost

    for start in stamps:
        assert sum(start <= stamp < start + period for stamp in stamps) <= limit


def test_no_window_exceeds_its_envelope_in_a_million_random_steps() -> None:
    dice, limit = random.Random(7), Limit.parse("1000/s burst 50")
    bucket, now, admitted = KeyedBucket(limit), 0, 0
    worst = low = 0
    for _ in range(1_000_000):
        now += dice.randrange(1_000_000)
        if not bucket.admit_key("k", now):
            admitted += 1
            # The excess of any window (t0, t1] is a difference of this walk: its rise above
            # its lowest point so far is the worst window that ends now.
            walk = admitted * limit.period_ns - now * limit.limit
            worst = max(worst, walk - low)
        low = min(low, admitted * limit.period_ns - now * limit.limit)

    assert worst <= limit.capacity * limit.period_ns
    assert admitted > 400_000


@pytest.mark.parametrize("cost", [0, -5, 101, float("nan"), 1.5, True, "1", None, 10**30])
def test_a_cost_that_cannot_be_paid_is_refused_before_anything_changes(cost: object) -> None:
    limit = Limit.parse("100/s")
    bucket, keyed, limiter = TokenBucket(limit), KeyedBucket(limit), KeyedLimiter(limit)
    calls = [
        lambda: bucket.wait_ns(0, cost),
        lambda: bucket.reserve(0, cost, max_wait_ns=0),
        lambda: bucket.refund(cost),
        lambda: limiter.admit("k", 0, cost),
        lambda: limiter.decide("k", 0, cost),
        lambda: limiter.peek("k", 0, cost),
        lambda: limiter.refund("k", 0, cost),
    ]
    if cost is not True:  # True == 1 takes the fast path, where it is a plain 1.
        calls += [lambda: bucket.admit(0, cost), lambda: keyed.admit_key("k", 0, cost)]
    for call in calls:
        with pytest.raises(ValueError, match="cost must be a whole number"):
            call()

    assert bucket.admit(0, 100) == 0
    assert keyed.admit_key("k", 0, 100) == 0
    assert limiter.admit("k", 0, 100) == 0


@pytest.mark.parametrize(
    "text", ["", "100", "0/s", "100/fortnight", "-1/s", "1/s burst", "1.5/s", "5/s log burst 2"]
)
def test_text_that_is_no_limit_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="limit"):
        Limit.parse(text)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": 1.5}, "limit"),
        ({"limit": float("nan")}, "limit"),
        ({"limit": 1, "period_ns": 0}, "period_ns"),
        ({"limit": 1, "burst": -1}, "burst"),
        ({"limit": 2, "burst": 1, "kind": "log"}, "burst"),
        ({"limit": 10**6, "kind": "log"}, "limit"),
    ],
)
def test_a_limit_that_cannot_be_met_names_its_field(fields: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        Limit(**fields)


@pytest.mark.parametrize(
    "text", ["100/s burst 20", "3/day log", "1000/min window", "50/s leak 10", "1/10s burst 1"]
)
def test_a_limit_reads_back_as_it_is_written(text: str) -> None:
    assert str(Limit.parse(text)) == text


def test_a_refusal_by_one_rule_costs_the_other_nothing() -> None:
    limiter = dual_limiter("3/day log", "1/10s burst 1")
    assert limiter.admit("u", 0) == 0

    for now in range(1, 10):
        refused = limiter.decide("u", now * SECOND)
        assert (refused.allowed, refused.rule) == (False, "1/10s burst 1")
        assert refused.retry_after_s == 10 - now

    # Nine refusals later two of three are left, not none.
    assert limiter.admit("u", 10 * SECOND) == 0
    assert limiter.admit("u", 20 * SECOND) == 0
    last = limiter.decide("u", 30 * SECOND)
    assert (last.rule, last.retry_after_s, last.remaining) == ("3/day log", 86_400 - 30, 0)
    assert limiter.decide("u", 86_400 * SECOND).allowed


def test_the_dual_limiter_refuses_to_take_a_bucket_for_a_cap() -> None:
    with pytest.raises(ValueError, match="cap: a bucket admits burst"):
        dual_limiter("3/day", "1/s")
    with pytest.raises(ValueError, match="smooth: must be a token bucket"):
        dual_limiter("3/day log", "3/s log")


def test_peek_counts_nothing_and_a_refund_gives_back_what_was_taken() -> None:
    limiter = KeyedLimiter("2/min log", "2/min window", "2/min")
    for _ in range(5):
        assert limiter.peek("u", 0, 2).allowed
    assert limiter.admit("u", 0, 2) == 0
    assert not limiter.peek("u", 0).allowed

    limiter.refund("u", 0, 2)

    assert limiter.admit("u", 0, 2) == 0
    assert limiter.admit("u", 0) > 0


def test_a_refund_to_a_key_that_took_nothing_adds_nothing() -> None:
    limiter, keyed = KeyedLimiter("2/min"), KeyedBucket(Limit.parse("2/min"))
    limiter.refund("u", 0, 2)
    keyed.refund_key("u", 0, 2)

    assert [limiter.admit("u", 0) == 0 for _ in range(3)] == [True, True, False]
    assert [keyed.admit_key("u", 0) == 0 for _ in range(3)] == [True, True, False]


def test_reservations_are_served_in_order_and_cannot_be_overtaken() -> None:
    bucket = TokenBucket(Limit.parse("10/s burst 1"))
    waits = [bucket.reserve(0, max_wait_ns=SECOND) for _ in range(4)]

    assert waits == [0, SECOND // 10, SECOND // 5, 3 * SECOND // 10]
    assert bucket.admit(SECOND // 10) > 0
    assert bucket.reserve(0, max_wait_ns=SECOND // 10) == -1
    assert bucket.admit(4 * SECOND // 10) == 0


def test_a_leaky_bucket_lets_work_out_at_a_steady_pace_and_turns_away_what_does_not_fit() -> None:
    leaky = LeakyBucket(Limit.parse("1000/s leak 3"))

    assert [leaky.delay_ns(0) for _ in range(6)] == [0, 1_000_000, 2_000_000, 3_000_000, -1, -1]
    assert leaky.delay_ns(1_000_000) == 3_000_000


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3 * SECOND)), max_size=120))
def test_forgetting_a_key_changes_no_answer(calls: list[tuple[int, int]]) -> None:
    limit = Limit.parse("2/s burst 3")
    keyed, plain, now = KeyedBucket(limit, max_keys=50), {}, 0
    for user, step in calls:
        now += step
        keyed.generations.tend(now)
        mine = plain.setdefault(user, TokenBucket(limit))
        assert keyed.admit_key(f"user:{user}", now) == mine.admit(now)


def test_a_live_bucket_is_never_evicted_and_a_flood_of_new_keys_limits_only_itself() -> None:
    keyed = KeyedBucket(Limit.parse("5/s"), max_keys=100)
    for _ in range(5):
        assert keyed.admit_key("victim", 0) == 0
    admitted = sum(keyed.admit_key(f"invented:{n}", 0) == 0 for n in range(5000))

    assert admitted == 99 + 5
    assert len(keyed.generations) == 100
    assert keyed.admit_key("victim", 0) > 0
    assert keyed.overflowed == 5000 - 99
    # What lived is worth nothing after the bucket's time to fill, and there is room again.
    assert keyed.admit_key("newcomer", 2 * SECOND) == 0
    assert keyed.overflowed == 5000 - 99


def test_the_limiter_with_many_rules_bounds_its_keys_too() -> None:
    limiter = KeyedLimiter("1/min log", "1/min", max_keys=10)
    assert sum(limiter.admit(f"k{n}", 0) == 0 for n in range(100)) == 11
    assert limiter.admit("k0", 0) > 0
    assert limiter.overflowed == 90
    assert limiter.admit("k50", 121 * SECOND) == 0


def test_keys_of_any_length_and_kind_have_buckets_of_their_own() -> None:
    keyed = KeyedBucket(Limit.parse("1/s"))
    for key in ("", "a" * 1_000_000, "\0", "💗", "\ud800"):
        assert keyed.admit_key(key, 0) == 0
        assert keyed.admit_key(key, 0) == SECOND


def test_a_clock_that_steps_back_stands_still_and_locks_nobody_out() -> None:
    hour = 3600 * SECOND
    keyed, limiter = KeyedBucket(Limit.parse("10/s")), KeyedLimiter("10/s log", "10/s window", "10/s")
    assert keyed.admit_key("u", 2 * hour) == 0
    assert limiter.admit("u", 2 * hour) == 0

    assert [keyed.admit_key("u", hour) == 0 for _ in range(10)] == [True] * 9 + [False]
    assert [limiter.admit("u", hour) == 0 for _ in range(10)] == [True] * 9 + [False]


def test_tending_gives_memory_back_where_no_key_asks() -> None:
    keyed = KeyedBucket(Limit.parse("5/s"), max_keys=5000)
    for n in range(3000):
        keyed.admit_key(f"k{n}", 0)
    for turn in range(1, 4):
        keyed.generations.tend(turn * 2 * SECOND)

    assert len(keyed.generations) == 0
