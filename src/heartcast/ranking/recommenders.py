"""Recommenders that score every item for a user, and their blend.

Each is a frozen set of choices; ``fit`` makes a model of it from interactions, and a
model scores all items for a batch of users at once (float64[users, items], higher is
better). Scores of different recommenders live on different scales: ``Blend`` brings them
to mean 0 and deviation 1 per user before it adds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import linalg, sparse

from heartcast.ranking.interactions import NEVER, Fade, Floats, Interactions, Ints
from heartcast.ranking.similarity import activity_gain, best_per_row, neighbours, profile_cosine

Model = Callable[[Ints], Floats]
"""``model(users) -> scores``: float64[len(users), n_items]."""


class Recommender(Protocol):
    """Something that can be fitted to interactions."""

    def fit(self, train: Interactions) -> Model:
        """A model that knows these interactions and nothing else."""
        ...


@dataclass(frozen=True, kw_only=True)
class Popular:
    """Everybody gets what most have, the recent ones counting more."""

    half_life_s: float | None = None
    """Half-life of an interaction's count; None: all count alike."""

    def fit(self, train: Interactions) -> Model:
        worth = np.ones(len(train))
        if self.half_life_s is not None and len(train):
            # Forward decay: any landmark gives the same order; the newest event gives no overflow.
            worth = np.exp2(-(train.times_s.max() - train.times_s) / self.half_life_s)
        heat = np.bincount(train.items, weights=worth, minlength=train.n_items)
        return lambda users: np.tile(heat, (len(users), 1))


@dataclass(frozen=True, kw_only=True)
class ProfileCosine:
    """The article's sketch: neighbours by the cosine of (activity, confidence, recency)."""

    k: int = 50
    recency_half_life_s: float = 30 * 86_400.0 * 0.6931471805599453
    """The sketch fades by exp(-age / 30 days)."""

    def fit(self, train: Interactions) -> Model:
        seen = train.matrix(confidence=0)
        weights = best_per_row(profile_cosine(self._profiles(train)), self.k)
        return lambda users: (weights[users] @ seen).toarray()

    def _profiles(self, train: Interactions) -> Floats:
        counts = train.counts()
        total = np.bincount(train.users, weights=train.weights, minlength=train.n_users)
        newest = np.zeros(train.n_users)
        np.maximum.at(newest, train.users, train.times_s)
        age_s = newest.max(initial=0) - newest
        activity = counts / max(1, counts.max(initial=0))
        return np.column_stack(
            (activity, total / np.maximum(counts, 1), np.exp2(-age_s / self.recency_half_life_s))
        )


@dataclass(frozen=True, kw_only=True)
class UserKnn:
    """What people like you have: neighbours' entries, weighted by similarity."""

    k: int = 100
    shrink: float = 5.0
    fade: Fade = NEVER
    """Of the entries, both for finding neighbours and for what they recommend."""
    confidence: float = 1.0
    """Power of the events' weights."""
    activity: float = 0.0
    """Power of a neighbour's activity in [.25, 1]; 0 ignores it."""
    by_column: bool = False
    """Keep the k largest per *column*, as the framework of the published tables does: a
    user's neighbours are then those who chose the user, any number of them."""

    def fit(self, train: Interactions) -> Model:
        entries = train.matrix(self.fade, self.confidence)
        gain = activity_gain(train.counts(), self.activity) if self.activity else None
        alike = neighbours(entries, self.k, self.shrink, gain)
        if self.by_column:
            alike = alike.T.tocsr()
        return lambda users: (alike[users] @ entries).toarray()


