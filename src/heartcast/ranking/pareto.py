"""Fronts: which candidates nothing else beats in every measure.

Front 0 is what no candidate dominates (is at least as good in everything and better in
something), front 1 what only front 0 dominates, and so on. moocore does it in C in a few
dozen microseconds for 500 candidates; without it numpy compares all pairs, which is fine
to about a thousand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heartcast.ranking.interactions import Floats

try:
    import moocore
except ImportError:  # an optional extra: only speed depends on it
    moocore = None


def fronts(values: Floats) -> NDArray[np.int64]:
    """The front of each candidate.

    Args:
        values: float64[n, measures], finite, higher is better.

    Returns:
        int64[n], 0 for what nothing dominates.
    """
    if len(values) == 0 or moocore is None:
        return fronts_by_pairs(values)
    return np.asarray(moocore.pareto_rank(values, maximise=True), dtype=np.int64)


def fronts_by_pairs(values: Floats) -> NDArray[np.int64]:
    """``fronts`` by comparing all pairs: O(n^2) memory and time."""
    n = len(values)
    ranks = np.zeros(n, dtype=np.int64)
    at_least = np.ones((n, n), dtype=bool)
    better = np.zeros((n, n), dtype=bool)
    for measure in values.T:
        at_least &= measure[:, None] >= measure[None, :]
        better |= measure[:, None] > measure[None, :]
    beats = at_least & better
    beaten_by = beats.sum(axis=0)
    left = np.ones(n, dtype=bool)
    front = 0
    while left.any():
        first = left & (beaten_by == 0)
        ranks[first] = front
        left &= ~first
        beaten_by = beaten_by - beats[first].sum(axis=0)
        front += 1
    return ranks
