"""What a process takes for load, and what it does not."""

import pytest

from heartcast.app.load_watch import LoadWatch, Pace
from heartcast.gateway.options import HttpOptions
from heartcast.gateway.port import HttpPort
from heartcast.resilience.shedding import LoopLag, Priority, Shedder
from heartcast.testing import ManualClock

LOOK_S = 0.025


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.port = HttpPort(HttpOptions(), clock=self.clock)
        self.shedder = Shedder()
        lag = LoopLag(LOOK_S, self.clock.monotonic_s())
        self.watch = LoadWatch(self.port, self.shedder, lag, self.clock)

    def look(self, late_s: float = 0.0, *, came: int = 0, given: int = 0) -> None:
        self.clock.advance(LOOK_S + late_s)
        self.port.open_answers += came - given
        self.port.given += given
        self.watch.look()


@pytest.fixture
def world() -> World:
    return World()


def test_answers_that_pile_up_faster_than_they_are_given_are_load(world: World) -> None:
    levels = []
    for _ in range(20):
        # 4,000 a second are done, 12,000 come.
        world.look(came=300, given=100)
        levels.append(world.shedder.level)

    # 200 more each time. At this pace 400 take a tenth of a second, which is full; it is known from the
    # third look on.
    assert levels[:3] == [Priority.BEST_EFFORT, Priority.BEST_EFFORT, Priority.CRITICAL]
    assert set(levels[3:]) == {Priority.CRITICAL}


def test_the_share_that_passes_settles_at_what_can_be_done(world: World) -> None:
    passed = []
    for _ in range(400):
        came = sum(not world.shedder.refuses(Priority.NORMAL) for _ in range(300))
        world.look(came=came, given=min(100, world.port.open_answers + came))
        passed.append(came)

    assert 95 <= sum(passed[-100:]) / 100 <= 105
    assert min(passed[-100:]) > 60
    assert world.port.open_answers < 1500


def test_a_burst_that_is_worked_off_in_time_is_no_load(world: World) -> None:
    world.look(came=900)
    for _ in range(9):
        world.look(given=min(400, world.port.open_answers))
        assert world.shedder.level == Priority.BEST_EFFORT


def test_a_store_that_hangs_keeps_out_the_normal_when_many_wait_and_never_the_critical(world: World) -> None:
    for _ in range(10):
        world.look(came=150)
        assert not world.shedder.refuses(Priority.CRITICAL)
        assert world.shedder.refuses(Priority.NORMAL) == (world.port.open_answers >= 450)
    world.look(given=world.port.open_answers)
    assert world.shedder.level == Priority.BEST_EFFORT


def test_those_who_wait_for_something_to_happen_are_no_load(world: World) -> None:
    world.port.patient = 5000
    world.look(came=5000)
    for _ in range(10):
        world.look(came=1, given=1)
        assert world.shedder.level == Priority.BEST_EFFORT


def test_in_a_long_turn_the_requests_themselves_see_that_the_look_is_overdue(world: World) -> None:
    world.look()
    world.clock.advance(LOOK_S + 0.2)
    world.watch.peek()
    # What was late before the first of them was a hiccup, as far as anybody knows.
    assert world.shedder.level == Priority.BEST_EFFORT
    world.clock.advance(0.1)
    world.watch.peek()
    assert world.shedder.level == Priority.CRITICAL
    assert world.shedder.share == pytest.approx(0.5)

    world.look()
    assert world.shedder.level == Priority.BEST_EFFORT


def test_nobody_knows_a_pace_before_there_was_enough_to_do() -> None:
    pace = Pace(0.0)
    assert pace.wait_s(150, 0, 1.0) == 0.0
    assert pace.wait_s(10_000, 0, 2.0) == 0.0
    assert pace.wait_s(10_000, 1_000, 3.0) == pytest.approx(10.0)
