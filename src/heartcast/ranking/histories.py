"""Everybody's newest items, in order: one row of an array per person.

The newest item stands last. A row that is full drops its oldest; hearting an item again moves
it to the end. What changes about which items stand near each other is returned as ``Pairs``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heartcast.ranking.interactions import Ints
from heartcast.ranking.nearness import Indices, Nearness, Pairs, Strengths, joined

NOTHING = -1


class Histories:
    """Rows of items and how sure each is.

    Args:
        length: Items per row, >= 2; 8 bytes each.
        nearness: What pairs are worth.
    """

    __slots__ = ("_length", "_nearness", "items", "sure")

    def __init__(self, length: int, nearness: Nearness) -> None:
        self._length = length
        self._nearness = nearness
        self.items = np.full((0, length), NOTHING, dtype=np.int32)
        """Newest last, -1 in front while there are fewer."""
        self.sure = np.zeros((0, length), dtype=np.float32)
        """Confidence of each, 0 where there is none."""

    def grow(self, users: int) -> None:
        """Make room for at least so many people."""
        have = len(self.items)
        if users <= have:
            return
        shape = (max(users, have + have // 2, 64) - have, self._length)
        self.items = np.concatenate((self.items, np.full(shape, NOTHING, dtype=np.int32)))
        self.sure = np.concatenate((self.sure, np.zeros(shape, dtype=np.float32)))

    def of(self, user: int) -> Indices:
        """A person's items, oldest first."""
        row = self.items[user]
        items: Indices = row[row >= 0]
        return items

    def put(self, users: Ints, items: Indices, sure: Strengths) -> tuple[Pairs, NDArray[np.bool_]]:
        """Let each of these people have an item as their newest.

        Args:
            users: Distinct people, int64[n].
            items: One for each.
            sure: Confidence in each, (0, 1].

        Returns:
            The pairs that changed, and for which people the item is new: bool[n].
        """
        rows = self.items[users]
        is_there = rows == items[:, None]
        is_new = ~is_there.any(axis=1)
        pairs = [
            self._move(*known) for known in zip(users[~is_new], items[~is_new], sure[~is_new], strict=True)
        ]
        rows, people = rows[is_new], users[is_new]
        pairs.append(self._nearness.appended(items[is_new], rows))
        self.items[people, :-1] = rows[:, 1:]
        self.items[people, -1] = items[is_new]
        self.sure[people, :-1] = self.sure[people, 1:]
        self.sure[people, -1] = sure[is_new]
        return joined(pairs), is_new

    def take(self, user: int, item: int) -> Pairs | None:
        """Let somebody no longer have an item; None: they had not."""
        history = self.items[user]
        there = np.flatnonzero(history == item)
        if not len(there):
            return None
        place = int(there[0])
        pairs = self._nearness.removed(history, place)
        sure = self.sure[user]
        # What is older moves one place towards the present; numpy copes with overlap.
        history[1 : place + 1] = history[:place]
        sure[1 : place + 1] = sure[:place]
        history[0], sure[0] = NOTHING, 0
        return pairs

    def _move(self, user: int, item: int, sure: float) -> Pairs:
        pairs = self.take(user, item)
        history = self.items[user : user + 1]
        again = self._nearness.appended(np.array([item], dtype=np.int32), history)
        self.items[user, :-1] = history[0, 1:]
        self.sure[user, :-1] = self.sure[user, 1:]
        self.items[user, -1], self.sure[user, -1] = item, sure
        return again if pairs is None else joined([pairs, again])
