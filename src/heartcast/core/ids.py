"""Identifiers that sort by time: 26 characters of Crockford's base 32, as ULIDs are.

48 bits of wall milliseconds, then 80 bits that start at random in each millisecond
and count up within it, so that ids of one process are unique and strictly increasing
even when the clock stands still or steps back.
"""

from __future__ import annotations

from random import Random, SystemRandom

from heartcast.core.clock import Clock

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Two characters (10 bits) at a time: 13 look-ups an id instead of 26.
_PAIRS = [high + low for high in _DIGITS for low in _DIGITS]
_LOW_BITS = 40
_LOW_MASK = (1 << _LOW_BITS) - 1


def _render(value: int, bits: int) -> str:
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in range(bits - 10, -10, -10)])


class IdSource:
    """Makes ids. One per process; not shared between threads."""

    __slots__ = ("_clock", "_low", "_ms", "_prefix", "_random")

    def __init__(self, clock: Clock, random: Random | None = None) -> None:
        self._clock = clock
        self._random = random or SystemRandom()
        self._ms = -1
        self._low = _LOW_MASK
        self._prefix = ""

    def next(self) -> str:
        """A new id, greater than every id this source made before."""
        ms = self._clock.wall_ms()
        # `>` and not `!=`: a clock that steps back must not bring back old prefixes.
        if ms > self._ms or self._low >= _LOW_MASK:
            self._begin(max(ms, self._ms + (self._low >= _LOW_MASK)))
        self._low += 1
        low = self._low
        return (
            f"{self._prefix}{_PAIRS[low >> 30]}{_PAIRS[(low >> 20) & 1023]}"
            f"{_PAIRS[(low >> 10) & 1023]}{_PAIRS[low & 1023]}"
        )

    def _begin(self, ms: int) -> None:
        # The top 90 bits (time and half of the chance) stay fixed within one
        # millisecond and are rendered once; only the low 40 bits count.
        self._ms = ms
        self._low = self._random.getrandbits(_LOW_BITS - 1)
        # 50 bits hold the 48 bits of time; the two bits in front are always zero.
        self._prefix = _render(ms, 50) + _render(self._random.getrandbits(40), 40)


def is_id(text: str) -> bool:
    """Whether this could be an id: 26 digits of Crockford's alphabet, upper case."""
    return len(text) == 26 and all(char in _DIGITS for char in text)
