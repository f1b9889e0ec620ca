"""What would another policy have earned? Asked of a log in which chance had a say.

A log written by a policy that drew what to show, and wrote down each chance
(*propensity*), can be weighed as if another policy had drawn: an exposure that the other
would have made twice as often counts twice. Three estimators of the mean reward:

``ips``   sum of w * reward over n: right on average; a few large weights make it jump.
``snips`` the same over the sum of w: a little biased, far steadier, never outside the
          range of the rewards. The one to read first.
``dr``    a model's guess for the other policy, plus the weighed error of the model on
          the log: right if either the weights or the model are, steady if the model is good.

Horvitz and Thompson (1952); Swaminathan and Joachims (NIPS 2015); Dudik, Langford and Li
(ICML 2011). What the log's policy never showed cannot be judged: see ``effective_n``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heartcast.ranking.evaluate.bootstrap import Interval
from heartcast.ranking.interactions import Floats


@dataclass(frozen=True)
class Log:
    """Exposures of one policy, seen by another.

    Raises:
        ValueError: the columns differ in length, a propensity is not in (0, 1], or a target
            chance is not in [0, 1].
    """

    rewards: Floats
    """What each exposure earned: float64[n]."""
    propensities: Floats
    """Chance of each exposure under the policy that made it, in (0, 1]."""
    targets: Floats
    """Chance of the same exposure under the policy in question, in [0, 1]."""

    def __post_init__(self) -> None:
        if not len(self.rewards) == len(self.propensities) == len(self.targets):
            raise ValueError("rewards, propensities and targets must have the same length")
        if not np.all((self.propensities > 0) & (self.propensities <= 1)):
            raise ValueError("propensities must be above 0 and at most 1")
        if not np.all((self.targets >= 0) & (self.targets <= 1)):
            raise ValueError("targets must be 0 to 1")

    @property
    def weights(self) -> Floats:
        """How much more often the policy in question would have made each exposure."""
        return self.targets / self.propensities

    @property
    def effective_n(self) -> float:
        """How many exposures the estimate really rests on (Kish): n where the policies agree,
        near 1 where a single exposure decides. 0 where they share nothing."""
        squares = float((self.weights**2).sum())
        return float(self.weights.sum()) ** 2 / squares if squares else 0.0


def ips(log: Log) -> float:
    """Inverse propensity score; NaN for an empty log."""
    return _ratio(float((log.weights * log.rewards).sum()), len(log.rewards))


def snips(log: Log) -> float:
    """Self-normalised inverse propensity score; NaN where the policies share nothing."""
    return _ratio(float((log.weights * log.rewards).sum()), float(log.weights.sum()))


def dr(log: Log, guesses: Floats, target_guesses: Floats) -> float:
    """Doubly robust.

    Args:
        log: The log.
        guesses: A model's reward for what was shown: float64[n].
        target_guesses: The model's mean reward for what the policy in question would have
            shown in its place: float64[n].
    """
    errors = log.weights * (log.rewards - guesses)
    return _ratio(float((target_guesses + errors).sum()), len(log.rewards))


def snips_interval(log: Log, seed: int = 0, draws: int = 2000) -> Interval:
    """``snips`` and where it lies with 95 % confidence, by bootstrap over exposures."""
    rng = np.random.default_rng(seed)
    earned, weights = log.weights * log.rewards, log.weights
    found = []
    for _ in range(draws):
        picked = rng.integers(0, len(weights), len(weights))
        found.append(_ratio(float(earned[picked].sum()), float(weights[picked].sum())))
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Interval(snips(log), float(low), float(high))


def _ratio(above: float, below: float) -> float:
    return above / below if below else float("nan")
