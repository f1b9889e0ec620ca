"""Several measures, one order.

Each measure of a strategy is scaled over the candidates and the scaled values are joined:
added, multiplied, or compared front by front. The result says for every candidate what
each measure contributed, and for the whole list how far each measure *really* decided the
order, which is the figure to look at before believing the weights.

**Temperature** would change nothing as a divisor of scores: dividing keeps the order. So
it means drawing: candidates leave an urn one after the other, each with a chance in
proportion to ``e^(score / temperature)`` among those still in it (the Plackett-Luce
model), where the score has mean 0 and deviation 1 over the candidates. One draw of
Gumbel noise per candidate and a sort do the same (Yellott 1977). Each candidate's chance
at its turn is reported: logged, it lets another strategy be judged by the clicks this
one got (``evaluate.off_policy``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartcast.ranking.interactions import Floats
from heartcast.ranking.pareto import fronts
from heartcast.ranking.scaling import fill_missing, quantile, scale, zscore
from heartcast.ranking.strategy import Strategy

# The least a scaled value counts as in a product: one measure at the very bottom pulls
# an item down by its weight, it does not annul all others.
_LEAST_FACTOR = 1e-3


@dataclass(frozen=True)
class Influence:
    """How far one measure decided the order."""

    weight: float
    """What the strategy says."""
    expected: float
    """Rank correlation between measure and order if measures were independent and spread
    alike: the weight over the root of the sum of squared weights."""
    effective: float
    """Rank correlation between measure and order as it is (Spearman, -1 to 1)."""


@dataclass(frozen=True)
class Fused:
    """The order of the candidates, and why."""

    order: NDArray[np.int64]
    """Candidate indices, best first: int64[n]."""
    scores: Floats
    """Joined score of each candidate, higher is better, before any drawing: float64[n]."""
    propensities: Floats
    """Chance of each candidate to be drawn at its turn, in (0, 1]; all 1 without drawing."""
    contributions: dict[str, Floats]
    """What each measure put into each candidate's score, by name: float64[n]."""
    influence: dict[str, Influence]
    """Per measure, by name."""
    fronts: NDArray[np.int64] | None = None
    """Pareto front of each candidate where the method is ``pareto_rank``."""


def fuse(strategy: Strategy, values: Mapping[str, Floats], rng: np.random.Generator) -> Fused:
    """Order candidates by a strategy.

    Args:
        strategy: Weights, scales and method.
        values: Measures by name, float64[n] each, all of one length; NaN is missing. A
            measure the strategy does not know is not looked at; one that is not there
            counts as missing for every candidate.
        rng: Dice for a temperature above 0; seed it with the request's id and the same
            request gets the same order.

    Raises:
        ValueError: the measures differ in length.
    """
    n = _length(values)
    parts = strategy.components()
    raw = {name: fill_missing(values.get(name, np.full(n, np.nan))) for name in parts}
    scaled = {name: scale(part.normalizer, raw[name]) for name, part in parts.items()}
    weights = {name: part.weight for name, part in parts.items()}
    contributions = _contributions(strategy, weights, scaled)
    scores = np.sum(list(contributions.values()), axis=0)
    front = None
    if strategy.fuser.method == "pareto_rank":
        front = fronts(np.column_stack([raw[name] * np.sign(weights[name]) for name in parts]))
        # Inside a front the weighted sum decides; its quantile stays within (0, 1).
        scores = quantile(scores) - front
    order, propensities = draw(scores, strategy.fuser.temperature, rng)
    influence = _influence(weights, raw, scores)
    return Fused(order, scores, propensities, contributions, influence, front)


def draw(scores: Floats, temperature: float, rng: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
    """An order of the candidates, drawn from the Plackett-Luce model.

    Args:
        scores: float64[n], finite, higher is better.
        temperature: 0 sorts; above, how even the chances are.
        rng: Dice.

    Returns:
        Candidate indices, best first, and per *candidate* the chance it had at its turn.
    """
    if temperature == 0 or len(scores) == 0:
        return np.argsort(-scores, kind="stable"), np.ones(len(scores))
    strengths = zscore(scores) / temperature
    order = np.argsort(-(strengths + rng.gumbel(size=len(scores))), kind="stable")
    turned = strengths[order][::-1]
    left_in_urn = np.logaddexp.accumulate(turned)[::-1]
    chances = np.empty(len(scores))
    chances[order] = np.exp(strengths[order] - left_in_urn)
    return order, chances


def _length(values: Mapping[str, Floats]) -> int:
    lengths = {len(column) for column in values.values()}
    if len(lengths) > 1:
        raise ValueError("all measures must have one value per candidate")
    return lengths.pop() if lengths else 0


def _contributions(
    strategy: Strategy, weights: Mapping[str, float], scaled: Mapping[str, Floats]
) -> dict[str, Floats]:
    if strategy.fuser.method == "geometric":
        # A product of powers, kept as the sum of its logarithms.
        return {
            name: weights[name] * np.log(np.maximum(column, _LEAST_FACTOR)) for name, column in scaled.items()
        }
    return {name: weights[name] * column for name, column in scaled.items()}


def _influence(
    weights: Mapping[str, float], raw: Mapping[str, Floats], scores: Floats
) -> dict[str, Influence]:
    length = float(np.sqrt(sum(weight**2 for weight in weights.values())))
    places = zscore(quantile(scores))
    return {
        name: Influence(
            weight=weight,
            expected=weight / length,
            effective=_mean_product(zscore(quantile(raw[name])), places),
        )
        for name, weight in weights.items()
    }


def _mean_product(a: Floats, b: Floats) -> float:
    return float(np.dot(a, b) / len(a)) if len(a) else 0.0
