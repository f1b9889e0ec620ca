"""Full-ranking metrics: the hidden items among the whole catalogue, nothing sampled.

Every item that the user did not have before is a candidate. A hidden item's rank is 1
plus the candidates that score higher plus half of those that tie with it: a model that
scores all alike gets what chance gives, not first or last place by the order of columns.
Sampled candidates (100 negatives and the like) are not offered: they change which of two
models wins (Krichene and Rendle, KDD 2020).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from heartcast.ranking.evaluate.splits import Split
from heartcast.ranking.interactions import Floats, Interactions, Ints
from heartcast.ranking.recommenders import Model, Recommender

_BLOCK_USERS = 512


@dataclass(frozen=True)
class Report:
    """What a recommender got on one split."""

    per_user: dict[str, Floats]
    """Metric name such as ``nDCG@10`` -> value of each user asked about, in one order for
    every recommender on the same split."""
    overall: dict[str, float]
    """Means of ``per_user``, and what only a whole run has: coverage and novelty."""


def evaluate(recommender: Recommender, split: Split, cutoffs: Sequence[int] = (10, 20)) -> Report:
    """Fit to the training part and ask for the hidden part.

    Returns:
        For each cutoff k: ``R@k`` (share of the hidden items in the first k), ``nDCG@k``,
        ``MAP@k``; ``MRR``; ``coverage@k`` (share of the catalogue that anybody is shown)
        and ``novelty@k`` (mean ``-log2`` of the shown items' share of users).
    """
    model = recommender.fit(split.train)
    per_user: dict[str, list[float]] = {}
    shown = {k: np.zeros(split.train.n_items) for k in cutoffs}
    for ranks, best in _ranked(model, split, max(cutoffs)):
        for name, value in _judge(ranks, cutoffs).items():
            per_user.setdefault(name, []).append(value)
        for k in cutoffs:
            shown[k][best[:k]] += 1
    columns = {name: np.array(values) for name, values in per_user.items()}
    overall = {name: float(values.mean()) for name, values in columns.items()}
    return Report(columns, overall | _beyond_accuracy(shown, split.train))


def _ranked(model: Model, split: Split, depth: int) -> Iterator[tuple[Floats, Ints]]:
    """Ranks of each user's hidden items, and the best ``depth`` items, user by user."""
    seen = split.train.matrix(confidence=0)
    hidden = split.held_out.matrix(confidence=0)
    users = np.flatnonzero(np.diff(hidden.indptr))
    for start in range(0, len(users), _BLOCK_USERS):
        block = users[start : start + _BLOCK_USERS]
        for user, scores in zip(block, model(block), strict=True):
            mine = seen.indices[seen.indptr[user] : seen.indptr[user + 1]]
            asked = np.setdiff1d(hidden.indices[hidden.indptr[user] : hidden.indptr[user + 1]], mine)
            if len(asked):
                scores[mine] = -np.inf
                yield mid_ranks(scores, asked), _best(scores, depth)


def mid_ranks(scores: Floats, asked: Ints) -> Floats:
    """1 + candidates above + half of the ties, for each asked item: float64[len(asked)]."""
    ordered = np.sort(scores)
    wanted = scores[asked]
    above = len(ordered) - np.searchsorted(ordered, wanted, side="right")
    tied = np.searchsorted(ordered, wanted, side="right") - np.searchsorted(ordered, wanted) - 1
    return np.sort(1 + above + tied / 2)


def _judge(ranks: Floats, cutoffs: Sequence[int]) -> dict[str, float]:
    values = {}
    gains = 1 / np.log2(1 + ranks)
    for k in cutoffs:
        hit = ranks <= k
        most = min(k, len(ranks))
        values[f"R@{k}"] = float(hit.mean())
        values[f"nDCG@{k}"] = float((gains * hit).sum() / (1 / np.log2(np.arange(2, most + 2))).sum())
        values[f"MAP@{k}"] = float((np.arange(1, len(ranks) + 1) / ranks * hit).sum() / most)
    values["MRR"] = float(1 / ranks[0])
    return values


def _best(scores: Floats, depth: int) -> Ints:
    depth = min(depth, len(scores))
    found = np.argpartition(-scores, depth - 1)[:depth]
    return found[np.argsort(-scores[found], kind="stable")]


def _beyond_accuracy(shown: dict[int, Floats], train: Interactions) -> dict[str, float]:
    # One more user than there are, so that an item nobody has is rare and not infinitely so.
    share = (np.bincount(train.items, minlength=train.n_items) + 1) / (train.n_users + 1)
    surprise = -np.log2(np.minimum(share, 1))
    values = {}
    for k, times in shown.items():
        values[f"coverage@{k}"] = float((times > 0).mean())
        values[f"novelty@{k}"] = float((times * surprise).sum() / max(times.sum(), 1))
    return values
