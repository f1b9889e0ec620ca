"""Reading MovieLens files: ratings with times, and a published split of them.

The data may not be redistributed, so none of it is here; ``Ratings.read`` takes a folder
that has it. A rating counts as an interaction whatever its value, as the published
comparison has it; the value becomes the confidence, ``rating / 5``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heartcast.ranking.evaluate.splits import Split
from heartcast.ranking.interactions import Interactions, Ints, interactions


@dataclass(frozen=True)
class PublishedSplit:
    """ML-100K as a published comparison split it: each user's newest event is the test,
    the one before it validation, the rest training; items with fewer than 5 ratings are out."""

    train: Interactions
    known: Interactions
    """Training and validation: what choices may look at."""
    test: Split
    """Fitted to training alone, asked for the test events, as the published rows were."""


def read_ratings(path: Path) -> Ints:
    """``u.data``: int64[n, 4] of user, item, rating, seconds.

    Raises:
        OSError: the file cannot be read.
        ValueError: it does not hold four whole numbers a line.
    """
    return np.loadtxt(path, dtype=np.int64, ndmin=2)[:, :4]


def everything(ratings: Ints) -> Interactions:
    """All ratings as interactions, users and items numbered as they sort."""
    users, user_index = np.unique(ratings[:, 0], return_inverse=True)
    items, item_index = np.unique(ratings[:, 1], return_inverse=True)
    return interactions(user_index, item_index, ratings[:, 3], ratings[:, 2] / 5, len(users), len(items))


def read_published(ratings: Ints, folder: Path) -> PublishedSplit:
    """The published split, with times and values from the ratings it was made of.

    Raises:
        OSError: a file is missing.
        KeyError: the split names a pair that the ratings do not have.
    """
    users = np.loadtxt(folder / "users.txt", dtype=np.int64)
    items = np.loadtxt(folder / "items.txt", dtype=np.int64)
    rated = {(user, item): (rating, time_s) for user, item, rating, time_s in ratings.tolist()}

    def read(*names: str) -> Interactions:
        pairs = np.concatenate(
            [np.loadtxt(folder / f"{name}.csv", dtype=np.int64, delimiter=",", skiprows=1) for name in names]
        )
        # The split's own numbers are lines in its list of users and of items.
        found = np.array([rated[int(users[user]), int(items[item])] for user, item in pairs])
        return interactions(pairs[:, 0], pairs[:, 1], found[:, 1], found[:, 0] / 5, len(users), len(items))

    train = read("train")
    return PublishedSplit(train, read("train", "validation"), Split(train, read("test"), "test"))
