"""Predictions that are off come back honest, and order is never changed."""

from __future__ import annotations

import numpy as np
import pytest

from heartcast.ranking.calibration import calibrate, calibration_error, log_loss, normalised_entropy


def skewed(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions that say three times the odds of what happens."""
    rng = np.random.default_rng(seed)
    true = rng.beta(1, 12, size=n)
    happened = (rng.random(n) < true).astype(np.float64)
    odds = 3 * true / (1 - true)
    return odds / (1 + odds), happened


@pytest.mark.parametrize("n", [3000, 40_000], ids=["two parameters", "isotonic"])
def test_what_was_off_by_three_is_honest_afterwards(n: int) -> None:
    calibrator = calibrate(*skewed(n, seed=1))
    predicted, happened = skewed(20_000, seed=2)

    honest = calibrator(predicted)

    assert calibration_error(predicted, happened) > 0.08
    assert calibration_error(honest, happened) < 0.015
    assert log_loss(honest, happened) < log_loss(predicted, happened)
    assert normalised_entropy(honest, happened) < 1


@pytest.mark.parametrize("n", [3000, 40_000])
def test_the_order_stays(n: int) -> None:
    calibrator = calibrate(*skewed(n, seed=1))

    chances = calibrator(np.linspace(0, 1, 1001))

    assert np.all(np.diff(chances) >= 0)
    assert chances.min() >= 0
    assert chances.max() <= 1


def test_outcomes_that_are_all_alike_teach_nothing() -> None:
    predicted = np.array([0.1, 0.9])

    np.testing.assert_array_equal(calibrate(predicted, np.zeros(2))(predicted), predicted)
    np.testing.assert_array_equal(calibrate(np.zeros(0), np.zeros(0))(predicted), predicted)


def test_predictions_that_separate_outcomes_perfectly_stay_finite() -> None:
    calibrator = calibrate(np.array([0.1] * 20 + [0.9] * 20), np.array([0.0] * 20 + [1.0] * 20))

    chances = calibrator(np.array([0.0, 0.1, 0.9, 1.0]))

    assert np.isfinite(chances).all()
    assert 0 < chances[1] < 0.1 < 0.9 < chances[2] < 1


def test_a_single_distinct_prediction_becomes_the_rate_that_was_seen() -> None:
    calibrator = calibrate(np.full(1000, 0.5), np.array([1.0] * 100 + [0.0] * 900))

    assert calibrator(np.array([0.5]))[0] == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize(
    ("predicted", "happened"),
    [([0.5], [1.0, 0.0]), ([1.5], [1.0]), ([float("nan")], [1.0]), ([0.5], [0.5])],
)
def test_columns_that_cannot_be_are_refused(predicted: list[float], happened: list[float]) -> None:
    with pytest.raises(ValueError, match="must"):
        calibrate(np.array(predicted), np.array(happened))


def test_a_coin_is_worth_ln_two() -> None:
    assert log_loss(np.full(4, 0.5), np.array([0.0, 1.0, 0.0, 1.0])) == pytest.approx(np.log(2))
    assert normalised_entropy(np.full(4, 0.5), np.array([0.0, 1.0, 0.0, 1.0])) == pytest.approx(1)
