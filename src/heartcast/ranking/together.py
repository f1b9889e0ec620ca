"""Which items go together, kept up to date by events.

For each item the other items that the same people have, with how many people that is, at
most ``width`` of them: a table of integers, no dictionaries, so that a read gathers rows
and an event touches the rows of one user's history in a few array operations.

While no row is full, what the events leave is exactly what counting everything afresh
gives. A full row drops the pair that matters least, and counts a pair that comes back
from 1: ``rebuild`` makes up for that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from heartcast.ranking.interactions import Floats, Ints

Indices = NDArray[np.int32]

_EMPTY = -1
# Events noted before they are counted without being asked; a pair costs 28 bytes meanwhile.
_MOST_WAITING = 1000
# A chunk compares so many rows of partners at once: 16 MB with 200 partners.
_PAIRS_AT_A_TIME = 20_000


class Together:
    """Co-occurrence of items, one row of partners per item.

    Args:
        width: Partners kept per item, >= 1; 8 bytes each.
        shrink: As in ``similarity.neighbours``.
    """

    __slots__ = (
        "_shrink",
        "_waiting_items",
        "_waiting_others",
        "_width",
        "counts",
        "partners",
        "people",
        "roots",
    )

    def __init__(self, width: int, shrink: float) -> None:
        self._width = width
        self._shrink = shrink
        self._waiting_items: list[int] = []
        self._waiting_others: list[Indices] = []
        self.partners = np.full((0, width), _EMPTY, dtype=np.int32)
        """Partner items per item, in no order; -1 is a free place."""
        self.counts = np.zeros((0, width), dtype=np.float32)
        """People who have both: 0 where the place is free."""
        self.people = np.zeros(0, dtype=np.int32)
        """People who have the item."""
        self.roots = np.zeros(0, dtype=np.float32)
        """Root of ``people``, at least 1."""

    def grow(self, items: int) -> None:
        """Make room for at least so many items."""
        have = len(self.people)
        if items <= have:
            return
        # By half again: copying stays a constant share of the work.
        more = max(items, have + have // 2, 64) - have
        self.partners = np.concatenate((self.partners, np.full((more, self._width), _EMPTY, dtype=np.int32)))
        self.counts = np.concatenate((self.counts, np.zeros((more, self._width), dtype=np.float32)))
        self.people = np.concatenate((self.people, np.zeros(more, dtype=np.int32)))
        self.roots = np.concatenate((self.roots, np.ones(more, dtype=np.float32)))

    def add(self, item: int, others: Indices) -> None:
        """Somebody who has ``others`` (distinct, without ``item``) now has ``item`` too.

        It is noted, and counted by the next ``settle``: a thousand events at once cost a
        tenth of a thousand times one.
        """
        self._waiting_items.append(item)
        self._waiting_others.append(others)
        if len(self._waiting_items) >= _MOST_WAITING:
            self.settle()

    def settle(self) -> None:
        """Count what was noted."""
        if not self._waiting_items:
            return
        items = np.array(self._waiting_items, dtype=np.int32)
        others = np.concatenate(self._waiting_others)
        repeated = np.repeat(items, [len(part) for part in self._waiting_others])
        self._waiting_items, self._waiting_others = [], []
        np.add.at(self.people, items, 1)
        self.roots[items] = np.sqrt(self.people[items])
        # Each pair stands in both rows; equal pairs become one with a count.
        size = len(self.people)
        rows, partners = np.concatenate((repeated, others)), np.concatenate((others, repeated))
        pairs, counts = np.unique(rows.astype(np.int64) * size + partners, return_counts=True)
        for start in range(0, len(pairs), _PAIRS_AT_A_TIME):
            chunk = slice(start, start + _PAIRS_AT_A_TIME)
            self._count_pairs(pairs[chunk] // size, pairs[chunk] % size, counts[chunk].astype(np.float32))

    def remove(self, item: int, others: Indices) -> None:
        """Somebody who keeps ``others`` (distinct, without ``item``) no longer has ``item``."""
        self.settle()
        self.people[item] -= 1
        self.roots[item] = max(1, self.people[item]) ** 0.5
        rows, places = np.nonzero(self.partners[others] == item)
        self._uncount(others[rows], places)
        places = np.flatnonzero(np.isin(self.partners[item], others))
        self._uncount(np.full(len(places), item), places)

    def similar(self, item: int) -> tuple[Indices, NDArray[np.float32]]:
        """Partners of an item and their shrunk cosines, in no order."""
        row = self.partners[item]
        taken = row != _EMPTY
        partners, counts = row[taken], self.counts[item, taken]
        return partners, counts / (self.roots[item] * self.roots[partners] + np.float32(self._shrink))

    def rows(self, items: Ints | Indices) -> tuple[Indices, NDArray[np.float32]]:
        """Partners of several items, -1 in free places, and their shrunk cosines."""
        # take() is several times as fast as indexing here. Clipping makes item 0 of a free
        # place, whose count is 0 anyway.
        partners = self.partners.take(items, axis=0)
        alike = self.counts.take(items, axis=0)
        norms = self.roots.take(partners, mode="clip")
        norms *= self.roots.take(items)[:, None]
        norms += np.float32(self._shrink)
        alike /= norms
        return partners, alike

    def score(self, history: Indices, strengths: NDArray[np.float32], n_items: int) -> Floats:
        """How well every item goes with a history: float64[n_items].

        Args:
            history: Items, each once.
            strengths: What each of them counts, float32, same length.
            n_items: Items there are; partners are always among them.
        """
        partners, alike = self.rows(history)
        alike *= strengths[:, None]
        # A free place says item -1; its count is 0, so item 0 may as well take it.
        np.maximum(partners, 0, out=partners)
        scores = np.bincount(partners.ravel(), weights=alike.ravel(), minlength=n_items)
        return scores.astype(np.float64, copy=False)

    def rebuild(self, have: sparse.csr_array) -> None:
        """Count everything afresh.

        Args:
            have: Who has what, 1 or nothing, float32[people, items]; at least as many
                items as were ever named.
        """
        n_items = have.shape[1]
        fresh = Together(self._width, self._shrink)
        fresh.grow(n_items)
        fresh.people[:n_items] = np.diff(have.tocsc().indptr)
        fresh.roots = np.sqrt(np.maximum(fresh.people, 1)).astype(np.float32)
        dense = have.toarray() if have.shape[0] * n_items <= 60_000_000 else None
        turned = have.T.tocsr()
        step = max(1, 4_000_000 // max(1, n_items))
        for start in range(0, n_items, step):
            stop = min(start + step, n_items)
            if dense is not None:
                block = dense[:, start:stop].T @ dense
            else:
                block = (turned[start:stop] @ have).toarray()
            block[np.arange(stop - start), np.arange(start, stop)] = 0
            fresh._keep_best(start, block)
        self._waiting_items, self._waiting_others = [], []
        for name in ("partners", "counts", "people", "roots"):
            setattr(self, name, getattr(fresh, name))

    def _keep_best(self, start: int, block: NDArray[np.float32]) -> None:
        n_rows, n_items = block.shape
        width = min(self._width, n_items)
        alike = block / (self.roots[start : start + n_rows, None] * self.roots[:n_items] + self._shrink)
        best = np.argpartition(-alike, width - 1, axis=1)[:, :width].astype(np.int32)
        counts = np.take_along_axis(block, best, axis=1)
        best[counts == 0] = _EMPTY
        self.partners[start : start + n_rows, :width] = best
        self.counts[start : start + n_rows, :width] = counts

    def _count_pairs(self, rows: Ints, partners: Ints, counts: NDArray[np.float32]) -> None:
        """Distinct pairs, ordered by row."""
        hits = self.partners[rows] == partners[:, None]
        places = hits.argmax(axis=1)
        is_known = hits[np.arange(len(rows)), places]
        self.counts[rows[is_known], places[is_known]] += counts[is_known]
        if not is_known.all():
            self._insert(rows[~is_known], partners[~is_known], counts[~is_known])

    def _insert(self, rows: Ints, partners: Ints, counts: NDArray[np.float32]) -> None:
        """Distinct pairs that no row has yet, ordered by row: into the weakest places."""
        touched, firsts, each = np.unique(rows, return_index=True, return_counts=True)
        alike = self.counts[touched] / (
            self.roots[touched][:, None] * self.roots[self.partners[touched]] + self._shrink
        )
        weakest = np.argsort(alike, axis=1, kind="stable")
        # The n-th new pair of a row goes to its n-th weakest place, if it is stronger.
        nth = np.arange(len(rows)) - np.repeat(firsts, each)
        fits = nth < self._width
        rows, partners, counts, nth = rows[fits], partners[fits], counts[fits], nth[fits]
        line = np.searchsorted(touched, rows)
        places = weakest[line, nth]
        strength = counts / (self.roots[rows] * self.roots[partners] + self._shrink)
        wins = strength > alike[line, places]
        self.partners[rows[wins], places[wins]] = partners[wins]
        self.counts[rows[wins], places[wins]] = counts[wins]

    def _uncount(self, rows: Ints | Indices, places: Ints) -> None:
        self.counts[rows, places] -= 1
        gone = self.counts[rows, places] <= 0
        self.partners[rows[gone], places[gone]] = _EMPTY
        self.counts[rows[gone], places[gone]] = 0
