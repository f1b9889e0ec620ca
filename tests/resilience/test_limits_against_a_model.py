"""The keyed limiter, its maps turning and its clock stepping back, against a model that forgets nothing."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from heartcast.resilience.limits import KeyedBucket, KeyedLimiter, Limit

SECOND = 1_000_000_000
BUCKET, LOG = "3/s burst 5", "7/10s log"
RATE, BURST = Fraction(3, SECOND), 5
MOST, WINDOW = 7, 10 * SECOND

keys = st.sampled_from(["a", "b", "c"])
costs = st.integers(1, 5)
# Within a rate's step, around a window's length, and far beyond everything that is remembered.
steps = st.one_of(
    st.integers(0, SECOND), st.integers(WINDOW - 5, WINDOW + 5), st.integers(SECOND, 100 * SECOND)
)


class PlainKey:
    """Tokens as a fraction, and every stamp there ever was."""

    def __init__(self) -> None:
        self.tokens, self.at = Fraction(BURST), 0
        self.stamps: list[int] = []

    def refill(self, now: int) -> None:
        self.tokens = min(Fraction(BURST), self.tokens + (now - self.at) * RATE)
        self.at = now

    def bucket_wait(self, cost: int) -> int:
        return max(0, ceil((cost - self.tokens) / RATE))

    def log_wait(self, cost: int, now: int) -> int:
        nth = MOST - cost + 1
        return max(0, self.stamps[-nth] + WINDOW - now) if len(self.stamps) >= nth else 0


class AgainstAModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.limiter = KeyedLimiter(BUCKET, LOG)
        self.bucket = KeyedBucket(Limit.parse(BUCKET))
        self.model = {key: PlainKey() for key in "abc"}
        self.buckets = {key: PlainKey() for key in "abc"}
        self.clock = 0
        # The latest time that each was told: what a clock showed in between nobody knows.
        self.now = self.bucket_now = 0

    @rule(step=steps, back=st.booleans())
    def time_passes(self, step: int, back: bool) -> None:
        # A step back must change nothing until the clock has caught up.
        self.clock = max(0, self.clock + (-step if back else step))

    @rule(key=keys, cost=costs)
    def admit(self, key: str, cost: int) -> None:
        self.now = max(self.now, self.clock)
        plain = self.model[key]
        plain.refill(self.now)
        expected = max(plain.bucket_wait(cost), plain.log_wait(cost, self.now))
        assert self.limiter.peek(key, self.clock, cost).allowed == (not expected)
        assert self.limiter.admit(key, self.clock, cost) == expected
        if not expected:
            plain.tokens -= cost
            plain.stamps += [self.now] * cost

    @rule(key=keys, cost=costs)
    def admit_by_the_bucket_alone(self, key: str, cost: int) -> None:
        self.bucket_now = max(self.bucket_now, self.clock)
        plain = self.buckets[key]
        plain.refill(self.bucket_now)
        expected = plain.bucket_wait(cost)
        assert self.bucket.admit_key(key, self.clock, cost) == expected
        if not expected:
            plain.tokens -= cost

    @rule(key=keys, cost=costs)
    def refund(self, key: str, cost: int) -> None:
        self.now = max(self.now, self.clock)
        plain = self.model[key]
        plain.refill(self.now)
        plain.tokens = min(Fraction(BURST), plain.tokens + cost)
        del plain.stamps[-cost:]
        self.limiter.refund(key, self.clock, cost)

    @rule()
    def tend(self) -> None:
        self.limiter.generations.tend(self.now)
        self.bucket.generations.tend(self.bucket_now)

    @invariant()
    def no_window_holds_more_than_its_limit(self) -> None:
        for plain in self.model.values():
            assert sum(stamp + WINDOW > self.now for stamp in plain.stamps) <= MOST


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
