"""A deadline fires once, never early, at most one tick late."""

from hypothesis import given
from hypothesis import strategies as st

from heartcast.core.wheel import TimingWheel

TICK_S = 0.25


@given(
    st.lists(st.floats(0, 100), max_size=50),
    st.lists(st.floats(0.01, 40), min_size=1, max_size=50),
    st.integers(1, 64),
)
def test_every_deadline_fires_once_at_the_first_advance_a_tick_after_it(
    deadlines_s: list[float], steps_s: list[float], slots: int
) -> None:
    wheel = TimingWheel(TICK_S, slots, now_s=0.0)
    fired: dict[int, float] = {}
    now_s = 0.0

    def fire(index: int) -> None:
        assert index not in fired
        fired[index] = now_s

    for index, deadline_s in enumerate(deadlines_s):
        wheel.at(deadline_s, lambda index=index: fire(index))
    for step_s in steps_s:
        now_s += step_s
        wheel.advance(now_s)
        for index, deadline_s in enumerate(deadlines_s):
            if index in fired:
                assert fired[index] >= deadline_s
            else:
                assert now_s < deadline_s + 2 * TICK_S


def test_a_cancelled_deadline_never_fires() -> None:
    wheel = TimingWheel(TICK_S, 8, now_s=0.0)
    fired: list[str] = []
    timer = wheel.at(1.0, lambda: fired.append("cancelled"))
    wheel.at(1.0, lambda: fired.append("kept"))
    timer.cancel()
    wheel.advance(10.0)

    assert fired == ["kept"]


def test_a_callback_may_set_the_next_deadline_of_its_own_chain() -> None:
    wheel = TimingWheel(TICK_S, 4, now_s=0.0)
    fired_s: list[float] = []

    def again(now_s: float) -> None:
        fired_s.append(now_s)
        wheel.at(now_s + 1.0, lambda: again(now_s + 1.0))

    wheel.at(1.0, lambda: again(1.0))
    for quarter in range(1, 17):
        wheel.advance(quarter * TICK_S)

    assert fired_s == [1.0, 2.0, 3.0, 4.0]


def test_a_callback_that_raises_is_counted_and_the_others_fire() -> None:
    wheel = TimingWheel(TICK_S, 4, now_s=0.0)
    fired: list[int] = []
    wheel.at(0.5, lambda: fired.append(1 // 0))
    wheel.at(0.5, lambda: fired.append(2))
    wheel.advance(1.0)

    assert fired == [2]
    assert wheel.failed == 1
