"""Forward decay: a score that fades without ever being recomputed.

An event of weight ``w`` at time ``t`` is worth ``w * 2^-((now - t) / h)``: half of it
is left after one half-life ``h``. Written from a fixed landmark ``L`` instead of from
now, that is ``w * 2^((t - L) / h)`` divided by ``2^((now - L) / h)``, and the divisor is
the same for every item. Order therefore changes by events only, never by time passing:
an item is one number that grows when something happens to it, and a late event needs no
special case (Cormode, Shkapenyuk, Srivastava, Xu: "Forward Decay", ICDE 2009).

``2^((t - L) / h)`` leaves the range of a float after 1,024 half-lives, so we keep its
logarithm, the *level*: adding is a log-add, taking away a log-subtract, and a level
stays exact to about 1e-13 of its score over years of half-lives of an hour.

Half-lives and not rates: ``ln 2 / 0.001 per s`` is 11.6 minutes, which is easily
mistaken for 69; nobody mistakes a half-life.

Nothing here reads a clock.
"""

from __future__ import annotations

from math import exp2, inf, log1p, log2

HALF_LIVES_S = {
    "danmaku": 7 * 60.0,
    "social": 14 * 60.0,
    "long_tail": 69 * 60.0,
    "hour": 3600.0,
    "day": 86_400.0,
    "week": 7 * 86_400.0,
}
"""Half-lives by name, in seconds: comments that fly over a video, a social feed, long-tail
content, and what the default boards are called."""

_PER_LN2 = log2(2.718281828459045)
# A level differs from another by at most this many halvings before it no longer matters
# to a float; also keeps exp2 away from its overflow at 1024.
_MOST_HALVINGS = 1000.0

# When less than 2^-26 of a sum is left after taking something away, half of the digits
# of what is left are rounding.
DEEP_CUT = 26.0


class Decay:
    """One half-life, and the landmark its levels count from.

    Args:
        half_life_s: Seconds after which half of a score is left, > 0.
        landmark_ms: Wall time that levels count from. Any time works; one near the
            events keeps the most digits.
    """

    __slots__ = ("half_life_s", "landmark_ms", "per_ms")

    def __init__(self, half_life_s: float, landmark_ms: int) -> None:
        if not 0 < half_life_s < inf:
            raise ValueError(f"half_life_s must be > 0 and finite, got {half_life_s}")
        self.half_life_s = half_life_s
        self.landmark_ms = landmark_ms
        self.per_ms = 1 / (half_life_s * 1000)
        """Half-lives in a millisecond."""

    def level(self, weight: float, at_ms: int) -> float:
        """The level of a single event of this weight (> 0) at this time."""
        return log2(weight) + (at_ms - self.landmark_ms) * self.per_ms

    def score(self, level: float, now_ms: int) -> float:
        """What a level is worth now, >= 0; 1.0 is one event of weight 1 this very moment."""
        return exp2(min(level - (now_ms - self.landmark_ms) * self.per_ms, _MOST_HALVINGS))


def log_add(a: float, b: float) -> float:
    """``log2(2^a + 2^b)`` without leaving the logarithm. ``-inf`` is nothing."""
    if a < b:
        a, b = b, a
    if b == -inf:
        return a
    return a + log1p(exp2(b - a)) * _PER_LN2


def log_subtract(a: float, b: float) -> float:
    """``log2(2^a - 2^b)``; ``-inf`` where nothing is left or rounding ate it (``b >= a``)."""
    if b >= a:
        return -inf
    left = 1 - exp2(b - a)
    return a + log2(left) if left > 0 else -inf
