"""Making predicted chances mean what they say, and measuring how far they do.

A model that says 0.2 is calibrated when one in five of those come true. Weights of a strategy
act on such chances, so a head that is off by a factor of three takes three times the part it
was given. ``calibrate`` learns a monotone map from predictions and outcomes: isotonic
regression (pool adjacent violators; Ayer et al. 1955) where there is enough to see its shape,
a logistic curve with two parameters (Platt 1999) where there is not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from heartcast.ranking.interactions import Floats

Calibrator = Callable[[Floats], Floats]
"""Predictions in [0, 1] to chances in [0, 1], float64[n], never falling."""

LEAST_FOR_ISOTONIC = 1000
"""Positive outcomes from which the shape of the map can be seen; below, two parameters."""
_EPSILON = 1e-6
_BINS = 15
_NEWTON_STEPS = 50


def calibrate(predicted: Floats, happened: Floats) -> Calibrator:
    """Learn what predictions are worth.

    Args:
        predicted: Chances that were predicted, float64[n], in [0, 1].
        happened: 1.0 where it came true, else 0.0: float64[n].

    Raises:
        ValueError: the columns differ in length, or hold something else.
    """
    _check(predicted, happened)
    if len(predicted) == 0 or happened.min() == happened.max():
        return lambda chances: chances
    if happened.sum() >= LEAST_FOR_ISOTONIC:
        return _isotonic(predicted, happened)
    return _platt(predicted, happened)


def log_loss(predicted: Floats, happened: Floats) -> float:
    """Mean surprise in nats, >= 0; lower is better."""
    _check(predicted, happened)
    p = np.clip(predicted, _EPSILON, 1 - _EPSILON)
    return float(-np.mean(happened * np.log(p) + (1 - happened) * np.log(1 - p)))


def normalised_entropy(predicted: Floats, happened: Floats) -> float:
    """Log loss over that of always saying the mean (He et al., ADKDD 2014): below 1 the model knows
    something. NaN when all outcomes are alike."""
    mean = float(np.mean(happened))
    if not 0 < mean < 1:
        return float("nan")
    return log_loss(predicted, happened) / log_loss(np.full(len(happened), mean), happened)


def calibration_error(predicted: Floats, happened: Floats) -> float:
    """Expected calibration error: mean distance between said and seen over 15 equal bins, 0 to 1."""
    _check(predicted, happened)
    bins = np.minimum((predicted * _BINS).astype(np.int64), _BINS - 1)
    said = np.bincount(bins, weights=predicted, minlength=_BINS)
    seen = np.bincount(bins, weights=happened, minlength=_BINS)
    return float(np.abs(said - seen).sum() / max(1, len(predicted)))


def _isotonic(predicted: Floats, happened: Floats) -> Calibrator:
    points, places = np.unique(predicted, return_inverse=True)
    weights = np.bincount(places).astype(np.float64)
    means = np.bincount(places, weights=happened) / weights
    # Blocks of (mean, weight, points): one that is below its predecessor joins it.
    blocks: list[tuple[float, float, int]] = []
    for mean, weight in zip(means.tolist(), weights.tolist(), strict=True):
        block = (mean, weight, 1)
        while blocks and blocks[-1][0] >= block[0]:
            before = blocks.pop()
            total = before[1] + block[1]
            block = ((before[0] * before[1] + block[0] * block[1]) / total, total, before[2] + block[2])
        blocks.append(block)
    fitted = np.repeat([block[0] for block in blocks], [block[2] for block in blocks])
    return lambda chances: np.interp(chances, points, fitted)


def _platt(predicted: Floats, happened: Floats) -> Calibrator:
    odds = _logit(predicted)
    # Platt's targets, a little inside 0 and 1, keep a separable set from infinite certainty.
    positives, negatives = happened.sum(), len(happened) - happened.sum()
    target = np.where(happened > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.column_stack((odds, np.ones(len(odds))))
    # A little ridge towards "as predicted": without it one distinct prediction has no solution.
    ridge, start = np.array([1e-3, 1e-3]), np.array([1.0, 0.0])
    line = start.copy()
    for _ in range(_NEWTON_STEPS):
        chance = _sigmoid(design @ line)
        gradient = design.T @ (chance - target) + ridge * (line - start)
        bend = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(bend, gradient)
        # Newton overshoots far from the solution; ten in log odds is a long way.
        line = line - np.clip(step, -10, 10)
        if np.abs(step).max() < 1e-9:
            break
    slope, shift = max(float(line[0]), 0.0), float(line[1])
    return lambda chances: _sigmoid(slope * _logit(chances) + shift)


def _logit(chances: Floats) -> Floats:
    p = np.clip(chances, _EPSILON, 1 - _EPSILON)
    odds: Floats = np.log(p / (1 - p))
    return odds


def _sigmoid(values: Floats) -> Floats:
    curve: Floats = 1 / (1 + np.exp(-np.clip(values, -500, 500)))
    return curve


def _check(predicted: Floats, happened: Floats) -> None:
    if len(predicted) != len(happened):
        raise ValueError("predicted and happened must have the same length")
    if not np.all((predicted >= 0) & (predicted <= 1)):
        raise ValueError("predicted must be in [0, 1]")
    if not np.all((happened == 0) | (happened == 1)):
        raise ValueError("happened must be 0 or 1")
