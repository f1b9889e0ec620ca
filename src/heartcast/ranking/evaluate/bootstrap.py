"""How sure a figure is: the bootstrap over users, paired where two are compared.

Users are drawn again with replacement. Comparing two recommenders on the same drawn
users removes what users differ in from each other, which is most of the noise: a paired
difference can be sure where the two single intervals overlap widely.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from heartcast.ranking.interactions import Floats

_AT_A_TIME = 2_000_000


class Interval(NamedTuple):
    """A mean and where it lies with 95 % confidence."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def interval(values: Floats, seed: int = 0, draws: int = 2000) -> Interval:
    """The mean of one value per user.

    Args:
        values: float64[users], at least one.
        seed: Of the random draws; the same seed gives the same interval.
        draws: Resamples, >= 100.
    """
    rng = np.random.default_rng(seed)
    means = np.concatenate(list(_means(values, rng, draws)))
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def difference(ours: Floats, theirs: Floats, seed: int = 0, draws: int = 2000) -> Interval:
    """The mean of ours minus theirs, the same users in the same order.

    Raises:
        ValueError: the two differ in length.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"paired values must be of the same users, got {len(ours)} and {len(theirs)}")
    return interval(ours - theirs, seed, draws)


def _means(values: Floats, rng: np.random.Generator, draws: int) -> Iterator[Floats]:
    step = max(1, _AT_A_TIME // len(values))
    for start in range(0, draws, step):
        count = min(step, draws - start)
        yield values[rng.integers(0, len(values), (count, len(values)))].mean(axis=1)
