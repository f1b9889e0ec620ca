from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heartcast.ranking.scaling import NORMALIZERS, scale

anything = hnp.arrays(np.float64, st.integers(0, 50), elements=st.floats(allow_nan=True, allow_infinity=True))


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@given(values=anything)
@settings(deadline=None)
def test_no_input_makes_anything_but_finite_numbers(normalizer, values):
    scaled = scale(normalizer, values)
    assert scaled.shape == values.shape
    assert np.all(np.isfinite(scaled))


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@given(values=hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(-1e6, 1e6)))
@settings(deadline=None)
def test_a_higher_value_never_scales_lower(normalizer, values):
    scaled = scale(normalizer, values)[np.argsort(values, kind="stable")]
    assert np.all(np.diff(scaled) >= 0)


def test_the_curves_of_the_article_are_what_their_names_say():
    values = np.array([0.0, 0.5, 30.0])
    assert scale("identity", values).tolist() == values.tolist()
    assert scale("sigmoid", values)[1] == pytest.approx(1 / (1 + np.exp(-1.5)))
    assert scale("log1p", values)[2] == pytest.approx(np.log(2))


def test_quantiles_are_the_share_below_with_ties_in_the_middle():
    assert scale("quantile", np.array([5.0, 1.0, 5.0, 9.0])).tolist() == [0.5, 0.125, 0.5, 0.875]


def test_what_is_missing_counts_as_the_median():
    assert scale("identity", np.array([1.0, np.nan, 3.0, 100.0]))[1] == 3.0
    assert scale("quantile", np.array([np.nan, np.nan])).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("normalizer", ["quantile", "zscore", "minmax"])
def test_values_that_do_not_differ_do_not_differ_afterwards(normalizer):
    assert len(set(scale(normalizer, np.full(7, 0.1)).tolist())) == 1
