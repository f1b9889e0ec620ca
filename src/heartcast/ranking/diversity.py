"""Not ten times the same: spreading a list over topics and authors.

``mmr`` (maximal marginal relevance; Carbonell and Goldstein, SIGIR 1998) takes item after
item, each time the one with the best mix of its score and of being unlike what was taken
before. ``author_decay`` lets every further item of the same author count for less. Both
are greedy, and remember per candidate only its closest item taken so far, so that k of n
cost k passes over n and not k squared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from heartcast.ranking.interactions import Floats, Ints


def mmr(scores: Floats, similar_to: Callable[[int], Floats], count: int, trade_off: float = 0.7) -> Ints:
    """Choose by score and by difference from what was chosen.

    Args:
        scores: float64[n], of a scale comparable to similarities: 0 to 1.
        similar_to: ``similar_to(i)``: similarity of candidate i to all, float64[n], 0 to 1.
        count: Candidates to choose; more than there are chooses all.
        trade_off: 1 looks at scores only, 0 at difference only.

    Returns:
        Candidate indices in the order chosen; equal values by index.
    """
    n = len(scores)
    count = min(count, n)
    chosen = np.empty(count, dtype=np.int64)
    # Scores are never looked at again once chosen: -inf takes a candidate out.
    worth = trade_off * scores
    closest = np.zeros(n)
    for turn in range(count):
        best = int(np.argmax(worth - (1 - trade_off) * closest))
        chosen[turn] = best
        worth[best] = -np.inf
        np.maximum(closest, similar_to(best), out=closest)
    return chosen


def author_decay(
    scores: Floats, authors: Sequence[str | None], count: int, decay: float = 0.5, floor: float = 0.25
) -> Ints:
    """Choose by score, halving an author's items with each one already chosen.

    Args:
        scores: float64[n], >= 0: a factor below 1 must make an item worse.
        authors: One per candidate; None for unknown, which is nobody's.
        count: Candidates to choose; more than there are chooses all.
        decay: Factor per item of the same author already chosen, in (0, 1].
        floor: The factor never falls below this.

    Returns:
        Candidate indices in the order chosen; equal values by index.
    """
    n = len(scores)
    of_author: dict[str, list[int]] = {}
    for index, author in enumerate(authors):
        if author is not None:
            of_author.setdefault(author, []).append(index)
    worth = scores.copy()
    factors = dict.fromkeys(of_author, 1.0)
    chosen = np.empty(min(count, n), dtype=np.int64)
    is_left = np.ones(n, dtype=bool)
    for turn in range(len(chosen)):
        best = int(np.argmax(np.where(is_left, worth, -np.inf)))
        chosen[turn] = best
        is_left[best] = False
        author = authors[best]
        if author is not None:
            factors[author] = max(floor, factors[author] * decay)
            mates = of_author[author]
            worth[mates] = scores[mates] * factors[author]
    return chosen
