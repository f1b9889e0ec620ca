"""The measures that strategies weigh: rates of what happened, or models of your own.

A *head* estimates one thing of an item for a user: the chance of a click, of a conversion, the
seconds of watching. Without any model it is the item's fading rate (``rates``). A ``Predictor``
takes its place by name; what it gets wrong by a constant factor, ``calibration`` repairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from heartcast.ranking.interactions import Floats
from heartcast.ranking.rates import Rates


class Predictor(Protocol):
    """A model of one measure.

    It runs on the event loop, in the middle of a request: 100 candidates must take a few
    hundred microseconds, or everybody waits.
    """

    def __call__(self, user_id: str, item_ids: Sequence[str], known: Mapping[str, Floats]) -> Floats:
        """Predict.

        Args:
            user_id: Anybody; "" for a visitor without account.
            item_ids: The candidates.
            known: What the rates say of them: ``ctr``, ``cvr``, ``ctcvr``, ``watch``,
                float64[len(item_ids)] each.

        Returns:
            float64[len(item_ids)]; NaN where it does not know, which counts as the median.
        """
        ...


class Heads:
    """All measures.

    Args:
        rates: What happened.
        predictors: Models by the measure they predict.
        failed: Told of a predictor's name and what it raised, or what is wrong with its answer.
    """

    def __init__(
        self,
        rates: Rates,
        predictors: Mapping[str, Predictor],
        failed: Callable[[str, Exception], None] = lambda name, error: None,
    ) -> None:
        self._rates = rates
        self._predictors = predictors
        self._failed = failed

    def measure(self, user_id: str, item_ids: Sequence[str], now_ms: int) -> dict[str, Floats]:
        """Every measure of the items: float64[len(item_ids)] each. A predictor that fails leaves
        what the rates say, or NaN where they say nothing."""
        known = self._rates.measures(item_ids, now_ms)
        measures = dict(known)
        for name, predict in self._predictors.items():
            try:
                measures[name] = _checked(predict(user_id, item_ids, known), len(item_ids))
            except Exception as error:  # whatever somebody else's model does, requests are answered
                self._failed(name, error)
                measures.setdefault(name, np.full(len(item_ids), np.nan))
        return measures


def _checked(predicted: Floats, n: int) -> Floats:
    values = np.asarray(predicted, dtype=np.float64)
    if values.shape != (n,):
        raise ValueError(f"must be {n} numbers, got an array of shape {values.shape}")
    return values
