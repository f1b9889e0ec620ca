"""When to send: an open loop, whose rate may change over time.

A schedule is a rate drawn as straight pieces. Its integral says how many messages are
due by a moment, and the inverse of that says when the n-th is due. With constant
arrivals n counts 1, 2, 3 …; with Poisson arrivals it grows by exponential steps of mean
1, which gives an inhomogeneous Poisson process that follows the rate exactly. Neither
looks at the answers, and nothing here reads a clock.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Literal

Shape = Literal["steady", "ramp", "step", "spike", "sweep"]
Process = Literal["poisson", "constant"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of time in which the rate moves on a straight line."""

    seconds: float
    from_per_s: float
    to_per_s: float

    @property
    def count(self) -> float:
        """Messages due within it."""
        return self.seconds * (self.from_per_s + self.to_per_s) / 2

    def when(self, count: float) -> float:
        """Seconds after its start at which ``count`` messages are due, 0 <= count <= self.count."""
        slope = (self.to_per_s - self.from_per_s) / self.seconds
        if abs(slope) < 1e-12:
            return count / self.from_per_s
        # The root of slope/2 t² + from t = count, in the form that does not cancel.
        root = math.sqrt(max(0.0, self.from_per_s**2 + 2 * slope * count))
        return min(self.seconds, 2 * count / (self.from_per_s + root)) if count else 0.0


def pieces(
    shape: Shape, *, rate_per_s: float, peak_per_s: float, seconds: float, steps: int = 6
) -> list[Piece]:
    """A schedule of a known shape.

    Args:
        shape: steady: ``rate_per_s`` all the time. ramp: from it to ``peak_per_s``. step:
            half the time at it, half at the peak. spike: the middle fifth at the peak.
            sweep: ``steps`` equal stairs from it to the peak.
        seconds: Length of the whole, > 0.

    Raises:
        ValueError: a rate or the length is not positive.
    """
    if min(rate_per_s, peak_per_s, seconds, steps) <= 0:
        raise ValueError("rates, seconds and steps must be > 0")
    if shape == "ramp":
        return [Piece(seconds, rate_per_s, peak_per_s)]
    if shape == "step":
        return [Piece(seconds / 2, rate_per_s, rate_per_s), Piece(seconds / 2, peak_per_s, peak_per_s)]
    if shape == "spike":
        parts = [(0.4, rate_per_s), (0.2, peak_per_s), (0.4, rate_per_s)]
        return [Piece(seconds * share, rate, rate) for share, rate in parts]
    if shape == "sweep":
        return [Piece(seconds / steps, rate, rate) for rate in stairs(rate_per_s, peak_per_s, steps)]
    return [Piece(seconds, rate_per_s, rate_per_s)]


def stairs(lowest: float, highest: float, steps: int) -> list[float]:
    """``steps`` values from ``lowest`` to ``highest``, each the same factor above the one before."""
    if steps == 1:
        return [highest]
    factor = (highest / lowest) ** (1 / (steps - 1))
    return [lowest * factor**step for step in range(steps)]


class Arrivals:
    """The moments at which messages are due, in order.

    Args:
        schedule: Its pieces, in order.
        random: Makes a Poisson process; None: constant spacing.
    """

    __slots__ = ("_count", "_ends", "_index", "_next_s", "_pieces", "_random", "_starts")

    def __init__(self, schedule: Sequence[Piece], random: Random | None = None) -> None:
        self._pieces = list(schedule)
        self._starts = _sums(piece.seconds for piece in schedule)
        self._ends = _sums(piece.count for piece in schedule)
        self._random = random
        self._index = 0
        self._count = 0.0
        self._next_s = self._advance()

    @property
    def next_s(self) -> float:
        """When the next one is due, in seconds after the start; infinity when none is left."""
        return self._next_s

    @property
    def total_s(self) -> float:
        """Length of the schedule."""
        return self._starts[-1]

    def due(self, now_s: float, at_most: int = 10_000) -> list[float]:
        """Moments up to and including ``now_s``, each given once.

        Args:
            at_most: No more than this many at a time; the rest is still due afterwards.
        """
        moments: list[float] = []
        while self._next_s <= now_s and len(moments) < at_most:
            moments.append(self._next_s)
            self._next_s = self._advance()
        return moments

    def _advance(self) -> float:
        self._count += self._random.expovariate(1.0) if self._random is not None else 1.0
        # Sums of floats: the last of n constant arrivals may miss the end by a hair.
        count = self._count - 1e-9
        while self._index < len(self._pieces) and count > self._ends[self._index + 1]:
            self._index += 1
        if self._index == len(self._pieces):
            return math.inf
        return self._starts[self._index] + self._pieces[self._index].when(count - self._ends[self._index])


def _sums(values: Iterable[float]) -> list[float]:
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    assert all(a <= b for a, b in pairwise(sums))
    return sums


class Zipf:
    """Draws numbers 0 … n-1, where the k-th is asked 1 / (k+1)^exponent as often as the first.

    By a table of cumulated weights: exact, and a draw is one binary search.
    """

    __slots__ = ("_cumulated", "_random")

    def __init__(self, n: int, exponent: float, random: Random) -> None:
        if n < 1 or exponent < 0:
            raise ValueError("n must be >= 1 and exponent >= 0")
        self._cumulated = _sums((k + 1) ** -exponent for k in range(n))[1:]
        self._random = random

    def draw(self) -> int:
        cumulated = self._cumulated
        return bisect_left(cumulated, self._random.random() * cumulated[-1], hi=len(cumulated) - 1)
