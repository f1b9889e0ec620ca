from __future__ import annotations

import numpy as np
import pytest

from heartcast.ranking.evaluate.metrics import evaluate
from heartcast.ranking.evaluate.serving import JOINS, choose_served, choose_shares, judge_source, questions
from heartcast.ranking.interactions import interactions
from heartcast.ranking.recommenders import Nearby, Popular


@pytest.fixture(scope="module")
def known():
    """Four circles of people; each hearts most of the ten items of its own."""
    dice = np.random.default_rng(4)
    rows = [
        (user, user % 4 * 10 + item, 1000 * step + user)
        for user in range(60)
        for step, item in enumerate(dice.permutation(10)[:7])
    ]
    table = np.array(rows)
    return interactions(*table.T, np.ones(len(table)), 60, 40)


def test_a_source_gets_here_what_the_evaluation_gives_it(known):
    asked = questions(known, 5000.0, 2)
    found = judge_source(Popular(), asked)
    for splits, value in ((asked.newest, found.newest), (asked.latest, found.latest)):
        theirs = [evaluate(Popular(), split, (10,)).overall["nDCG@10"] for split in splits]
        assert value == pytest.approx(np.mean(theirs))
    assert found.score == pytest.approx((found.newest * found.latest) ** 0.5)


def test_nothing_is_asked_by_time_of_what_comes_after_the_moment(known):
    asked = questions(known, 3500.0, 2)
    for split in asked.latest:
        assert split.held_out.times_s.max() < 3500
        assert split.train.times_s.max() < split.held_out.times_s.min()


def test_the_source_that_knows_gets_the_share_and_the_ways_of_joining_are_all_tried(known):
    asked = questions(known, 5000.0, 2)
    mixed = choose_shares([Nearby(), Popular()], asked, 4)
    assert len({(one.join, one.shares) for one in mixed}) == 3 * 5
    assert {one.join for one in mixed} == set(JOINS)
    assert mixed == sorted(mixed, reverse=True)
    assert mixed[0].shares[0] > mixed[0].shares[1]
    alone = next(one for one in mixed if one.shares == (0.0, 1.0) and one.join == "zscore")
    assert alone.score == pytest.approx(judge_source(Popular(), asked).score, abs=0.01)


def test_the_best_of_every_source_is_what_is_joined(known):
    asked = questions(known, 5000.0, 2)
    chosen = choose_served(asked, {"items": [Nearby(reach=1), Nearby()], "hot": [Popular()]})
    assert list(chosen.sources) == ["items", "hot"]
    assert chosen.sources["items"][0].score == max(
        judge_source(one, asked).score for one in (Nearby(reach=1), Nearby())
    )
    assert chosen.mixed[0].score >= chosen.sources["items"][0].score - 0.01
