"""A store that fails is left alone, found again, and not mistaken for one that is busy."""

from random import Random

from heartcast.core.errors import StoreBusy, StoreUnavailable
from heartcast.hearts.gate import Gate
from heartcast.hearts.options import STORE_BREAKER
from heartcast.testing import ManualClock

GONE = StoreUnavailable("gone")


class Door:
    """A gate and a store that answers what the test says."""

    def __init__(self, clock: ManualClock) -> None:
        self.gate = Gate("hearts_writes", STORE_BREAKER, clock, Random(1))
        self.asked = 0

    def call(self, answer: int | StoreUnavailable) -> int | StoreUnavailable:
        told: list[int | StoreUnavailable] = []
        done = self.gate.enter(told.append)
        if done is not None:
            self.asked += 1
            done(answer)
        [result] = told
        return result


def test_enough_failures_keep_callers_away_and_say_when_to_come_back(clock: ManualClock) -> None:
    door = Door(clock)
    for _ in range(100):
        result = door.call(GONE)

    assert door.asked == STORE_BREAKER.min_calls
    assert not door.gate.is_closed
    assert isinstance(result, StoreUnavailable)
    assert result is not GONE
    assert result.retry_after_s >= 1


def test_a_store_that_works_again_is_found_by_a_few_probes(clock: ManualClock) -> None:
    door = Door(clock)
    for _ in range(20):
        door.call(GONE)
    clock.advance(2)
    assert [door.call(at) for at in range(5)] == [0, 1, 2, 3, 4]
    assert door.gate.is_closed


def test_being_busy_opens_nothing(clock: ManualClock) -> None:
    door = Door(clock)
    busy = StoreBusy("too many hearts wait")

    assert {door.call(busy) for _ in range(500)} == {busy}
    assert (door.asked, door.gate.is_closed) == (500, True)


def test_slowness_alone_opens_nothing(clock: ManualClock) -> None:
    door = Door(clock)
    for at in range(100):
        told: list[int | StoreUnavailable] = []
        done = door.gate.enter(told.append)
        assert done is not None
        clock.advance(3)
        done(at)
        assert told == [at]
    assert door.gate.is_closed