@dataclass(frozen=True, kw_only=True)
class ItemKnn:
    """What goes with what you had: the items most like those of your history.

    Only the history fades, never what items have in common: that two items go together
    does not wear off because it is a month old.
    """

    k: int = 227
    shrink: float = 5.0
    fade: Fade = NEVER
    """Of the user's history."""
    confidence: float = 1.0
    """Power of the events' weights in the history."""
    by_column: bool = True
    """Keep the k largest per column: how items that are like j reach j. False keeps each
    history item's own k."""

    def fit(self, train: Interactions) -> Model:
        history = train.matrix(self.fade, self.confidence)
        alike = neighbours(train.matrix(confidence=0).T.tocsr(), self.k, self.shrink)
        if self.by_column:
            alike = alike.T.tocsr()
        return lambda users: (history[users] @ alike).toarray()


@dataclass(frozen=True, kw_only=True)
class Nearby:
    """Item-kNN in which two items go together the more, the closer they stand in people's
    histories: what was hearted around the same time shares an occasion, not only a fan.

    A person who has both adds ``2^(-(gap - 1) / half_gap)`` where ``gap`` is how many hearts
    lie between the two, counted from 1, and nothing beyond ``reach``.
    """

    reach: int = 20
    """Furthest pair that counts, in hearts, >= 1."""
    half_gap: float = 10.0
    """Hearts of distance after which a pair counts half, > 0."""
    shrink: float = 5.0
    fade: Fade = NEVER
    """Of the user's history."""
    confidence: float = 0.0
    """Power of the events' weights in the history."""

    def fit(self, train: Interactions) -> Model:
        history = train.matrix(self.fade, self.confidence)
        together = self._together(train)
        roots = np.sqrt(np.bincount(train.items, minlength=train.n_items))
        rows = np.repeat(np.arange(train.n_items), np.diff(together.indptr))
        together.data /= roots[rows] * roots[together.indices] + self.shrink
        return lambda users: (history[users] @ together).toarray()

    def _together(self, train: Interactions) -> sparse.csr_array:
        total = sparse.csr_array((train.n_items, train.n_items))
        for gap in range(1, min(self.reach, len(train) - 1) + 1):
            # Events are ordered by user and time: neighbours in the columns are neighbours in a history.
            same = train.users[gap:] == train.users[:-gap]
            earlier, later = train.items[:-gap][same], train.items[gap:][same]
            worth = np.full(len(earlier), 2.0 ** (-(gap - 1) / self.half_gap))
            total = total + sparse.csr_array((worth, (earlier, later)), shape=total.shape)
        return (total + total.T).tocsr()


@dataclass(frozen=True, kw_only=True)
class Ease:
    """A linear model of every item from all others, in closed form (Steck, WWW 2019).

    One inversion of an items-by-items matrix: for catalogues up to some thousands.
    """

    penalty: float = 300.0
    """Ridge penalty, > 0."""
    fade: Fade = NEVER
    """Of the user's history; the model itself is fitted to unfaded entries."""
    confidence: float = 1.0
    """Power of the events' weights in the history."""

    def fit(self, train: Interactions) -> Model:
        history = train.matrix(self.fade, self.confidence)
        seen = train.matrix(confidence=0)
        gram = (seen.T @ seen).toarray()
        gram[np.diag_indices_from(gram)] += self.penalty
        inverse: Floats = linalg.inv(gram, overwrite_a=True, check_finite=False)
        weights: Floats = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0)
        return lambda users: np.asarray(history[users] @ weights, dtype=np.float64)


@dataclass(frozen=True)
class Blend:
    """Several recommenders, each brought to one scale per user, added by share."""

    parts: Sequence[tuple[float, Recommender]]
    """(share, recommender); shares > 0."""

    def fit(self, train: Interactions) -> Model:
        models = [(share, part.fit(train)) for share, part in self.parts]

        def scores(users: Ints) -> Floats:
            total = np.zeros((len(users), train.n_items))
            for share, model in models:
                total += share * standardise(model(users))
            return total

        return scores


def standardise(scores: Floats) -> Floats:
    """Mean 0 and deviation 1 per row; a row without any difference becomes 0."""
    centred = scores - scores.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    scaled = np.zeros(scores.shape)
    np.divide(centred, deviation, out=scaled, where=deviation > 0)
    return scaled
