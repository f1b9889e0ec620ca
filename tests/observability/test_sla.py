"""The share of pushes in time: a window that moves, and silence where there is too little to tell."""

import pytest

from heartcast.observability.sla import LEAST, WINDOW_S, SlaRatio, Timely
from heartcast.testing import ManualClock


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.good = self.total = 0
        self.ratio = SlaRatio(self.clock.monotonic_s, lambda: {("realtime",): Timely(self.good, self.total)})

    def happens(self, good: int, bad: int = 0) -> None:
        self.good += good
        self.total += good + bad

    def look_after(self, seconds: float) -> float | None:
        self.clock.advance(seconds)
        return self.ratio().get(("realtime",))


def test_an_outage_shows_at_once_and_is_over_a_minute_after_its_end() -> None:
    world = World()
    world.happens(1_000)
    assert world.look_after(15) == 1.0
    world.happens(100, 300)
    assert world.look_after(15) == pytest.approx(1_100 / 1_400)
    seen = []
    for _ in range(6):
        world.happens(100)
        seen.append(world.look_after(15))
    assert seen[1] == pytest.approx(1_300 / 1_600)
    assert seen[3:] == [1.0] * 3


def test_with_few_pushes_there_is_no_share() -> None:
    world = World()
    world.happens(LEAST - 1)
    assert world.look_after(1) is None
    world.happens(0, 1)
    assert world.look_after(1) == (LEAST - 1) / LEAST
    assert world.look_after(2 * WINDOW_S) is None


def test_looks_that_come_often_are_not_kept_for_ever() -> None:
    world = World()
    for _ in range(10_000):
        world.look_after(0.1)
    assert len(world.ratio._looks) <= WINDOW_S / 0.1 + 2
