from __future__ import annotations

from itertools import permutations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from heartcast.ranking.fusion import draw, fuse
from heartcast.ranking.pareto import fronts, fronts_by_pairs
from heartcast.ranking.strategy import ARTICLE, BALANCED, Component, Fuser, Strategy


def rng(seed=0):
    return np.random.default_rng(seed)


def simulated(n=20_000, seed=7):
    """Independent measures spread as real ones are: rates near 5 and 3 %, seconds around 15."""
    dice = rng(seed)
    return {
        "ctr": dice.beta(2, 38, n),
        "cvr": dice.beta(1.5, 48, n),
        "watch": dice.lognormal(np.log(15), 1.0, n),
    }


def test_the_articles_json_is_taken_as_it_is():
    strategy = msgspec.json.decode(
        b'{"ctr":{"raw":0.1,"weight":0.4},"cvr":{"raw":0.02,"weight":0.35},'
        b'"watch":{"raw":33,"weight":0.25},"fuser":{"method":"pareto_rank","params":{"temperature":1.2}}}',
        type=Strategy,
    )
    assert strategy.fuser.temperature == 1.2
    assert {name: part.weight for name, part in strategy.components().items()} == {
        "ctr": 0.4,
        "cvr": 0.35,
        "watch": 0.25,
    }


def test_with_quantiles_every_measure_decides_what_its_weight_says():
    fused = fuse(BALANCED, simulated(), rng())
    for influence in fused.influence.values():
        assert influence.effective == pytest.approx(influence.expected, abs=0.05)


def test_on_the_articles_curves_watch_time_decides_nearly_everything():
    influence = fuse(ARTICLE, simulated(), rng()).influence
    assert influence["watch"].effective > 0.95
    assert influence["ctr"].effective < 0.2


def test_contributions_add_up_to_the_score():
    fused = fuse(BALANCED, simulated(100), rng())
    assert np.allclose(sum(fused.contributions.values()), fused.scores)
    assert np.all(np.diff(fused.scores[fused.order]) <= 0)


def test_a_negative_weight_prefers_less():
    strategy = Strategy(heads={"reports": Component(weight=-2.0)})
    fused = fuse(strategy, {"reports": np.array([3.0, 0.0, 9.0])}, rng())
    assert fused.order.tolist() == [1, 0, 2]
    assert fused.influence["reports"].effective == pytest.approx(-1)


def test_a_product_does_not_let_one_measure_buy_off_another():
    values = {"ctr": np.array([0.9, 0.5]), "cvr": np.array([0.0, 0.3])}
    parts = {
        "ctr": Component(weight=1, normalizer="identity"),
        "cvr": Component(weight=1, normalizer="identity"),
    }
    assert fuse(Strategy(**parts), values, rng()).order[0] == 0
    assert fuse(Strategy(**parts, fuser=Fuser(method="geometric")), values, rng()).order[0] == 1


@given(
    values=hnp.arrays(
        np.float64, st.tuples(st.integers(1, 40), st.integers(1, 4)), elements=st.integers(0, 5)
    )
)
def test_a_front_holds_what_only_earlier_fronts_dominate(values):
    ranks = fronts(values)
    assert ranks.tolist() == fronts_by_pairs(values).tolist()
    for i, row in enumerate(values):
        dominating = [
            ranks[j] for j, other in enumerate(values) if np.all(other >= row) and np.any(other > row)
        ]
        assert ranks[i] == (max(dominating) + 1 if dominating else 0)


def test_pareto_puts_fronts_in_order_and_the_weighted_sum_decides_inside():
    strategy = msgspec.structs.replace(BALANCED, fuser=Fuser(method="pareto_rank"))
    values = simulated(300)
    fused = fuse(strategy, values, rng())
    sums = fuse(BALANCED, values, rng()).scores
    assert np.all(np.diff(fused.fronts[fused.order]) >= 0)
    for front in range(3):
        inside = [index for index in fused.order if fused.fronts[index] == front]
        assert inside == sorted(inside, key=lambda index: -sums[index])


