"""Bringing different measures to one scale, so that their weights mean something.

A weighted sum of a click rate near .05 and a logarithm of seconds near .4 is decided by
the seconds, whatever the weights say. The default is therefore the *quantile*: the share
of the candidates below a value. Every measure then spreads alike, and a weight is the
influence it claims to be. The fixed curves (``sigmoid``, ``log1p``, ``identity``) are
here because people come with strategies that name them; ``fusion.Influence`` shows what
such a strategy really does.

A value that is missing (NaN) becomes the median of the others: unknown is neither good
nor bad. Results are always finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from heartcast.ranking.interactions import Floats

Normalizer = Literal["quantile", "zscore", "minmax", "sigmoid", "log1p", "logit", "identity"]
NORMALIZERS: tuple[str, ...] = get_args(Normalizer)

_SIGMOID_SLOPE = 3.0
_LOG1P_S = 30.0
# Probabilities of 0 and 1 would be infinitely certain.
_LEAST_P = 1e-6
_LARGEST = 1e100


def scale(normalizer: Normalizer, values: Floats) -> Floats:
    """Scale the candidates' values, all at once.

    Args:
        normalizer: ``quantile`` share of candidates below, ties in the middle; ``zscore``
            mean 0, deviation 1; ``minmax`` 0 to 1; ``sigmoid`` of 3x; ``log1p`` of
            max(x, 0) / 30; ``logit`` log odds of a probability; ``identity`` as it is.
        values: float64[n]; NaN and infinities count as missing.

    Returns:
        float64[n], finite, higher where the value is higher.
    """
    return _CURVES[normalizer](fill_missing(values))


def fill_missing(values: Floats) -> Floats:
    """Missing values (not finite) become the median of the rest, 0 where there is no rest.

    Values beyond 10^100 are cut to it: weighted and added they must stay finite.
    """
    known = np.isfinite(values)
    filled: Floats = np.clip(values, -_LARGEST, _LARGEST)
    if known.all():
        return filled
    filled[~known] = np.median(filled[known]) if known.any() else 0.0
    return filled


def quantile(values: Floats) -> Floats:
    """Mid-rank divided by n: in (0, 1), .5 on average, equal values alike."""
    if len(values) == 0:
        return values
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    # Where a run of equal values begins, and where it ends.
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    ends = np.append(begins[1:], len(values))
    places = np.empty(len(values))
    places[order] = np.repeat((begins + ends) / (2 * len(values)), ends - begins)
    return places


def zscore(values: Floats) -> Floats:
    """Mean 0 and deviation 1; all 0 where the values do not differ."""
    if len(values) == 0:
        return values
    # Divided first: the square of 1e200 is no number.
    most = np.abs(values).max()
    centred = values / most if most > 0 else values.copy()
    centred = centred - centred.mean()
    deviation = centred.std()
    # What rounding makes of equal values is not a difference.
    return centred / deviation if deviation > 1e-12 else np.zeros_like(values)


def _minmax(values: Floats) -> Floats:
    if len(values) == 0:
        return values
    # Halved, because the distance between two floats may itself be too large for one.
    # The two smallest floats there are become equal by that, as good as they were before.
    halves = values / 2
    low, high = halves.min(), halves.max()
    if not low < high:
        return np.full_like(values, 0.5)
    placed: Floats = (halves - low) / (high - low)
    return placed


def _sigmoid(values: Floats) -> Floats:
    # Beyond 200 the curve is flat to a float's last digit; exp would only overflow.
    return 1 / (1 + np.exp(-_SIGMOID_SLOPE * np.clip(values, -200, 200)))


def _log1p(values: Floats) -> Floats:
    return np.log1p(np.maximum(values, 0) / _LOG1P_S)


def _logit(values: Floats) -> Floats:
    p = np.clip(values, _LEAST_P, 1 - _LEAST_P)
    return np.log(p / (1 - p))


def _identity(values: Floats) -> Floats:
    return values


_CURVES: dict[str, Callable[[Floats], Floats]] = {
    "quantile": quantile,
    "zscore": zscore,
    "minmax": _minmax,
    "sigmoid": _sigmoid,
    "log1p": _log1p,
    "logit": _logit,
    "identity": _identity,
}
