"""When messages are due."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.loadtest.arrivals import Arrivals, Piece, Zipf, pieces, stairs

rates = st.floats(1, 500)


def all_of(arrivals: Arrivals) -> list[float]:
    return arrivals.due(1e9, at_most=1_000_000)


def test_constant_arrivals_of_a_steady_rate_are_evenly_spaced() -> None:
    moments = all_of(Arrivals(pieces("steady", rate_per_s=4, peak_per_s=4, seconds=2)))
    assert moments == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0])


@given(
    shape=st.sampled_from(["steady", "ramp", "step", "spike", "sweep"]),
    rate=rates,
    factor=st.floats(1, 5),
    seconds=st.floats(0.1, 20),
)
def test_constant_arrivals_are_as_many_as_the_area_under_the_rate(shape, rate, factor, seconds) -> None:
    schedule = pieces(shape, rate_per_s=rate, peak_per_s=rate * factor, seconds=seconds)
    moments = all_of(Arrivals(schedule))
    assert abs(len(moments) - sum(piece.count for piece in schedule)) <= 1
    assert moments == sorted(moments)
    assert all(0 <= moment <= seconds * (1 + 1e-9) for moment in moments)


def test_a_ramp_from_0_to_10_a_second_has_a_quarter_of_its_arrivals_in_the_first_half() -> None:
    moments = all_of(Arrivals([Piece(100.0, 0.0, 10.0)]))
    assert len(moments) == 500
    assert sum(moment <= 50 for moment in moments) == 125


def test_poisson_arrivals_have_the_mean_and_the_variance_of_a_poisson_process() -> None:
    moments = all_of(Arrivals([Piece(2_000.0, 20.0, 20.0)], Random(5)))
    per_second = [0] * 2_000
    for moment in moments:
        per_second[int(moment)] += 1
    mean = sum(per_second) / 2_000
    variance = sum((n - mean) ** 2 for n in per_second) / 2_000
    # Four standard errors of the mean (0.1) and of the variance (0.64) at 2,000 samples.
    assert mean == pytest.approx(20, abs=0.4)
    assert variance == pytest.approx(20, abs=2.6)


def test_a_spike_has_its_poisson_arrivals_where_the_rate_is_high() -> None:
    schedule = pieces("spike", rate_per_s=100, peak_per_s=1_000, seconds=10)
    moments = all_of(Arrivals(schedule, Random(5)))
    inside = sum(4 <= moment < 6 for moment in moments)
    assert inside == pytest.approx(2_000, abs=180)
    assert len(moments) - inside == pytest.approx(800, abs=115)


@given(cuts=st.lists(st.floats(0, 3), max_size=20), rate=rates)
def test_asking_often_or_once_gives_the_same_moments(cuts, rate) -> None:
    schedule = [Piece(3.0, rate, rate * 2)]
    often = Arrivals(schedule, Random(1))
    parts = [moment for now in sorted(cuts) for moment in often.due(now)]
    assert parts + all_of(often) == all_of(Arrivals(schedule, Random(1)))


def test_no_more_are_given_at_a_time_than_asked_for_and_the_rest_stays_due() -> None:
    arrivals = Arrivals([Piece(1.0, 100.0, 100.0)])
    assert len(arrivals.due(1.0, at_most=60)) == 60
    assert len(arrivals.due(1.0, at_most=60)) == 40
    assert arrivals.next_s == math.inf


@pytest.mark.parametrize("field", ["rate_per_s", "peak_per_s", "seconds"])
def test_a_rate_or_length_that_is_not_positive_is_refused(field) -> None:
    good = {"rate_per_s": 1.0, "peak_per_s": 1.0, "seconds": 1.0}
    with pytest.raises(ValueError, match="must be > 0"):
        pieces("ramp", **{**good, field: 0.0})


def test_stairs_rise_by_one_factor() -> None:
    assert stairs(100, 800, 4) == pytest.approx([100, 200, 400, 800])
    assert stairs(100, 800, 1) == [800]


def test_zipf_draws_follow_their_weights() -> None:
    zipf = Zipf(3, 1.0, Random(3))
    drawn = [0, 0, 0]
    for _ in range(11_000):
        drawn[zipf.draw()] += 1
    # Weights 6 : 3 : 2 of 11; four standard errors are about 210.
    assert drawn == pytest.approx([6_000, 3_000, 2_000], abs=210)


def test_zipf_with_exponent_0_treats_all_alike() -> None:
    zipf = Zipf(4, 0.0, Random(3))
    drawn = [0, 0, 0, 0]
    for _ in range(8_000):
        drawn[zipf.draw()] += 1
    assert drawn == pytest.approx([2_000] * 4, abs=160)