def test_what_is_missing_is_neither_first_nor_last():
    values = {"ctr": np.array([0.1, np.nan, 0.9])}
    fused = fuse(Strategy(ctr=Component(weight=1)), values, rng())
    assert fused.order.tolist() == [2, 1, 0]


def test_a_measure_nobody_has_changes_nothing():
    values = simulated(50)
    del values["cvr"]
    without = fuse(Strategy(ctr=BALANCED.ctr, watch=BALANCED.watch), values, rng())
    assert np.ptp(fuse(BALANCED, values, rng()).scores - without.scores) < 1e-12


def test_no_candidates_are_an_empty_order():
    fused = fuse(msgspec.structs.replace(BALANCED, fuser=Fuser(params={"temperature": 1.0})), {}, rng())
    assert fused.order.tolist() == []
    assert all(influence.effective == 0 for influence in fused.influence.values())


def test_drawn_orders_occur_as_often_as_plackett_and_luce_say():
    scores, temperature = np.array([0.0, 1.0, 2.5]), 0.8
    worth = np.exp((scores - scores.mean()) / scores.std() / temperature)
    dice = rng(1)
    orders = list(permutations(range(3)))
    seen = dict.fromkeys(orders, 0)
    for _ in range(6000):
        seen[tuple(draw(scores, temperature, dice)[0].tolist())] += 1
    expected = []
    for order in orders:
        chance, left = 1.0, worth.sum()
        for index in order:
            chance *= worth[index] / left
            left -= worth[index]
        expected.append(chance * 6000)
    assert stats.chisquare([seen[order] for order in orders], expected).pvalue > 1e-4


@given(
    scores=hnp.arrays(np.float64, st.integers(1, 30), elements=st.integers(-50, 50).map(lambda n: n / 10)),
    seed=st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_the_propensity_is_the_chance_among_those_still_in_the_urn(scores, seed):
    order, chances = draw(scores, 0.5, rng(seed))
    deviation = scores.std()
    strengths = (scores - scores.mean()) / deviation / 0.5 if deviation > 1e-9 else np.zeros(len(scores))
    worth = np.exp(strengths[order])
    expected = worth / np.cumsum(worth[::-1])[::-1]
    assert np.allclose(chances[order], expected, rtol=1e-6)
    assert sorted(order.tolist()) == list(range(len(scores)))


def test_the_same_seed_draws_the_same_order():
    scores = rng().normal(size=200)
    assert draw(scores, 1, rng(5))[0].tolist() == draw(scores, 1, rng(5))[0].tolist()
    assert draw(scores, 1, rng(5))[0].tolist() != draw(scores, 1, rng(6))[0].tolist()


def test_measures_of_different_length_are_refused():
    with pytest.raises(ValueError, match="one value per candidate"):
        fuse(BALANCED, {"ctr": np.zeros(2), "cvr": np.zeros(3)}, rng())


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (b"{}", "at least one measure"),
        (b'{"ctr":{"weight":0}}', "at least one measure"),
        (b'{"ctr":{"weight":1e9}}', "weight: must be finite"),
        (b'{"ctr":{"weight":1,"normalizer":"softmax"}}', "Invalid enum value 'softmax'"),
        (b'{"ctr":{"weight":1},"fuser":{"method":"lottery"}}', "Invalid enum value 'lottery'"),
        (
            b'{"ctr":{"weight":1},"fuser":{"params":{"temperature":-1}}}',
            "params.temperature: must be 0 to 100",
        ),
        (b'{"ctr":{"weight":1},"fuser":{"params":{"speed":1}}}', "params.speed: unknown"),
        (b'{"heads":{"ctr":{"weight":1}}}', "heads.ctr: give it beside heads"),
        (b'{"ctr":{"weight":-1},"fuser":{"method":"geometric"}}', "ctr.weight: must be >= 0"),
        (
            b'{"ctr":{"weight":1,"normalizer":"zscore"},"fuser":{"method":"geometric"}}',
            "ctr.normalizer: must not",
        ),
        (b'{"ctr":{"weight":1},"colour":1}', "unknown field `colour`"),
    ],
)
def test_a_strategy_that_cannot_work_says_what_is_wrong(document, complaint):
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.json.decode(document, type=Strategy)
