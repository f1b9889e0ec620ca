"""When pushes are merged: up while the other side fails, down when it is well, still in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.push.merging import Merging, MergingOptions

SECOND_NS = 1_000_000_000


class Downstream:
    """Seconds of requests, of which so many fail."""

    def __init__(self, **options: float) -> None:
        self.merging = Merging(MergingOptions(**options))  # type: ignore[arg-type]
        self.now_ns = 0

    def second(self, requests: int, failures: int) -> int:
        for number in range(requests):
            self.merging.record(failed=number < failures)
        self.now_ns += SECOND_NS
        return self.merging.look(self.now_ns)

    def seconds(self, count: int, requests: int, failures: int) -> list[int]:
        return [self.second(requests, failures) for _ in range(count)]


def test_half_of_the_requests_failing_doubles_the_size_every_second_up_to_fifty() -> None:
    assert Downstream().seconds(8, 100, 50) == [2, 4, 8, 16, 32, 50, 50, 50]


def test_a_side_that_is_well_again_gets_single_requests_again_step_by_step() -> None:
    downstream = Downstream(window_s=1)
    downstream.seconds(6, 100, 50)
    assert downstream.seconds(13, 100, 0) == [50, 50, 45, 40, 35, 30, 25, 20, 15, 10, 5, 1, 1]


def test_three_per_cent_is_the_border() -> None:
    assert Downstream().second(100, 3) == 1
    assert Downstream().second(100, 4) == 2


def test_between_the_thresholds_nothing_moves() -> None:
    downstream = Downstream(window_s=1)
    downstream.seconds(3, 100, 50)
    assert downstream.seconds(20, 100, 2) == [8] * 20


def test_one_failure_among_few_is_no_verdict() -> None:
    # Six, twelve and eighteen requests are too few to tell, twenty-four are enough.
    assert Downstream().seconds(4, 6, 3) == [1, 1, 1, 2]
    assert Downstream(window_s=1).seconds(20, 19, 19) == [1] * 20


def test_while_nothing_is_tried_the_size_stays() -> None:
    downstream = Downstream()
    downstream.seconds(4, 100, 50)
    assert downstream.seconds(4, 0, 0)[-1] == downstream.seconds(20, 0, 0)[-1]


def test_few_merged_requests_that_go_well_are_enough_to_come_down() -> None:
    downstream = Downstream(window_s=1)
    downstream.seconds(6, 100, 100)
    assert downstream.seconds(20, 2, 0)[-1] == 1


def test_a_lone_failure_does_not_let_it_come_down() -> None:
    downstream = Downstream(window_s=1)
    downstream.seconds(6, 100, 100)
    assert downstream.seconds(5, 3, 1) == [50] * 5


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=60))
def test_the_size_stays_in_its_bounds_and_at_most_doubles(seconds: list[tuple[int, int]]) -> None:
    downstream = Downstream()
    before = 1
    for requests, failures in seconds:
        size = downstream.second(requests, min(failures, requests))
        assert 1 <= size <= 50
        assert before - 5 <= size <= before * 2
        before = size


@pytest.mark.parametrize(
    "options", [{"above": 0.0}, {"above": 1.0}, {"below": 0.5}, {"most": 0}, {"window_s": 0}, {"step": 0}]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        MergingOptions(**options)  # type: ignore[arg-type]
