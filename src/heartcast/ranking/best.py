"""The highest of many scores, and sums by index: what every source of suggestions ends with."""

from __future__ import annotations

import numpy as np

from heartcast.ranking.interactions import Floats, Ints
from heartcast.ranking.nearness import Indices, Strengths

# More groups leave fewer scores above the bound, and cost more to look through.
_GROUPS_PER_PLACE = 8


def sum_by(indices: Indices, worth: Strengths, n: int) -> Floats:
    """Sum of the worth at each index: float64[n]."""
    return np.bincount(indices, weights=worth, minlength=n).astype(np.float64, copy=False)


def best(scores: Floats, excluded: Indices, count: int) -> Ints:
    """Indices of the highest scores above 0, best first, equals by index; none of ``excluded``,
    whose scores become 0.

    Selecting from thousands of floats costs more than everything before it. So the scores
    are dealt into groups first: the count-th highest of the groups' maxima is a bound that
    at least ``count`` scores reach, and few others do.
    """
    scores[excluded] = 0
    bound = 0.0
    groups = _GROUPS_PER_PLACE * count
    if 0 < groups < len(scores) // 2:
        dealt = scores[: len(scores) // groups * groups].reshape(-1, groups)
        bound = float(np.partition(dealt.max(axis=0), groups - count)[groups - count])
    found = np.flatnonzero(scores >= bound) if bound > 0 else np.flatnonzero(scores > 0)
    return found[np.argsort(-scores[found], kind="stable")[:count]]
