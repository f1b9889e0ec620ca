"""Who did what when, as columns, and the matrices that are made of them.

The strength of an entry is ``weight * fade``. The weight says how sure we are that the
event means liking (its *confidence*); the fade halves it with every half-life between
the event and the same user's newest one. Fading is counted from the user's own newest
event, not from now: with one half-life for all, the time that passes scales all of a
user's entries by the same factor, which a cosine does not see. Neighbours and order thus
change by events only, and nothing needs recomputing because time went by.

A half-life is in seconds, or in events of the same user: ten events are the same distance
for someone who comes daily and for someone who came once for an hour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Fade(NamedTuple):
    """How fast old events lose strength."""

    half_life: float
    """In ``unit``, > 0; ``inf`` for never."""
    unit: Literal["s", "events"] = "s"

    def __str__(self) -> str:
        return "none" if self.half_life == inf else f"{self.half_life:g} {self.unit}"


NEVER = Fade(inf)


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """Events as parallel columns, ordered by user and then by time.

    Make one with ``interactions``, which orders and checks.
    """

    users: Ints
    """User index of each event, 0 to ``n_users - 1``."""
    items: Ints
    """Item index of each event, 0 to ``n_items - 1``."""
    times_s: Ints
    """Wall time of each event in seconds."""
    weights: Floats
    """Confidence of each event, > 0."""
    n_users: int
    n_items: int

    def __len__(self) -> int:
        return len(self.users)

    def select(self, mask: NDArray[np.bool_]) -> Interactions:
        """Only the events where ``mask`` (bool[n]) is true; same users and items."""
        return replace(
            self,
            users=self.users[mask],
            items=self.items[mask],
            times_s=self.times_s[mask],
            weights=self.weights[mask],
        )

    def counts(self) -> Ints:
        """Events of each user: int64[n_users]."""
        return np.bincount(self.users, minlength=self.n_users)

    def from_end(self) -> Ints:
        """How many later events the same user has: int64[n], 0 for the newest."""
        ends = np.cumsum(self.counts())
        return ends[self.users] - 1 - np.arange(len(self.users))

    def ages_s(self) -> Ints:
        """Seconds from each event to the same user's newest one: int64[n], >= 0."""
        newest = self.times_s[np.maximum(np.cumsum(self.counts()) - 1, 0)]
        return newest[self.users] - self.times_s

    def matrix(self, fade: Fade = NEVER, confidence: float = 1.0) -> sparse.csr_array:
        """Strengths as float64[n_users, n_items]; several events of a pair add up.

        Args:
            fade: How old events lose strength.
            confidence: Power of the weights: 0 ignores them, 1 takes them as they are.
        """
        strength = self.weights**confidence
        if fade.half_life != inf:
            age = self.ages_s() if fade.unit == "s" else self.from_end()
            # 2^-60 is nothing beside the newest event; denormals would only slow BLAS down.
            strength = strength * np.exp2(-np.minimum(age / fade.half_life, 60.0))
        return sparse.csr_array((strength, (self.users, self.items)), shape=(self.n_users, self.n_items))


def interactions(
    users: Ints, items: Ints, times_s: Ints, weights: Floats, n_users: int, n_items: int
) -> Interactions:
    """Order events by user and time, equal times in the order given.

    Raises:
        ValueError: the columns differ in length, an index is out of range, or a weight is
            not a finite number above 0.
    """
    if len({len(users), len(items), len(times_s), len(weights)}) != 1:
        raise ValueError("users, items, times_s and weights must have the same length")
    if not np.all((weights > 0) & np.isfinite(weights)):
        raise ValueError("weights must be finite and > 0")
    for name, column, bound in (("users", users, n_users), ("items", items, n_items)):
        if len(column) and not (column.min() >= 0 and column.max() < bound):
            raise ValueError(f"{name} must be 0 to {bound - 1}")
    order = np.lexsort((times_s, users))
    return Interactions(
        users=users[order],
        items=items[order],
        times_s=times_s[order],
        weights=weights[order].astype(np.float64),
        n_users=n_users,
        n_items=n_items,
    )
