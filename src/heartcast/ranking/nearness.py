"""How much two items of one history have to do with each other: the more, the closer they stand.

What was hearted one after the other shares an occasion, not only a fan. A person who has both
adds ``2^(-(gap - 1) / half_gap)`` where ``gap`` is how many places lie between the two, counted
from 1, and nothing beyond ``reach``. On real data this beats counting people (``heartcast ranking
eval``), and an event concerns ``reach`` partners instead of the whole history.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartcast.ranking.interactions import Ints

Indices = NDArray[np.int32]
Strengths = NDArray[np.float32]


class Pairs(NamedTuple):
    """Changes of how much items have to do with each other; each pair stands once, either way round."""

    items: Indices
    others: Indices
    worth: Strengths
    """What the pair gains; below 0: loses."""


NO_PAIRS = Pairs(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))


def joined(parts: list[Pairs]) -> Pairs:
    """Several changes as one."""
    if not parts:
        return NO_PAIRS
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


class Nearness:
    """The weights, and what they make of a history.

    Args:
        reach: Furthest pair that counts, in places, >= 1.
        half_gap: Places after which a pair counts half, > 0.
    """

    def __init__(self, reach: int, half_gap: float) -> None:
        self.reach = reach
        gaps = np.arange(reach + 2)
        # By gap; 0 stands for no gap at all, and nothing counts beyond the reach.
        self.worth = np.exp2(-(gaps - 1) / half_gap).astype(np.float32)
        self.worth[[0, reach + 1]] = 0
        self.least = float(self.worth[reach])
        """What the furthest pair is worth: less than that is rounding."""

    def appended(self, items: Indices, histories: Indices) -> Pairs:
        """Each item now stands at the end of a history.

        Args:
            items: int32[n].
            histories: What stood there before, newest last, -1 in front of the first:
                int32[n, any]; none holds its item.
        """
        near = histories[:, -self.reach :]
        is_there = near >= 0
        worth = np.broadcast_to(self.worth[near.shape[1] : 0 : -1], near.shape)
        repeated = np.broadcast_to(items[:, None], near.shape)
        return Pairs(repeated[is_there], near[is_there], worth[is_there])

    def removed(self, history: Indices, place: int) -> Pairs:
        """The item at ``place`` leaves a history; those around it move closer by one."""
        before = history[max(0, place - self.reach) : place][::-1]
        before = before[before >= 0]
        after = history[place + 1 : place + 1 + self.reach]
        around = np.concatenate((before, after))
        gaps = np.concatenate((np.arange(1, len(before) + 1), np.arange(1, len(after) + 1)))
        lost = Pairs(np.full(len(around), history[place]), around, -self.worth[gaps])
        # One before and one after, a + b places apart, are then a + b - 1 apart.
        gap = np.arange(1, len(before) + 1)[:, None] + np.arange(1, len(after) + 1)[None, :]
        rows, columns = np.nonzero(gap <= self.reach + 1)
        gap = gap[rows, columns]
        closer = Pairs(before[rows], after[columns], self.worth[gap - 1] - self.worth[gap])
        return joined([lost, closer])

    def all_pairs(self, histories: Indices, gap: int) -> tuple[Ints, Ints]:
        """Every pair of these histories that stands ``gap`` places apart: (earlier, later)."""
        earlier, later = histories[:, :-gap], histories[:, gap:]
        is_there = earlier >= 0
        return earlier[is_there].astype(np.int64), later[is_there].astype(np.int64)

    def gaps(self, histories: Indices) -> int:
        """The widest gap that counts and that these histories, int32[n, length], can have."""
        return min(self.reach, int(histories.shape[1]) - 1)
