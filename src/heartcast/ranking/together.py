"""Which items go together, kept up to date by events.

For each item the other items that stand near it in people's histories (``nearness``), with how
much they do, at most ``width`` of them: a table of numbers, no dictionaries, so that a read
gathers rows and a batch of events is a few array operations.

While no row is full, what the events leave is what counting everything afresh gives. A full
row drops the pair that matters least, and counts a pair that comes back from nothing:
``rebuild`` makes up for that.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from heartcast.ranking.grid import Grid
from heartcast.ranking.holders import Holders
from heartcast.ranking.interactions import Floats, Ints
from heartcast.ranking.nearness import Indices, Nearness, Pairs, Strengths, joined

_EMPTY = -1
# A chunk compares so many rows of partners at once: 16 MB with 200 partners.
_PAIRS_AT_A_TIME = 20_000
_PEOPLE_AT_A_TIME = 20_000


class Together:
    """How much items have to do with each other, one row of partners per item.

    Args:
        width: Partners kept per item, >= 1; 8 bytes each.
        shrink: As in ``similarity.neighbours``.
        nearness: What pairs are worth.
    """

    __slots__ = ("_nearness", "_shrink", "_waiting", "_width", "counts", "holders", "partners")

    def __init__(self, width: int, shrink: float, nearness: Nearness) -> None:
        self._width = width
        self._shrink = shrink
        self._nearness = nearness
        self._waiting: list[Pairs] = []
        self.partners = np.full((0, width), _EMPTY, dtype=np.int32)
        """Partner items per item, in no order; -1 is a free place."""
        self.counts = np.zeros((0, width), dtype=np.float32)
        """Nearness summed over the people who have both: 0 where the place is free."""
        self.holders = Holders()
        """Who has the items."""

    def grow(self, items: int) -> None:
        """Make room for at least so many items."""
        self.holders.grow(items)
        more = len(self.holders) - len(self.partners)
        if more:
            self.partners = np.concatenate((self.partners, np.full((more, self._width), _EMPTY, np.int32)))
            self.counts = np.concatenate((self.counts, np.zeros((more, self._width), dtype=np.float32)))

    def take_over(self, grid: Grid, n_items: int) -> None:
        """Go on with what a grid knows of so many items."""
        self.holders = grid.holders
        self.grow(n_items)
        for start, block in grid.blocks(n_items):
            self._keep_best(start, block)

    @property
    def _roots(self) -> Strengths:
        return self.holders.roots

    def note(self, pairs: Pairs) -> None:
        """Pairs changed; they count from the next ``settle``."""
        if len(pairs.items):
            self._waiting.append(pairs)

    def settle(self) -> None:
        """Count what was noted."""
        if not self._waiting:
            return
        items, others, worth = joined(self._waiting)
        self._waiting = []
        # Each pair stands in both rows; equal pairs become one with the sum.
        size = len(self.holders)
        rows, partners = np.concatenate((items, others)), np.concatenate((others, items))
        pairs, places = np.unique(rows.astype(np.int64) * size + partners, return_inverse=True)
        sums = np.bincount(places, weights=np.concatenate((worth, worth))).astype(np.float32)
        for start in range(0, len(pairs), _PAIRS_AT_A_TIME):
            chunk = slice(start, start + _PAIRS_AT_A_TIME)
            self._count_pairs(pairs[chunk] // size, pairs[chunk] % size, sums[chunk])

    def similar(self, item: int) -> tuple[Indices, Strengths]:
        """Partners of an item and how alike they are, in no order."""
        row = self.partners[item]
        taken = row != _EMPTY
        partners, counts = row[taken], self.counts[item, taken]
        return partners, counts / (self._roots[item] * self._roots[partners] + np.float32(self._shrink))

    def toward(self, items: Indices, item: int) -> Strengths:
        """How alike each of the items is to one: float32[len(items)]."""
        partners, alike = self._rows(items)
        alike[partners != item] = 0
        summed: Strengths = alike.sum(axis=1)
        return summed

    def between(self, items: Ints) -> Strengths:
        """How alike items are to each other, each named once: float32[n, n], 0 on the diagonal."""
        # Place of each item among them, -1 for others; the last one is for free places.
        position = np.full(len(self.holders) + 1, -1)
        position[items] = np.arange(len(items))
        partners, alike = self._rows(items)
        others = position[partners]
        table = np.zeros((len(items), len(items)), dtype=np.float32)
        lines, columns = np.nonzero(others >= 0)
        table[lines, others[lines, columns]] = alike[lines, columns]
        return np.maximum(table, table.T)

    def score(self, history: Indices, strengths: Strengths, n_items: int) -> Floats:
        """How well every item goes with a history: float64[n_items].

        Args:
            history: Items, each once.
            strengths: What each of them counts, same length.
            n_items: Items there are; partners are always among them.
        """
        partners, alike = self._rows(history)
        alike *= strengths[:, None]
        # A free place says item -1; its count is 0, so item 0 may as well take it.
        np.maximum(partners, 0, out=partners)
        scores = np.bincount(partners.ravel(), weights=alike.ravel(), minlength=n_items)
        return scores.astype(np.float64, copy=False)

    def rebuild(self, histories: Indices, n_items: int) -> None:
        """Count everything afresh.

        Args:
            histories: Items of each person, newest last, -1 in front: int32[people, length].
            n_items: Items there are.
        """
        fresh = Together(self._width, self._shrink, self._nearness)
        fresh.grow(n_items)
        fresh.holders.count(histories[histories >= 0], 1)
        for start, block in self._blocks(histories, n_items):
            fresh._keep_best(start, block)
        self._waiting = []
        for name in ("partners", "counts", "holders"):
            setattr(self, name, getattr(fresh, name))

    def _blocks(self, histories: Indices, n_items: int) -> Iterator[tuple[int, NDArray[np.floating]]]:
        """Nearness of items to all items, some rows at a time."""
        near = self._near(histories, n_items)
        step = max(1, 4_000_000 // max(1, n_items))
        for start in range(0, n_items, step):
            yield start, near[start : start + step].toarray()

    def _near(self, histories: Indices, n_items: int) -> sparse.csr_array:
        near = sparse.csr_array((n_items, n_items))
        for begin in range(0, len(histories), _PEOPLE_AT_A_TIME):
            some = histories[begin : begin + _PEOPLE_AT_A_TIME]
            parts = [self._nearness.all_pairs(some, gap) for gap in range(1, self._nearness.gaps(some) + 1)]
            worth = [np.full(len(part[0]), self._nearness.worth[gap]) for gap, part in enumerate(parts, 1)]
            earlier, later = (np.concatenate(columns) for columns in zip(*parts, strict=True))
            near = near + sparse.csr_array((np.concatenate(worth), (earlier, later)), shape=near.shape)
        return (near + near.T).tocsr()

    def _rows(self, items: Ints | Indices) -> tuple[Indices, Strengths]:
        """Partners of several items, -1 in free places, and how alike they are."""
        # take() is several times as fast as indexing here. Clipping makes item 0 of a free
        # place, whose count is 0 anyway.
        partners = self.partners.take(items, axis=0)
        alike = self.counts.take(items, axis=0)
        norms = self._roots.take(partners, mode="clip")
        norms *= self._roots.take(items)[:, None]
        norms += np.float32(self._shrink)
        alike /= norms
        return partners, alike

    def _keep_best(self, start: int, block: NDArray[np.floating]) -> None:
        n_rows, n_items = block.shape
        width = min(self._width, n_items)
        alike = block / (self._roots[start : start + n_rows, None] * self._roots[:n_items] + self._shrink)
        best = np.argpartition(-alike, width - 1, axis=1)[:, :width].astype(np.int32)
        counts = np.take_along_axis(block, best, axis=1)
        best[counts == 0] = _EMPTY
        self.partners[start : start + n_rows, :width] = best
        self.counts[start : start + n_rows, :width] = counts

    def _count_pairs(self, rows: Ints, partners: Ints, sums: Strengths) -> None:
        """Distinct pairs, ordered by row."""
        hits = self.partners[rows] == partners[:, None]
        places = hits.argmax(axis=1)
        is_known = hits[np.arange(len(rows)), places]
        known, places = rows[is_known], places[is_known]
        self.counts[known, places] += sums[is_known]
        gone = self.counts[known, places] < self._nearness.least / 2
        self.partners[known[gone], places[gone]] = _EMPTY
        self.counts[known[gone], places[gone]] = 0
        # What loses and is not there was dropped for want of room before.
        is_news = ~is_known & (sums > 0)
        if is_news.any():
            self._insert(rows[is_news], partners[is_news], sums[is_news])

    def _insert(self, rows: Ints, partners: Ints, counts: Strengths) -> None:
        """Distinct pairs that no row has yet, ordered by row: into the weakest places."""
        strength = counts / (self._roots[rows] * self._roots[partners] + np.float32(self._shrink))
        order = np.lexsort((-strength, rows))
        rows, partners, counts, strength = rows[order], partners[order], counts[order], strength[order]
        touched, firsts, each = np.unique(rows, return_index=True, return_counts=True)
        alike = self.counts[touched] / (
            self._roots[touched][:, None] * self._roots[self.partners[touched]] + np.float32(self._shrink)
        )
        # Few rows get more than a handful at a time: finding a minimum again beats sorting them all.
        for turn in range(int(each.max())):
            lines = np.flatnonzero(each > turn)
            new = firsts[lines] + turn
            places = alike[lines].argmin(axis=1)
            wins = strength[new] > alike[lines, places]
            lines, new, places = lines[wins], new[wins], places[wins]
            if not len(lines):
                break
            alike[lines, places] = strength[new]
            self.partners[touched[lines], places] = partners[new]
            self.counts[touched[lines], places] = counts[new]
