from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.ranking.diversity import author_decay, mmr


def naive_mmr(scores, alike, count, trade_off):
    chosen = []
    while len(chosen) < min(count, len(scores)):
        left = [i for i in range(len(scores)) if i not in chosen]
        chosen.append(
            max(
                left,
                key=lambda i: (
                    trade_off * scores[i] - (1 - trade_off) * max([alike[i][j] for j in chosen], default=0)
                ),
            )
        )
    return chosen


@given(n=st.integers(0, 15), count=st.integers(0, 20), trade_off=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_the_fast_way_chooses_what_the_definition_chooses(n, count, trade_off, seed):
    dice = np.random.default_rng(seed)
    scores = dice.random(n)
    alike = dice.random((n, n))
    alike = (alike + alike.T) / 2
    chosen = mmr(scores, lambda i: alike[i], count, trade_off)
    assert chosen.tolist() == naive_mmr(scores, alike, count, trade_off)


def test_twins_do_not_stand_side_by_side():
    scores = np.array([1.0, 0.99, 0.5])
    alike = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1.0]])
    assert mmr(scores, lambda i: alike[i], 3, 0.5).tolist() == [0, 2, 1]
    assert mmr(scores, lambda i: alike[i], 3, 1.0).tolist() == [0, 1, 2]


def test_each_further_item_of_an_author_counts_half_down_to_a_quarter():
    scores = np.array([1.0, 0.9, 0.8, 0.7, 0.44, 0.19, 0.16])
    authors = ["ann", "ann", "ann", "ann", "bob", None, None]
    # ann: 1.0, then .9 * .5 = .45, .8 * .25 = .2, .7 * .25 = .175
    assert author_decay(scores, authors, 7).tolist() == [0, 1, 4, 2, 5, 3, 6]


def test_nobodys_items_do_not_count_as_one_author():
    assert author_decay(np.array([3.0, 2.0, 1.0]), [None, None, None], 2).tolist() == [0, 1]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_no_candidates_are_nothing_to_choose(count):
    assert author_decay(np.empty(0), [], count).tolist() == []
