"""Choosing what is served, on validation data alone.

What is served joins a few sources: what goes with the newest hearts, what similar people have, what is
hot (and, tried here, EASE). Asking the running code for every setting would take hours. So each source's
formula is asked once per split for its 100 best, as a request asks the source, and every way of joining
them is tried on these tables, in steps:

1. each source by itself;
2. all shares in tenths, by three ways of joining, over the best of each source.

Two kinds of question are put, because each alone would choose wrongly: *newest* asks for somebody's
newest event and the one before it, and would leave what is hot no share; *latest* asks for all that
happens after a moment, and would leave hardly anything else. Their geometric mean decides: a tenth
better counts the same at either, while a sum would listen to whichever has the larger figures. Test
events take no part: the moments lie before the one from which the tables by time are asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from heartcast.ranking.evaluate.choice import origins
from heartcast.ranking.evaluate.splits import Split, global_time
from heartcast.ranking.interactions import Fade, Floats, Interactions, Ints
from heartcast.ranking.recommenders import Ease, Nearby, Popular, Recommender, UserKnn

DEPTH = 100
"""What a source is asked for, as ``ForYou`` asks."""
JOINS = ("zscore", "quantile", "minmax")

GRIDS: dict[str, list[Recommender]] = {
    "items": [
        Nearby(reach=reach, half_gap=half_gap, shrink=shrink, fade=Fade(half_life, "events"))
        for (reach, half_gap), shrink, half_life in product(
            ((20, 5.0), (10, 5.0), (20, 10.0)), (5.0, 20.0), (2.0, 3.0, 5.0, 8.0)
        )
    ],
    "people": [
        UserKnn(k=100, shrink=shrink, fade=Fade(half_life, "events"), confidence=0, activity=activity)
        for half_life, activity, shrink in product((3.0, 8.0, 20.0), (0.0, 0.5), (1.0, 5.0))
    ],
    "hot": [Popular(half_life_s=days * 86_400.0) for days in (1, 7, 14, 30)],
    "EASE": [
        Ease(penalty=penalty, fade=Fade(half_life, "events"), confidence=0)
        for penalty, half_life in product((200.0, 800.0, 1600.0), (3.0, 6.0))
    ],
}
"""What is tried for each source."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Splits to judge by."""

    newest: Sequence[Split]
    latest: Sequence[Split]

    @property
    def every(self) -> list[Split]:
        """The splits of both."""
        return [*self.newest, *self.latest]


class Chosen(NamedTuple):
    """The best of each source, and the ways of joining them."""

    sources: dict[str, tuple[Mixed, Recommender]]
    mixed: list[Mixed]
    """Best first; shares in the order of ``sources``."""


class Mixed(NamedTuple):
    """A way of joining sources, and how good it is."""

    score: float
    """Geometric mean of the next two."""
    newest: float
    """Mean nDCG@10 of these questions."""
    latest: float
    """The same of the others."""
    join: str
    shares: tuple[float, ...]


def questions(known: Interactions, until_s: float, origin_count: int = 3) -> Questions:
    """What to judge by.

    Args:
        known: Training and validation events.
        until_s: Only what happened before is asked about by time.
        origin_count: How many of the newest events are asked for in turn.
    """
    before = known.select(known.times_s < until_s)
    return Questions(
        newest=origins(known, origin_count),
        latest=[global_time(before, inside) for inside in (0.6, 0.7, 0.8, 0.9)],
    )


def choose_served(asked: Questions, grids: Mapping[str, Sequence[Recommender]] = GRIDS) -> Chosen:
    """Both steps; with these grids some ten minutes."""
    sources: dict[str, tuple[Mixed, Recommender]] = {}
    for name, grid in grids.items():
        judged = [(judge_source(recommender, asked), recommender) for recommender in grid]
        sources[name] = max(judged, key=lambda one: one[0].score)
    return Chosen(sources, choose_shares([recommender for _, recommender in sources.values()], asked))


def judge_source(source: Recommender, asked: Questions) -> Mixed:
    """A source by itself."""
    return _mean(asked, [_ndcg(_without_seen(_best_of(source, s), s), s) for s in asked.every], "", (1.0,))


