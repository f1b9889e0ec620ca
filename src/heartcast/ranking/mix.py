"""Several sources of candidates as one score, and what each said about an item.

Scores of different sources live on different scales, so each is brought to mean 0 and deviation 1
over the candidates before it is added by its share. Ranks would not do: that the first item stands
far above the second is what a source knows best.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from heartcast.ranking.interactions import Floats
from heartcast.ranking.scaling import zscore
from heartcast.ranking.taste import Suggestion

Because = tuple[tuple[str, int], ...]
"""Items of somebody's history, each with how many of its latest fans have both."""


class Mix:
    """Scores of candidates by source."""

    def __init__(self, goes_with: Iterable[Suggestion], by_people: Iterable[Suggestion]) -> None:
        self.goes_with = {found.item_id: found.score for found in goes_with}
        """What goes with somebody's newest hearts."""
        self.by_people = {found.item_id: found.score for found in by_people}
        """What people with similar hearts have."""
        self.hot: dict[str, float] = {}
        """What is hot."""

    def words(self, item_id: str, because: Because) -> str:
        """Why an item is among the candidates."""
        parts = []
        if because:
            name, count = because[0]
            others = "1 other person" if count == 1 else f"{count} others"
            parts.append(f"you hearted {name}, and {others} hearted both")
        if len(because) > 1:
            parts.append("it also goes with " + " and ".join(other for other, _ in because[1:]))
        if item_id in self.by_people:
            parts.append("people with hearts like yours hearted it")
        if item_id in self.hot:
            parts.append(f"it is hot: {self.hot[item_id]:.1f} hearts' worth right now")
        return "; ".join(parts)


def join(sources: Iterable[tuple[float, Mapping[str, float]]], candidates: Sequence[str]) -> Floats:
    """One score per candidate, 0 for the worst to 1 for the best: float64[len(candidates)].

    Args:
        sources: (share, scores); a candidate that a source does not name has 0 there. A source
            without any scores says nothing: its share falls to the others.
        candidates: At least one.
    """
    total = np.zeros(len(candidates))
    for share, scores in sources:
        if share and scores:
            total += share * zscore(np.array([scores.get(item_id, 0.0) for item_id in candidates]))
    total -= total.min()
    highest = total.max()
    return total / highest if highest > 0 else total
