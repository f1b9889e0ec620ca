"""How many people have each item, and the root of it, which similarities are divided by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heartcast.ranking.nearness import Indices, Strengths


class Holders:
    """Counts per item."""

    __slots__ = ("_people", "roots")

    def __init__(self) -> None:
        self._people: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self.roots: Strengths = np.zeros(0, dtype=np.float32)
        """Root of the people who have each item, at least 1."""

    def __len__(self) -> int:
        return len(self._people)

    def grow(self, items: int) -> None:
        """Make room for at least so many items."""
        have = len(self._people)
        if items <= have:
            return
        # By half again: copying stays a constant share of the work.
        more = max(items, have + have // 2, 64) - have
        self._people = np.concatenate((self._people, np.zeros(more, dtype=np.int32)))
        self.roots = np.concatenate((self.roots, np.ones(more, dtype=np.float32)))

    def count(self, items: Indices, change: int) -> None:
        """As many people more (or, below 0, fewer) have each of these items, which may repeat."""
        np.add.at(self._people, items, change)
        self.roots[items] = np.sqrt(np.maximum(self._people[items], 1))
