"""How often what is shown is clicked, bought and watched: rates that fade and do not panic.

Per item five counts fade with one half-life. Like hot scores they are kept relative to a
*landmark*: an event adds ``2^((t - landmark) / half_life)`` and nothing is touched because time
passes. When the exponents grow large the landmark moves and all counts are divided once.

An item that was clicked once of one showing does not have a click rate of 1. A rate is that of
a Beta-binomial model: what happened, plus a prior that says what items here are like,
``(clicks + a) / (exposures + a + b)``. The prior is fitted to all items by the method of
moments (Kleinman 1973): the more alike the items are, the more showings it takes to stand out.

Conversions are counted over *exposures*, not over clicks: ``ctcvr`` is the chance that a showing
leads to a conversion, and ``cvr = ctcvr / ctr``. Counting over clicks would only see the people
whom the headline had persuaded (Ma et al., SIGIR 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from heartcast.ranking.feedback import Feedback, Kind
from heartcast.ranking.interactions import Floats

_EXPOSURES, _CLICKS, _CONVERSIONS, _WATCHES, _WATCH_S = range(5)
_COLUMN = {
    Kind.EXPOSURE: _EXPOSURES, Kind.CLICK: _CLICKS, Kind.CONVERSION: _CONVERSIONS, Kind.WATCH: _WATCHES,
}  # fmt: skip
# 2^200 is far from overflow, and one division per 200 half-lives costs nothing.
_MOST_HALVINGS = 200.0
# Fewer showings than this in all, or fewer items: nothing to learn a prior from.
_LEAST_SHOWN = 100.0
_LEAST_ITEMS = 10
_Z = 1.96
"""Deviations of a 95 % interval."""


class Prior(NamedTuple):
    """What a rate is before anything is known of an item: Beta(a, b)."""

    a: float
    b: float

    @property
    def mean(self) -> float:
        return self.a / (self.a + self.b)


COLD = {"ctr": Prior(1.0, 19.0), "ctcvr": Prior(1.0, 999.0)}
"""Priors of a server that has seen nothing: one click in twenty showings, one conversion in a thousand,
worth as much as that many showings."""
_COLD_WATCH_S = 15.0
# Watches that the mean over all items counts as, beside an item's own.
_WATCH_PRIOR = 5.0


class Rates:
    """Fading counts and rates of items. Not for sharing between threads.

    Args:
        half_life_s: Seconds after which an event counts half, > 0.
        max_items: Items kept, >= 16; when there are more, the least shown sixteenth is forgotten.
        landmark_ms: Wall time that counts are relative to; the time of start is best.
    """

    def __init__(self, half_life_s: float, max_items: int, landmark_ms: int) -> None:
        self._half_life_ms = half_life_s * 1000
        self._max_items = max_items
        self._landmark_ms = landmark_ms
        self._slots: dict[str, int] = {}
        self._counts = np.zeros((64, 5))
        self.priors = dict(COLD)
        """Priors in use, by rate; renewed by ``learn``."""
        self._watch_s = _COLD_WATCH_S

    def __len__(self) -> int:
        return len(self._slots)

    def apply(self, events: Sequence[Feedback]) -> None:
        """Take events, in any order; dismissals are not rates and are passed over."""
        events = [event for event in events if event.kind in _COLUMN]
        if not events:
            return
        slots = np.fromiter((self._slot(event.item_id) for event in events), np.int64, len(events))
        halvings = self._halvings(np.array([event.at_ms for event in events], dtype=np.float64))
        worth = np.exp2(np.maximum(halvings, -1000.0))
        columns = np.fromiter((_COLUMN[event.kind] for event in events), np.int64, len(events))
        np.add.at(self._counts, (slots, columns), worth)
        watched = columns == _WATCHES
        if watched.any():
            seconds = np.array([event.value for event in events])[watched]
            np.add.at(self._counts, (slots[watched], np.int64(_WATCH_S)), worth[watched] * seconds)
        if len(self._slots) > self._max_items:
            self._forget_least_shown()

    def measures(self, item_ids: Sequence[str], now_ms: int) -> dict[str, Floats]:
        """What is to be expected of items shown now: float64[len(item_ids)] each, finite.

        Returns:
            ``ctr``, ``cvr`` (of those who click), ``ctcvr`` (of those who are shown), all in (0, 1),
            and ``watch``, seconds. Items of which nothing is known get what the priors say.
        """
        counts = self._now(item_ids, now_ms)
        ctr = _mean(counts[:, _CLICKS], counts[:, _EXPOSURES], self.priors["ctr"])
        ctcvr = _mean(counts[:, _CONVERSIONS], counts[:, _EXPOSURES], self.priors["ctcvr"])
        watch = (counts[:, _WATCH_S] + _WATCH_PRIOR * self._watch_s) / (counts[:, _WATCHES] + _WATCH_PRIOR)
        return {"ctr": ctr, "cvr": np.minimum(ctcvr / ctr, 1.0), "ctcvr": ctcvr, "watch": watch}

    def exposures(self, item_ids: Sequence[str], now_ms: int) -> Floats:
        """How often items were shown, faded to now: float64[len(item_ids)]."""
        return self._now(item_ids, now_ms)[:, _EXPOSURES]

    def best(self, count: int, now_ms: int) -> list[tuple[str, float]]:
        """Items by the lower end of their click rate's 95 % interval (Wilson 1927), best first.

        The lower end asks for proof: one click of one showing is 0.21, ninety of a hundred 0.83.

        Returns:
            (item id, lower bound in [0, 1)); only items that were shown.
        """
        ids = list(self._slots)
        counts = self._now(ids, now_ms)
        shown = counts[:, _EXPOSURES]
        bound = lower_bound(counts[:, _CLICKS], shown)
        bound[shown <= 0] = -1.0
        order = np.argsort(-bound, kind="stable")[:count]
        return [(ids[index], float(bound[index])) for index in order.tolist() if bound[index] >= 0]

    def learn(self, now_ms: int) -> None:
        """Fit the priors to all items as they are now: microseconds per thousand items."""
        counts = self._now(list(self._slots), now_ms)
        shown = counts[:, _EXPOSURES]
        for name, column in (("ctr", _CLICKS), ("ctcvr", _CONVERSIONS)):
            self.priors[name] = fit_prior(counts[:, column], shown, COLD[name])
        watches, seconds = counts[:, _WATCHES].sum(), counts[:, _WATCH_S].sum()
        self._watch_s = float((seconds + _COLD_WATCH_S) / (watches + 1.0))

    def _slot(self, item_id: str) -> int:
        slot = self._slots.get(item_id)
        if slot is None:
            slot = self._slots[item_id] = len(self._slots)
            if slot >= len(self._counts):
                self._counts = np.concatenate((self._counts, np.zeros((len(self._counts) // 2, 5))))
        return slot

    def _halvings(self, at_ms: Floats) -> Floats:
        newest = (float(at_ms.max()) - self._landmark_ms) / self._half_life_ms
        if newest > _MOST_HALVINGS:
            self._counts *= np.exp2(-newest)
            self._landmark_ms += round(newest * self._half_life_ms)
        halvings: Floats = (at_ms - self._landmark_ms) / self._half_life_ms
        return halvings

    def _now(self, item_ids: Sequence[str], now_ms: int) -> Floats:
        counts = np.zeros((len(item_ids), 5))
        find = self._slots.get
        known = [(place, slot) for place, name in enumerate(item_ids) if (slot := find(name)) is not None]
        if known:
            places, slots = np.array(known).T
            fade = np.exp2(-min(1000.0, (now_ms - self._landmark_ms) / self._half_life_ms))
            counts[places] = self._counts[slots] * fade
        return counts

    def _forget_least_shown(self) -> None:
        ids = list(self._slots)
        drop = max(1, self._max_items // 16) + len(ids) - self._max_items
        activity = self._counts[: len(ids), :_WATCH_S].sum(axis=1)
        kept = np.sort(np.argpartition(activity, drop)[drop:])
        self._slots = {ids[index]: slot for slot, index in enumerate(kept.tolist())}
        self._counts = np.concatenate((self._counts[kept], np.zeros((max(64, drop), 5))))


def lower_bound(successes: Floats, trials: Floats) -> Floats:
    """Lower end of Wilson's 95 % interval of a rate, in [0, 1): float64[n]; 0 without trials."""
    n = np.maximum(trials, 1e-12)
    p = np.clip(successes / n, 0.0, 1.0)
    z2 = _Z * _Z
    spread = _Z * np.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    bound: Floats = np.maximum(0.0, (p + z2 / (2 * n) - spread) / (1 + z2 / n))
    return np.where(trials > 0, bound, 0.0)


