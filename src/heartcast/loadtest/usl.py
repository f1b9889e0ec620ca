"""The Universal Scalability Law: how throughput grows with what is done at once, and where it stops.

    X(N) = gamma N / (1 + alpha (N - 1) + beta N (N - 1))

N is how many requests are in flight, gamma the throughput of one alone, alpha the share
that must queue for something shared, beta the cost of keeping the many in agreement.
Alpha alone flattens the curve, beta bends it down again after a peak at
sqrt((1 - alpha) / beta).

Fitted by least squares (Levenberg and Marquardt), with intervals from a bootstrap of the
residuals. ``robust_fit`` trusts points the less the further they lie from the curve of the
others, so that one spoiled load does not bend it. Pure arithmetic: no clock, no dice
but those handed in. A fit knows how far it has seen and refuses to speak of more than twice
that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from statistics import median

import msgspec

from heartcast.core.errors import InvalidInput

MIN_POINTS = 5
FARTHEST = 2.0
"""A fit speaks of at most this many times the largest N it was made from."""
_ROUNDS = 200
_PASSES = 10
_BEYOND = 4.685
"""Tukey's bound in standard deviations: 95 % as good as least squares where the noise is normal."""
_STILL = 1e-3
"""A scatter below a tenth of a percent is nothing to weigh."""

Point = tuple[float, float]
"""(N, X)"""
_Vector = tuple[float, float, float]


