"""Who hearted an item lately: a ring of people per item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heartcast.ranking.histories import NOTHING
from heartcast.ranking.interactions import Ints
from heartcast.ranking.nearness import Indices


class Fans:
    """The latest people per item, in no order that matters.

    Args:
        size: People per item, >= 1; 4 bytes each.
    """

    __slots__ = ("_met", "_size", "people")

    def __init__(self, size: int) -> None:
        self._size = size
        self._met = np.zeros(0, dtype=np.int64)
        self.people = np.full((0, size), NOTHING, dtype=np.int32)
        """Person per place, -1 where there is none."""

    def grow(self, items: int) -> None:
        """Make room for at least so many items."""
        have = len(self._met)
        if items <= have:
            return
        more = max(items, have + have // 2, 64) - have
        self._met = np.concatenate((self._met, np.zeros(more, dtype=np.int64)))
        self.people = np.concatenate((self.people, np.full((more, self._size), NOTHING, dtype=np.int32)))

    def greet(self, items: Indices, users: Ints) -> None:
        """These people have these items now, one each; the oldest fan of a full ring goes."""
        order = np.argsort(items, kind="stable")
        items, users = items[order], users[order]
        begins = np.searchsorted(items, items)
        nth = np.arange(len(items)) - begins
        # Of more newcomers than the ring holds only the last are looked at.
        left = np.searchsorted(items, items, side="right") - np.arange(len(items))
        kept = left <= self._size
        self.people[items[kept], (self._met[items[kept]] + nth[kept]) % self._size] = users[kept]
        np.add.at(self._met, items, 1)

    def leave(self, item: int, user: int) -> None:
        """This person no longer has the item."""
        fans = self.people[item]
        fans[fans == user] = NOTHING

    def shared(self, item: int, others: Sequence[int]) -> list[int]:
        """How many of an item's latest fans are among those of each other item."""
        fans = self.people[item]
        fans = fans[fans >= 0]
        if not len(fans) or not others:
            return [0] * len(others)
        theirs = self.people[np.array(others)]
        # One place more than there are people takes what the empty places (-1) point at.
        is_fan = np.zeros(int(max(fans.max(), theirs.max())) + 2, dtype=np.bool_)
        is_fan[fans] = True
        shared: list[int] = is_fan[theirs].sum(axis=1).tolist()
        return shared
