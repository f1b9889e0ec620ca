from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from heartcast.ranking.evaluate.bootstrap import interval
from heartcast.ranking.evaluate.off_policy import Log, dr, ips, snips, snips_interval
from heartcast.ranking.evaluate.open_bandit import as_if_by, read_exposures

FOLDER = (
    Path(os.environ.get("HEARTCAST_DATA", Path(__file__).parents[4] / "shared" / "data")) / "ranking" / "obd"
)


def drawn(n, seed, logging, target, rates):
    """A log of a policy that draws actions by ``logging``, to be judged for ``target``."""
    dice = np.random.default_rng(seed)
    actions = dice.choice(len(rates), n, p=logging)
    rewards = (dice.random(n) < np.array(rates)[actions]).astype(np.float64)
    return actions, Log(rewards, np.array(logging)[actions], np.array(target)[actions])


LOGGING, TARGET, RATES = (0.6, 0.3, 0.1), (0.1, 0.2, 0.7), (0.1, 0.3, 0.5)
TRUTH = sum(chance * rate for chance, rate in zip(TARGET, RATES, strict=True))


def test_the_estimators_find_what_the_other_policy_earns():
    actions, log = drawn(200_000, 1, LOGGING, TARGET, RATES)
    assert float(log.rewards.mean()) < 0.22 < TRUTH
    assert ips(log) == pytest.approx(TRUTH, abs=0.01)
    assert snips(log) == pytest.approx(TRUTH, abs=0.01)
    wrong = np.array([0.2, 0.2, 0.2])
    assert dr(log, wrong[actions], np.full(len(actions), 0.2)) == pytest.approx(TRUTH, abs=0.01)


def test_a_good_model_steadies_the_doubly_robust_estimate():
    plain, doubly = [], []
    for seed in range(60):
        actions, log = drawn(300, seed, LOGGING, TARGET, RATES)
        plain.append(ips(log))
        doubly.append(dr(log, np.array(RATES)[actions], np.full(len(actions), TRUTH)))
    assert np.std(doubly) < 0.8 * np.std(plain)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    held = 0
    for seed in range(100):
        _, log = drawn(500, seed, LOGGING, TARGET, RATES)
        found = snips_interval(log, seed, draws=300)
        held += found.low <= TRUTH <= found.high
    assert held >= 86


def test_the_same_policy_earns_what_it_earned():
    _, log = drawn(1000, 3, LOGGING, LOGGING, RATES)
    assert ips(log) == snips(log) == pytest.approx(float(log.rewards.mean()))
    assert log.effective_n == pytest.approx(1000)


def test_policies_that_share_nothing_cannot_be_compared():
    log = Log(np.ones(5), np.full(5, 0.5), np.zeros(5))
    assert np.isnan(snips(log))
    assert log.effective_n == 0


@pytest.mark.parametrize(
    ("propensities", "targets"),
    [([0.0, 0.5], [0.5, 0.5]), ([1.5, 0.5], [0.5, 0.5]), ([0.5, 0.5], [-0.1, 0.5]), ([0.5], [0.5])],
)
def test_chances_that_cannot_be_are_refused(propensities, targets):
    with pytest.raises(ValueError, match="must"):
        Log(np.ones(2), np.array(propensities), np.array(targets))


with_data = [
    pytest.mark.data,
    pytest.mark.skipif(
        not FOLDER.is_dir(),
        reason="not checked: off-policy estimates on Open Bandit (no data; see HEARTCAST_DATA)",
    ),
]


def exposures(policy, campaign):
    return read_exposures(FOLDER / policy / campaign / f"{campaign}.csv")


@pytest.mark.parametrize("campaign", [pytest.param(name, marks=with_data) for name in ("men", "women")])
def test_on_real_logs_the_estimate_agrees_with_what_the_other_policy_earned(campaign):
    random, bts = exposures("random", campaign), exposures("bts", campaign)
    earned = interval(bts.clicks)
    log = as_if_by(random, bts)
    assert log.effective_n > 3000
    assert earned.low <= snips(log) <= earned.high


@pytest.mark.parametrize("campaign", [pytest.param("women", marks=with_data)])
def test_a_log_that_hardly_shows_what_the_other_would_do_says_so(campaign):
    # The sampler had settled on few items: two exposures decide what random would have earned.
    log = as_if_by(exposures("bts", campaign), exposures("random", campaign))
    assert log.effective_n < 10
    found = snips_interval(log)
    assert found.high > 10 * found.low