class Usl(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted law."""

    gamma: float
    alpha: float
    beta: float
    sse: float
    """Sum of squared residuals."""
    largest_n: float
    """Largest N that was measured."""

    def throughput(self, n: float) -> float:
        """X(N).

        Raises:
            InvalidInput: N is more than twice the largest measured.
        """
        if n > FARTHEST * self.largest_n:
            raise InvalidInput(
                f"measured up to N = {self.largest_n:g}, so nothing can be said of N = {n:g}: "
                f"at most {FARTHEST * self.largest_n:g}"
            )
        return _model((self.gamma, self.alpha, self.beta), n)

    @property
    def peak_n(self) -> float | None:
        """N of the highest throughput; None: it only flattens out."""
        return math.sqrt((1 - self.alpha) / self.beta) if self.beta > 0 and self.alpha < 1 else None

    @property
    def best(self) -> tuple[float, float]:
        """(N, X) of the highest throughput within what may be said."""
        n = min(self.peak_n or math.inf, FARTHEST * self.largest_n)
        return n, self.throughput(n)


class Interval(msgspec.Struct, frozen=True):
    """95 % of the bootstrap lies between."""

    low: float
    high: float


class Intervals(msgspec.Struct, frozen=True):
    gamma: Interval
    alpha: Interval
    beta: Interval


def _model(p: _Vector, n: float) -> float:
    gamma, alpha, beta = p
    return gamma * n / (1 + alpha * (n - 1) + beta * n * (n - 1))


def fit(points: Sequence[Point], weights: Sequence[float] = ()) -> Usl:
    """The law that fits best; alpha and beta are not below 0.

    Args:
        points: At least five, of different N.
        weights: Of each point's squared residual; empty: all count alike.

    Raises:
        InvalidInput: there are too few, or they make no curve.
    """
    if len({n for n, _ in points}) < MIN_POINTS:
        raise InvalidInput(f"a fit needs {MIN_POINTS} different loads, got {len({n for n, _ in points})}")
    if any(n <= 0 or x <= 0 for n, x in points):
        raise InvalidInput("N and throughput must be above 0")
    # Of the fits with neither, one or both of alpha and beta held at 0, the best that keeps both >= 0.
    weights = weights or [1.0] * len(points)
    fits = [_refine(_start(points), points, weights, held) for held in ((), (1,), (2,), (1, 2))]
    allowed = [p for p in fits if p[1] >= 0 and p[2] >= 0] or [fits[-1]]
    best = min(allowed, key=lambda p: _sse(p, points, weights))
    return Usl(
        gamma=best[0],
        alpha=best[1],
        beta=best[2],
        sse=_sse(best, points, weights),
        largest_n=max(n for n, _ in points),
    )


def robust_fit(points: Sequence[Point]) -> Usl:
    """The law that fits most of the points, by shares of their throughput; see ``fit``.

    The further a point lies from the curve the less it counts, and nothing beyond what the others
    scatter (Tukey's weights, found again with each fit).

    Raises:
        InvalidInput: as ``fit``.
    """
    shares = [1 / (x * x) if x > 0 else 0.0 for _, x in points]

    def residuals(law: Usl) -> list[float]:
        return [abs(x / _model((law.gamma, law.alpha, law.beta), n) - 1) for n, x in points]

    # From the fit without the one point that spoils it most: with it, the curve may be bent so far
    # already that the others look wrong.
    without = [fit(points, [w * (i != k) for i, w in enumerate(shares)]) for k in range(len(points))]
    law = min(without, key=lambda law: median(residuals(law)))
    for _ in range(_PASSES):
        off = residuals(law)
        # 1.4826 makes the median of the residuals a standard deviation where the noise is normal.
        bound = _BEYOND * max(_STILL, 1.4826 * median(off))
        law = fit(points, [w * max(0.0, 1 - (o / bound) ** 2) ** 2 for w, o in zip(shares, off, strict=True)])
    return law


def scatter(law: Usl, points: Sequence[Point]) -> float:
    """How far the points lie from the law, root of the mean square, as a share of their throughput."""
    return math.sqrt(sum((x / law.throughput(n) - 1) ** 2 for n, x in points) / len(points))


def bootstrap(law: Usl, points: Sequence[Point], random: Random, rounds: int = _ROUNDS) -> Intervals:
    """How much the coefficients move when the residuals are dealt anew, 95 % interval."""
    p = (law.gamma, law.alpha, law.beta)
    # Relative residuals: a sweep's large throughputs scatter more than its small ones.
    shares = [x / _model(p, n) for n, x in points]
    found = [fit([(n, _model(p, n) * random.choice(shares)) for n, _ in points]) for _ in range(rounds)]
    return Intervals(
        _interval([each.gamma for each in found]),
        _interval([each.alpha for each in found]),
        _interval([each.beta for each in found]),
    )


def _interval(values: list[float]) -> Interval:
    values = sorted(values)
    last = len(values) - 1
    return Interval(values[round(last * 0.025)], values[round(last * 0.975)])


def _sse(p: _Vector, points: Sequence[Point], weights: Sequence[float]) -> float:
    return sum(w * (x - _model(p, n)) ** 2 for (n, x), w in zip(points, weights, strict=True))


def _start(points: Sequence[Point]) -> _Vector:
    # N/X is a quadratic of N: through the smallest N, and roughly flat after the largest X.
    n0, x0 = min(points)
    gamma = x0 / n0
    n1, x1 = max(points, key=lambda point: point[1])
    alpha = min(0.9, max(1e-3, (gamma * n1 / x1 - 1) / max(1.0, n1 - 1)))
    return gamma, alpha, alpha / max(4.0, n1)


def _refine(p: _Vector, points: Sequence[Point], weights: Sequence[float], held: tuple[int, ...]) -> _Vector:
    """Levenberg and Marquardt; ``held`` parameters stay at 0."""
    p = (p[0], 0.0 if 1 in held else p[1], 0.0 if 2 in held else p[2])
    free = [i for i in range(3) if i not in held]
    damping, sse = 1e-3, _sse(p, points, weights)
    for _ in range(200):
        normal, right = _normal(p, points, weights, free)
        for k in range(len(free)):
            normal[k][k] *= 1 + damping
        step = _solve(normal, right)
        moved = list(p)
        for k, i in enumerate(free):
            moved[i] += step[k]
        tried = (moved[0], moved[1], moved[2])
        is_sane = all(_denominator(tried, n) > 0 for n, _ in points)
        tried_sse = _sse(tried, points, weights) if is_sane else math.inf
        if tried_sse < sse:
            is_still = all(abs(a - b) <= 1e-12 * abs(a) for a, b in zip(tried, p, strict=True))
            p, sse, damping = tried, tried_sse, damping / 5
            if is_still:
                break
        else:
            damping *= 5
            if damping > 1e12:
                break
    return p


def _denominator(p: _Vector, n: float) -> float:
    return 1 + p[1] * (n - 1) + p[2] * n * (n - 1)


def _normal(
    p: _Vector, points: Sequence[Point], weights: Sequence[float], free: Sequence[int]
) -> tuple[list[list[float]], list[float]]:
    size = len(free)
    normal = [[0.0] * size for _ in range(size)]
    right = [0.0] * size
    for (n, x), weight in zip(points, weights, strict=True):
        below = _denominator(p, n)
        value = p[0] * n / below
        slopes = (n / below, -value * (n - 1) / below, -value * n * (n - 1) / below)
        for row, i in enumerate(free):
            right[row] += weight * slopes[i] * (x - value)
            for column, j in enumerate(free):
                normal[row][column] += weight * slopes[i] * slopes[j]
    return normal, right


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gauss with pivots, for one to three unknowns; zeros where there is no one answer."""
    size = len(right)
    rows = [[*matrix[k], right[k]] for k in range(size)]
    for k in range(size):
        pivot = max(range(k, size), key=lambda row: abs(rows[row][k]))
        rows[k], rows[pivot] = rows[pivot], rows[k]
        if rows[k][k] == 0:
            return [0.0] * size
        for other in range(k + 1, size):
            factor = rows[other][k] / rows[k][k]
            rows[other] = [a - factor * b for a, b in zip(rows[other], rows[k], strict=True)]
    answer = [0.0] * size
    for k in reversed(range(size)):
        rest = sum(rows[k][j] * answer[j] for j in range(k + 1, size))
        answer[k] = (rows[k][size] - rest) / rows[k][k]
    return answer
