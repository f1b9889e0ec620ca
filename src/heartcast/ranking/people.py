"""People with similar hearts, and what they have.

Who shares newest items with somebody is found by the items' latest fans; how similar they are is
the cosine of the fading histories, shrunk. How active a person is, sure the events are and recent
the hearts: these only modulate it. Activity scales a neighbour within [.25, 1], confidence weighs the
entries, recency is their fade. As the vector itself, three positive numbers would make everybody alike.
"""

from __future__ import annotations

import numpy as np

from heartcast.ranking.best import best, sum_by
from heartcast.ranking.fans import Fans
from heartcast.ranking.histories import Histories
from heartcast.ranking.interactions import Floats, Ints
from heartcast.ranking.nearness import Indices, Strengths
from heartcast.ranking.options import TasteOptions

_LEAST_GAIN = 0.25
# Newest items by whose fans candidates are found: each costs up to ``fans`` additions.
_LOOKED_AT = 20


class People:
    """Reads histories and fans that somebody else keeps."""

    def __init__(self, options: TasteOptions, histories: Histories, fans: Fans) -> None:
        self._options = options
        self._histories = histories
        self._fans = fans
        self._fade = fade(options.history, options.people_half_life_events)

    def like(self, user: int, n_users: int, n_items: int) -> tuple[Ints, Floats]:
        """The most similar people, best first, and how similar: the neighbours at most that the
        options say, all above 0."""
        options = self._options
        entries, own = self.newest(np.array([user]))
        history, strengths = entries[0, -_LOOKED_AT:], own[0, -_LOOKED_AT:]
        taken = history >= 0
        fans = self._fans.people[history[taken]]
        is_there = fans >= 0
        weights = np.broadcast_to(strengths[taken][:, None], fans.shape)[is_there]
        shared = sum_by(fans[is_there], weights, n_users)
        # Three times as many as are kept: the exact cosine may order them differently.
        found = best(shared, np.array([user], dtype=np.int32), 3 * options.neighbours)
        # One place more than there are items takes what the empty places (-1) point at.
        mine = np.zeros(n_items + 1, dtype=np.float32)
        mine[entries[0]] = own[0]
        mine[-1] = 0
        entries, theirs = self.newest(found)
        products = (mine[entries] * theirs).sum(axis=1)
        norms = np.sqrt((theirs**2).sum(axis=1)) * np.sqrt((mine**2).sum())
        alike = (products / (norms + options.people_shrink)).astype(np.float64)
        if options.activity:
            alike *= self._gain(found)
        order = np.argsort(-alike, kind="stable")[: options.neighbours]
        order = order[alike[order] > 0]
        return found[order], alike[order]

    def scores(self, user: int, n_users: int, n_items: int) -> Floats:
        """What the most similar people have, weighed by how similar they are: float64[n_items]."""
        found, alike = self.like(user, n_users, n_items)
        entries, worth = self.newest(found)
        worth *= alike.astype(np.float32)[:, None]
        return sum_by(np.maximum(entries, 0).ravel(), worth.ravel(), n_items)

    def newest(self, users: Ints) -> tuple[Indices, Strengths]:
        """What people have hearted lately, -1 in free places, and how strongly it counts."""
        compared = self._options.compared
        entries = self._histories.items[users, -compared:]
        return entries, self._histories.sure[users, -compared:] * self._fade[-compared:]

    def _gain(self, users: Ints) -> Floats:
        filled = (self._histories.items[users] >= 0).mean(axis=1)
        gain: Floats = np.clip(filled**self._options.activity, _LEAST_GAIN, 1.0)
        return gain


def fade(length: int, half_life_events: float) -> Strengths:
    """What the entries of a history count, newest last: float32[length], the newest 1."""
    steps = np.arange(length - 1, -1, -1)
    return np.exp2(-np.minimum(steps / half_life_events, 60)).astype(np.float32)