def choose_shares(sources: Sequence[Recommender], asked: Questions, parts: int = 10) -> list[Mixed]:
    """All shares in ``1/parts`` that add up to one, by every way of joining; best first."""
    tables = [[_best_of(source, split) for source in sources] for split in asked.every]
    found: list[Mixed] = []
    every = [some for some in product(range(parts + 1), repeat=len(sources)) if sum(some) == parts]
    for takes_part in dict.fromkeys(tuple(n > 0 for n in some) for some in every):
        chosen = [some for some in every if tuple(n > 0 for n in some) == takes_part]
        for join in JOINS:
            scaled = [
                _scaled(split, list(_taken(some, takes_part)), join)
                for split, some in zip(asked.every, tables, strict=True)
            ]
            for some in chosen:
                shares = [n / parts for n in some if n]
                values = [
                    _ndcg(_total(one, shares), split) for one, split in zip(scaled, asked.every, strict=True)
                ]
                found.append(_mean(asked, values, join, tuple(n / parts for n in some)))
    return sorted(found, reverse=True)


def _best_of(source: Recommender, split: Split) -> Floats:
    """Its ``DEPTH`` best that each user does not have, 0 for all others: float64[users asked, n_items]."""
    scores = _without_seen(source.fit(split.train)(_users(split)), split)
    if scores.shape[1] > DEPTH:
        bound = np.partition(scores, -DEPTH, axis=1)[:, -DEPTH, None]
        scores = np.where(scores >= bound, scores, 0)
    return np.maximum(scores, 0)


def _mean(asked: Questions, values: Sequence[float], join: str, shares: tuple[float, ...]) -> Mixed:
    count = len(asked.newest)
    newest, latest = float(np.mean(values[:count])), float(np.mean(values[count:]))
    return Mixed(float(np.sqrt(newest * latest)), newest, latest, join, shares)


def _taken(tables: Iterable[Floats] | Sequence[Floats], takes_part: Sequence[bool]) -> Iterable[Floats]:
    return (table for table, is_in in zip(tables, takes_part, strict=True) if is_in)


def _users(split: Split) -> Ints:
    return np.unique(split.held_out.users)


def _without_seen(scores: Floats, split: Split) -> Floats:
    users = _users(split)
    seen = split.train.matrix(confidence=0)[users].tocoo()
    hidden = scores.copy()
    hidden[seen.row, seen.col] = -np.inf
    return hidden


def _scaled(split: Split, tables: list[Floats], join: str) -> tuple[list[Floats], NDArray[np.bool_]]:
    """Each table on one scale over the candidates, and who is one."""
    seen = ~np.isfinite(_without_seen(np.zeros_like(tables[0]), split))
    is_candidate = np.any([table > 0 for table in tables], axis=0) & ~seen
    return [_scale(np.where(is_candidate, table, 0), is_candidate, join) for table in tables], is_candidate


def _scale(table: Floats, is_candidate: NDArray[np.bool_], join: str) -> Floats:
    count = np.maximum(is_candidate.sum(axis=1, keepdims=True), 1)
    if join == "quantile":
        ranks = rankdata(np.where(is_candidate, table, -1), axis=1) - (table.shape[1] - count)
        return np.asarray((ranks - 0.5) / count, dtype=np.float64)
    if join == "minmax":
        most = table.max(axis=1, keepdims=True)
        placed: Floats = table / np.where(most > 0, most, 1)
        return placed
    centred = table - table.sum(axis=1, keepdims=True) / count
    deviation = np.sqrt(((centred**2) * is_candidate).sum(axis=1, keepdims=True) / count)
    scaled: Floats = np.where(deviation > 1e-12, centred / np.maximum(deviation, 1e-12), 0)
    return scaled


def _total(scaled: tuple[list[Floats], NDArray[np.bool_]], shares: Sequence[float]) -> Floats:
    tables, is_candidate = scaled
    total = np.zeros_like(tables[0])
    for share, table in zip(shares, tables, strict=True):
        total += share * table
    return np.where(is_candidate, total, -np.inf)


def _ndcg(scores: Floats, split: Split, k: int = 10) -> float:
    """Mean nDCG@k over users, as ``metrics.evaluate`` counts it; -inf is no candidate."""
    users, rows = np.unique(split.held_out.users, return_inverse=True)
    asked = scores[rows, split.held_out.items]
    may_hit = np.isfinite(asked)
    gains, wanted = np.zeros(len(users)), np.bincount(rows, minlength=len(users))
    for start in range(0, len(rows), 2000):
        some = slice(start, start + 2000)
        lines, own = scores[rows[some]], asked[some, None]
        ranks = 1 + (lines > own).sum(axis=1) + ((lines == own).sum(axis=1) - 1) / 2
        gain = np.where(may_hit[some] & (ranks <= k), 1 / np.log2(1 + ranks), 0)
        np.add.at(gains, rows[some], gain)
    ideal = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))))
    return float((gains / ideal[np.minimum(wanted, k)]).mean())