def fit_prior(successes: Floats, trials: Floats, cold: Prior) -> Prior:
    """Beta(a, b) of the items' true rates, by the method of moments weighted by trials.

    Args:
        successes: float64[n], >= 0.
        trials: float64[n], >= 0.
        cold: What to return when there is too little to learn from.
    """
    seen = trials > 0
    c, n = successes[seen], trials[seen]
    total, items = n.sum(), len(n)
    mean = (c.sum() + cold.mean) / (total + 1.0) if total else cold.mean
    if total < _LEAST_SHOWN or items < _LEAST_ITEMS or not 0 < mean < 1:
        return cold
    rates = np.minimum(c / n, 1.0)
    between = np.dot(n, (rates - mean) ** 2) / total - mean * (1 - mean) * items / total
    # No visible difference between items: as if each had been shown ten thousand times at the mean.
    strength = 1e4 if between <= 0 else float(np.clip(mean * (1 - mean) / between - 1, 1.0, 1e4))
    return Prior(float(mean * strength), float((1 - mean) * strength))


def _mean(successes: Floats, trials: Floats, prior: Prior) -> Floats:
    # Clicks may outnumber showings, when nobody reports showings: the rate stays below 1.
    trials = np.maximum(trials, successes)
    mean: Floats = (successes + prior.a) / (trials + prior.a + prior.b)
    return mean
