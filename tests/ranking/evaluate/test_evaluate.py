from __future__ import annotations

from math import log2

import numpy as np
import pytest

from heartcast.ranking.evaluate.bootstrap import difference, interval
from heartcast.ranking.evaluate.choice import choose, origins
from heartcast.ranking.evaluate.metrics import evaluate, mid_ranks
from heartcast.ranking.evaluate.splits import Split, global_time, leave_last_out, ratio
from heartcast.ranking.interactions import interactions


def events(*rows, n_users=None, n_items=None):
    """Rows of (user, item, second)."""
    table = np.array(rows, dtype=np.int64)
    return interactions(
        table[:, 0],
        table[:, 1],
        table[:, 2],
        np.ones(len(table)),
        n_users or int(table[:, 0].max()) + 1,
        n_items or int(table[:, 1].max()) + 1,
    )


def pairs(part):
    return list(zip(part.users.tolist(), part.items.tolist(), strict=True))


class Fixed:
    """Recommends by a table of scores."""

    def __init__(self, scores):
        self.scores = np.array(scores, dtype=np.float64)

    def fit(self, train):
        return lambda users: self.scores[users].copy()


def test_leaving_the_last_out_hides_the_newest_event_of_each_user():
    split = leave_last_out(events((0, 0, 30), (0, 1, 10), (0, 2, 20), (1, 1, 5), (1, 0, 9), (2, 2, 1)))
    assert pairs(split.held_out) == [(0, 0), (1, 0)]
    assert pairs(split.train) == [(0, 1), (0, 2), (1, 1)]


def test_going_further_back_hides_the_later_events_altogether():
    split = leave_last_out(events((0, 0, 30), (0, 1, 10), (0, 2, 20), (1, 1, 5), (1, 0, 9)), back=1)
    assert pairs(split.held_out) == [(0, 2)]
    assert pairs(split.train) == [(0, 1)]


def test_a_global_split_asks_only_for_what_could_be_known():
    split = global_time(
        events((0, 0, 1), (1, 1, 2), (0, 1, 8), (2, 0, 9), (1, 2, 10), (1, 0, 11)),
        0.4,
    )
    # User 2 is new, item 2 is new: neither can be asked about.
    assert pairs(split.held_out) == [(0, 1), (1, 0)]
    assert split.train.times_s.max() < split.held_out.times_s.min()


def test_a_ratio_split_loses_nothing_and_repeats_with_its_seed():
    everything = events(*[(n % 7, n % 11, n) for n in range(500)])
    split = ratio(everything, 0.25, seed=3)
    assert len(split.train) + len(split.held_out) == 500
    assert 90 < len(split.held_out) < 160
    assert pairs(split.train) == pairs(ratio(everything, 0.25, seed=3).train)


def test_ties_count_half_above_and_half_below():
    assert mid_ranks(np.array([5.0, 3.0, 3.0, 3.0, 1.0]), np.array([1])).tolist() == [3.0]
    assert mid_ranks(np.full(101, 2.0), np.array([7])).tolist() == [51.0]


def test_metrics_equal_a_calculation_by_hand():
    # Items by score: 4 3 2 1 0; 4 was had before, so 3 2 1 0 are ranked 1 to 4.
    split = Split(
        events((0, 4, 1), n_items=5),
        events((0, 3, 2), (0, 1, 3), n_users=1, n_items=5),
    )
    overall = evaluate(Fixed([[0, 1, 2, 3, 4]]), split, cutoffs=(2, 3)).overall
    assert overall["R@2"] == 0.5
    assert overall["R@3"] == 1.0
    ideal = 1 + 1 / log2(3)
    assert overall["nDCG@2"] == pytest.approx(1 / ideal)
    assert overall["nDCG@3"] == pytest.approx((1 + 1 / log2(4)) / ideal)
    assert overall["MAP@3"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert overall["MRR"] == 1.0
    assert overall["coverage@2"] == 2 / 5
    assert overall["novelty@2"] == pytest.approx(log2(2))


def test_what_the_user_had_before_is_never_asked_for():
    split = Split(events((0, 0, 1), n_items=3), events((0, 0, 2), (0, 1, 3), n_users=1, n_items=3))
    assert evaluate(Fixed([[9, 5, 1]]), split, cutoffs=(1,)).overall["R@1"] == 1.0


def test_a_model_that_scores_all_alike_gets_what_chance_gives():
    n_items = 1000
    split = Split(
        events((0, 0, 1), n_users=1, n_items=n_items), events((0, 500, 2), n_users=1, n_items=n_items)
    )
    report = evaluate(Fixed(np.zeros((1, n_items))), split)
    assert report.overall["MRR"] == pytest.approx(1 / 500)
    assert report.overall["R@10"] == 0


def test_origins_ask_for_ever_earlier_events_and_never_show_later_ones():
    known = events(*[(user, user + step, 100 * user + step) for user in range(3) for step in range(6)])
    for back, split in enumerate(origins(known, 4)):
        for user in range(3):
            asked = split.held_out.times_s[split.held_out.users == user]
            assert asked.tolist() == [100 * user + 5 - back]
            assert split.train.times_s[split.train.users == user].max() < asked[0]


def test_the_choice_takes_the_best_on_average():
    known = events((0, 0, 1), (0, 1, 2), (0, 2, 3))
    good, bad = Fixed([[0, 6, 5]]), Fixed([[9, 1, 2]])
    best = choose([bad, good], origins(known, 2))
    assert best[0].recommender is good
    assert best[0].score > best[1].score


def test_an_interval_holds_the_mean_it_was_drawn_around():
    dice = np.random.default_rng(1)
    held = 0
    for seed in range(100):
        found = interval(dice.normal(0.3, 1, 200), seed, draws=400)
        assert found.low < found.mean < found.high
        held += found.low < 0.3 < found.high
    assert 88 <= held <= 100


def test_a_paired_difference_sees_what_single_intervals_hide():
    dice = np.random.default_rng(2)
    base = dice.normal(0, 1, 300)
    better = base + 0.05 + dice.normal(0, 0.05, 300)
    assert interval(base).high > interval(better).low
    assert difference(better, base).low > 0


def test_only_the_same_users_can_be_paired():
    with pytest.raises(ValueError, match="same users"):
        difference(np.zeros(3), np.zeros(4))
