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

    __slots__ = ("_low", "_ms", "_prefix", "_random", "_second", "_second_text", "_stem", "_wall_ms")

    def __init__(self, clock: Clock, random: Random | None = None) -> None:
        self._wall_ms = clock.wall_ms
        self._random = random or SystemRandom()
        self._ms = -1
        self._low = _LOW_MASK
        self._prefix = ""
        self._stem = ""
        self._second = -1
        self._second_text = ""

    def next(self) -> str:
        """A new id, greater than every id this source made before."""
        ms = self._wall_ms()
        low = self._low + 1
        # `>` and not `!=`: a clock that steps back must not bring back old prefixes.
        if ms > self._ms or low > _LOW_MASK:
            self._begin(max(ms, self._ms + (low > _LOW_MASK)))
            low = self._low + 1
        self._low = low
        last = low & 1023
        if not last:
            self._stem = self._prefix + _render(low >> 10, 30)
        return self._stem + _PAIRS[last]

    def skip_past(self, id: str) -> None:  # noqa: A002 - it is one
        """Make only greater ids than this one, which an earlier process may have made.

        Without it a clock that stepped back between two processes would put what the
        second accepts in front of what the first had accepted.
        """
        if is_id(id):
            ms = 0
            for char in id[:10]:
                ms = ms << 5 | _DIGITS.index(char)
            self._ms = max(self._ms, ms)
            # As if this millisecond's numbers were used up.
            self._low = _LOW_MASK

    def _begin(self, ms: int) -> None:
        # All but the last two characters stay as they are while ids are counted up, the first
        # eight (1,024 ms) longer still: each is rendered when it changes.
        self._ms = ms
        # 50 bits hold the 48 bits of time; the two bits in front are always zero.
        if ms >> 10 != self._second:
            self._second = ms >> 10
            self._second_text = _render(self._second, 40)
        chance = self._random.getrandbits(79)
        self._low = low = chance & (_LOW_MASK >> 1)
        self._prefix = self._second_text + _PAIRS[ms & 1023] + _render(chance >> 39, 40)
        self._stem = self._prefix + _render(low >> 10, 30)


class ShardIds(IdSource):
    """Ids that say which shard their push is in, by the two digits after the time.

    Those of one shard are strictly increasing, as the source's are.

    Args:
        source: Shared by all shards of a process.
        shard: 0 to 1023.
    """

    __slots__ = ("_digits", "_source")

    def __init__(self, source: IdSource, shard: int) -> None:
        self._source = source
        self._digits = _PAIRS[shard]

    def next(self) -> str:
        """A new id of this shard."""
        text = self._source.next()
        return text[:10] + self._digits + text[12:]

    def skip_past(self, id: str) -> None:  # noqa: A002 - it is one
        """As the source does."""
        self._source.skip_past(id)


def shard_in(id: str) -> int | None:  # noqa: A002 - it is one
    """The shard that an id of ``ShardIds`` names; None: this is no id."""
    if not is_id(id):
        return None
    return _DIGITS.index(id[10]) << 5 | _DIGITS.index(id[11])


def is_id(text: str) -> bool:
    """Whether this could be an id: 26 digits of Crockford's alphabet, upper case."""
    return len(text) == 26 and all(char in _DIGITS for char in text)
