from __future__ import annotations

from math import inf, isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.ranking.decay import HALF_LIVES_S, Decay, log_add, log_subtract

START_MS = 1_700_000_000_000


def test_half_of_a_score_is_left_after_one_half_life():
    decay = Decay(3600, START_MS)
    level = decay.level(1.0, START_MS)
    assert decay.score(level, START_MS) == 1.0
    assert decay.score(level, START_MS + 3_600_000) == 0.5
    assert decay.score(level, START_MS + 36_000_000) == 2**-10


def test_weight_and_age_mix_as_the_formula_says():
    decay = Decay(100, START_MS)
    assert isclose(decay.score(decay.level(3.0, START_MS + 50_000), START_MS + 250_000), 3 * 2**-2.0)


def test_adding_nothing_changes_nothing():
    assert log_add(-inf, 5.0) == log_add(5.0, -inf) == 5.0
    assert log_add(-inf, -inf) == -inf


@given(a=st.floats(-900, 900), b=st.floats(-900, 900))
def test_log_add_is_addition(a, b):
    assert isclose(log_add(a, b), log_add(b, a), rel_tol=0, abs_tol=0)
    whole = max(a, b)
    # Compared relative to the larger one, where a float can hold both.
    assert isclose(2 ** (log_add(a, b) - whole), 2 ** (a - whole) + 2 ** (b - whole), rel_tol=1e-12)


@given(a=st.floats(-500, 500), gap=st.floats(0.001, 50))
def test_subtracting_takes_back_what_was_added(a, gap):
    assert isclose(log_subtract(log_add(a, a - gap), a - gap), a, abs_tol=1e-9)


def test_nothing_is_left_when_all_or_more_is_taken():
    assert log_subtract(3.0, 3.0) == -inf
    assert log_subtract(3.0, 4.0) == -inf


def test_a_score_from_the_far_future_is_large_but_a_number():
    decay = Decay(1, START_MS)
    assert decay.score(decay.level(1.0, START_MS + 10**9), START_MS) == 2.0**1000


@pytest.mark.parametrize("half_life_s", [0, -1, inf, float("nan")])
def test_a_half_life_that_cannot_be_is_refused(half_life_s):
    with pytest.raises(ValueError, match="half_life_s"):
        Decay(half_life_s, 0)


def test_presets_are_the_half_lives_the_names_promise():
    assert [HALF_LIVES_S[name] / 60 for name in ("danmaku", "social", "long_tail", "hour")] == [7, 14, 69, 60]
