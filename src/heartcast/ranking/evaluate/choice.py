"""Choosing parameters on validation data, and never on anything else.

A single held-out event per user is a noisy judge: on 943 users the best of two hundred
settings wins by luck as much as by merit. So a setting is judged at several *origins*:
with the newest training event hidden and asked for, with the two newest hidden and the
second asked for, and so on, each time fitted to what came before. The mean over origins
decides. Test events take no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from heartcast.ranking.evaluate.metrics import evaluate
from heartcast.ranking.evaluate.splits import Split, leave_last_out
from heartcast.ranking.interactions import Interactions
from heartcast.ranking.recommenders import Recommender


class Judged(NamedTuple):
    """A setting and its mean over the origins."""

    score: float
    recommender: Recommender


def origins(events: Interactions, count: int = 5) -> list[Split]:
    """Splits that ask for the newest event, the one before it, and so on."""
    return [leave_last_out(events, back, f"-{back}") for back in range(count)]


def judge(recommender: Recommender, splits: Sequence[Split], metric: str = "nDCG@10") -> Judged:
    """The mean of a metric over splits."""
    values = [evaluate(recommender, split, (10,)).overall[metric] for split in splits]
    return Judged(sum(values) / len(values), recommender)


def choose(
    candidates: Iterable[Recommender], splits: Sequence[Split], metric: str = "nDCG@10"
) -> list[Judged]:
    """All candidates, best first; equals stay in the order given."""
    return sorted(
        (judge(candidate, splits, metric) for candidate in candidates),
        key=lambda judged: judged.score,
        reverse=True,
    )
