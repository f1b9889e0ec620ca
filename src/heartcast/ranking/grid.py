"""Which items go together, while there are few: one number for every pair of them.

The same as ``Together``, which looks for each pair among an item's partners. With a number for
every pair there is nothing to look for, nothing to drop, and an event costs a few additions: 16 KB
an item, 67 MB when full. Whoever has more items goes on with ``Together``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from heartcast.ranking.holders import Holders
from heartcast.ranking.interactions import Ints
from heartcast.ranking.nearness import Indices, Nearness, Pairs, Strengths

MOST_ITEMS = 4096
"""Items of a grid at most."""
_ROWS_AT_A_TIME = 256


class Grid:
    """How much items have to do with each other, pair by pair.

    Args:
        shrink: As in ``similarity.neighbours``.
        nearness: What pairs are worth.
    """

    __slots__ = ("_near", "_nearness", "_scratch", "_shrink", "holders")

    def __init__(self, shrink: float, nearness: Nearness) -> None:
        self._shrink = np.float32(shrink)
        self._nearness = nearness
        self._near = _blank()
        self._scratch = np.empty((2, 0, 0), dtype=np.float32)
        self.holders = Holders()
        """Who has the items."""

    def grow(self, items: int) -> None:
        """Make room for at least so many items, at most ``MOST_ITEMS``."""
        self.holders.grow(items)

    def note(self, pairs: Pairs) -> None:
        """Pairs changed, which counts at once."""
        items, others = pairs.items.astype(np.int64), pairs.others.astype(np.int64)
        lost = pairs.worth < 0
        # One flat array: adding by pairs of indices takes seven times as long.
        flat = self._near.reshape(-1)
        # Both ways round: a row is read as a whole.
        for places in (items * MOST_ITEMS + others, others * MOST_ITEMS + items):
            np.add.at(flat, places, pairs.worth)
            fell = places[lost]
            # What is left of nothing is rounding.
            flat[fell[flat[fell] < self._nearness.least / 2]] = 0

    def settle(self) -> None:
        """Nothing waits."""

    def similar(self, item: int) -> tuple[Indices, Strengths]:
        """Partners of an item and how alike they are, in no order."""
        row = self._near[item]
        partners = np.flatnonzero(row).astype(np.int32)
        return partners, row[partners] / self._norms(np.array([item]), partners)[0]

    def toward(self, items: Indices, item: int) -> Strengths:
        """How alike each of the items is to one: float32[len(items)]."""
        column: Strengths = self._near[items, item] / self._norms(items, np.array([item]))[:, 0]
        return column

    def between(self, items: Ints) -> Strengths:
        """How alike items are to each other, each named once: float32[n, n], 0 on the diagonal."""
        table: Strengths = self._near[np.ix_(items, items)] / self._norms(items, items)
        return table

    def score(self, history: Indices, strengths: Strengths, n_items: int) -> NDArray[np.float64]:
        """How well every item goes with a history, as ``Together.score``."""
        rows = len(history)
        if not rows:
            return np.zeros(n_items)
        if self._scratch.shape[1] < rows:
            self._scratch = np.empty((2, rows, MOST_ITEMS), dtype=np.float32)
        near, norms = self._scratch[0, :rows], self._scratch[1, :rows, :n_items]
        roots = self.holders.roots
        # Into memory that is there: arrays of this size are otherwise asked of the system, and
        # given back, with every call, which is most of the slowest calls. "clip" lets it write there.
        np.take(self._near, history, axis=0, out=near, mode="clip")
        np.multiply(roots[history][:, None], roots[:n_items], out=norms)
        norms += self._shrink
        np.divide(near[:, :n_items], norms, out=norms)
        return (strengths @ norms).astype(np.float64)

    def rebuild(self, histories: Indices, n_items: int) -> None:
        """Count everything afresh, as ``Together.rebuild``."""
        holders = Holders()
        holders.grow(n_items)
        holders.count(histories[histories >= 0], 1)
        near = np.zeros(n_items * n_items)
        for gap in range(1, self._nearness.gaps(histories) + 1):
            earlier, later = self._nearness.all_pairs(histories, gap)
            near += np.bincount(earlier * n_items + later, minlength=len(near)) * self._nearness.worth[gap]
        square = near.reshape(n_items, n_items)
        fresh = _blank()
        fresh[:n_items, :n_items] = square + square.T
        self._near, self.holders = fresh, holders

    def blocks(self, n_items: int) -> Iterator[tuple[int, NDArray[np.floating]]]:
        """Some rows at a time as (first row, float[rows, n_items])."""
        for start in range(0, n_items, _ROWS_AT_A_TIME):
            yield start, self._near[start : min(start + _ROWS_AT_A_TIME, n_items), :n_items]

    def _norms(self, rows: Ints | Indices, columns: Ints | Indices) -> Strengths:
        roots = self.holders.roots
        norms: Strengths = roots[rows][:, None] * roots[columns] + self._shrink
        return norms


def _blank() -> Strengths:
    # The system gives pages of zeros when they are first written to: rows of items that are not
    # there cost nothing, and growing copies nothing.
    return np.zeros((MOST_ITEMS, MOST_ITEMS), dtype=np.float32)
