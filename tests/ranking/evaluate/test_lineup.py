from __future__ import annotations

import numpy as np
import pytest

from heartcast.ranking.evaluate import lineup
from heartcast.ranking.evaluate.choice import origins
from heartcast.ranking.evaluate.metrics import evaluate
from heartcast.ranking.evaluate.splits import global_time, leave_last_out
from heartcast.ranking.interactions import interactions
from heartcast.ranking.recommenders import Blend, ItemKnn, Nearby, Popular


@pytest.fixture(scope="module")
def known():
    dice = np.random.default_rng(9)
    rows = [
        (user, (user % 3) * 8 + item, 100 * step + user)
        for user in range(24)
        for step, item in enumerate(dice.permutation(8)[:7])
    ]
    columns = np.array(rows).T
    return interactions(*columns, np.full(len(rows), 0.8), 24, 24)


def test_the_choice_of_shares_is_the_blends_own_score_best_first(known):
    parts = [Nearby(), ItemKnn(), Popular()]
    found = lineup.choose_blend(known, parts)
    assert len(found) == 21
    scores = [score for score, _ in found]
    assert scores == sorted(scores, reverse=True)
    best, shares = found[0]
    blend = Blend([(share, part) for share, part in zip(shares, parts, strict=True) if share])
    afresh = [evaluate(blend, split, (10,)).overall["nDCG@10"] for split in origins(known)]
    assert best == pytest.approx(sum(afresh) / len(afresh))


@pytest.mark.parametrize("choose", [lineup.choose_nearby, lineup.choose_item, lineup.choose_ease])
def test_every_grid_is_judged_best_first(known, choose):
    judged = choose(known)
    assert [one.score for one in judged] == sorted((one.score for one in judged), reverse=True)


def test_gains_are_counted_from_the_base_line(known):
    entries = [lineup.Entry("popularity", Popular()), lineup.Entry("items", ItemKnn())]
    base, items = lineup.compare(entries, leave_last_out(known), "popularity")
    assert base.gain is None
    assert items.gain.mean == pytest.approx(items.interval.mean - base.interval.mean)


def test_the_line_up_for_a_split_by_time_is_chosen_before_the_split(known):
    entries = lineup.global_entries(known, 0.8)
    # Only what came before is looked at: changing what comes after changes no choice.
    before = global_time(known, 0.8).train
    moved = interactions(
        known.users,
        np.where(known.times_s > before.times_s.max(), 0, known.items),
        known.times_s,
        known.weights,
        known.n_users,
        known.n_items,
    )
    assert [str(entry) for entry in lineup.global_entries(moved, 0.8)] == [str(entry) for entry in entries]
