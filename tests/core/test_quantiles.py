"""The histogram's promise: never below the true quantile, never more than 1/32 above it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.core.quantiles import Histogram, RollingHistogram, bucket_top

values = st.lists(st.integers(0, 10**11), min_size=1, max_size=200)
SECOND = 1_000_000_000


def filled(numbers: list[int]) -> Histogram:
    histogram = Histogram()
    for number in numbers:
        histogram.add(number)
    return histogram


@given(values, st.sampled_from([0.001, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0]))
def test_a_quantile_is_the_nearest_rank_and_at_most_a_thirty_second_above_it(
    numbers: list[int], q: float
) -> None:
    rank = max(1, math.ceil(round(q * len(numbers), 6)))
    exact = sorted(numbers)[rank - 1]

    answer = filled(numbers).quantile(q)

    assert answer is not None
    assert exact <= answer <= exact + exact / 32


@given(st.integers(0, 2**40 - 1))
def test_every_value_falls_into_the_bucket_whose_top_is_the_next_above_it(number: int) -> None:
    index = filled([number]).counts.index(1)

    assert number <= bucket_top(index)
    assert index == 0 or number > bucket_top(index - 1)


@given(values, values)
def test_merging_is_the_same_as_having_added_everything_to_one(first: list[int], second: list[int]) -> None:
    merged = filled(first)
    merged.merge(filled(second))

    assert (merged.counts, merged.sum) == (filled(first + second).counts, sum(first + second))


@given(st.integers(max_value=-1))
def test_a_negative_value_is_refused_and_leaves_no_count(number: int) -> None:
    histogram = filled([3])

    with pytest.raises(ValueError, match=">= 0"):
        histogram.add(number)

    assert list(histogram.buckets()) == [(3, 1)]


def test_values_beyond_twelve_days_count_in_the_last_bucket() -> None:
    assert filled([2**70]).quantile(1.0) == 2**40 - 1


def test_an_empty_histogram_has_no_quantile_and_a_wrong_q_is_refused() -> None:
    assert Histogram().quantile(0.5) is None
    for q in (0.0, 1.1, -1.0, math.nan):
        with pytest.raises(ValueError, match="q must be"):
            Histogram().quantile(q)


def test_a_rolling_histogram_forgets_slot_by_slot() -> None:
    rolling = RollingHistogram(10 * SECOND, 10, now_ns=0)
    rolling.add(100)
    rolling.advance(5 * SECOND)
    rolling.add(200)

    rolling.advance(9 * SECOND)
    assert rolling.total().count == 2
    rolling.advance(10 * SECOND)
    assert list(rolling.total().buckets()) == [(bucket_top(filled([200]).counts.index(1)), 1)]
    rolling.advance(10**6 * SECOND)
    assert rolling.total().count == 0
    rolling.add(1)
    assert rolling.total().count == 1
