"""Who got what: the account of every message of a run.

A ``Stream`` is the sender's side: which numbers were given out, and which of them the
server did not take. A ``Track`` is one receiver's side of one stream: the highest number
seen and the holes below it, which is two words as long as all is well, however many
messages come. At the end the two are compared:

lost        taken by the server, expected here, and never arrived whole
told        missing too, but the server said that it could not recover them
duplicate   arrived again without being announced as a redelivery
redelivered arrived again, announced so: what at-least-once allows
reordered   arrived after a higher number of its stream
late        arrived later than the bound, counted from its intended moment
damaged     arrived with a wrong checksum or as no valid frame
recovered   arrived in the answer to a new subscription, after a reconnect
unacknowledged  arrived and was acknowledged, and the server still keeps it

Of each the first few are kept with stream, number, session and time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import msgspec

EXAMPLES = 5

KINDS = (
    "lost",
    "told",
    "duplicate",
    "redelivered",
    "reordered",
    "late",
    "damaged",
    "recovered",
    "unacknowledged",
)


class Stream:
    """What was sent on one stream."""

    __slots__ = ("last", "refused", "unknown")

    def __init__(self) -> None:
        self.last = 0
        """The highest number given out; 0: none."""
        self.refused: set[int] | None = None
        """Numbers the server said no to: they must not be missed."""
        self.unknown: set[int] | None = None
        """Numbers whose request got no answer: they may have arrived or not."""

    def next(self) -> int:
        self.last += 1
        return self.last

    def refuse(self, sequence: int) -> None:
        if self.refused is None:
            self.refused = set()
        self.refused.add(sequence)

    def doubt(self, sequence: int) -> None:
        if self.unknown is None:
            self.unknown = set()
        self.unknown.add(sequence)

    def accepted(self, first: int = 1) -> int:
        """How many from ``first`` on the server took for certain."""
        out = (self.refused or set()) | (self.unknown or set())
        return max(0, self.last - first + 1 - sum(number >= first for number in out))

    def is_owed(self, sequence: int) -> bool:
        """Whether this number must arrive."""
        return not (self.refused and sequence in self.refused) and not (
            self.unknown and sequence in self.unknown
        )


class Track:
    """What one receiver got of one stream."""

    __slots__ = ("damaged", "first", "holes", "top")

    def __init__(self, first: int = 1) -> None:
        self.first = first
        """The first number that this receiver is owed."""
        self.top = first - 1
        """The highest number that arrived."""
        self.holes: list[tuple[int, int]] | None = None
        """Ranges (from, to), both included, that were passed over; in order."""
        self.damaged = 0

    def take(self, sequence: int) -> str:
        """Note an arrival: "" when it is the next one, else "gap", "reordered" or "duplicate"."""
        if sequence == self.top + 1:
            self.top = sequence
            return ""
        if sequence > self.top:
            if self.holes is None:
                self.holes = []
            self.holes.append((self.top + 1, sequence - 1))
            self.top = sequence
            return "gap"
        return "reordered" if self._fill(sequence) else "duplicate"

    def _fill(self, sequence: int) -> bool:
        holes = self.holes
        if holes is None:
            return False
        at = bisect_right(holes, (sequence, 1 << 62)) - 1
        if at < 0 or sequence > holes[at][1]:
            return False
        start, end = holes[at]
        holes[at : at + 1] = [
            piece for piece in ((start, sequence - 1), (sequence + 1, end)) if piece[0] <= piece[1]
        ]
        if not holes:
            self.holes = None
        return True

    def missing(self, last: int) -> Iterator[int]:
        """Numbers up to ``last`` that did not arrive."""
        for start, end in self.holes or ():
            yield from range(start, min(end, last) + 1)
        yield from range(self.top + 1, last + 1)

    def forgive(self, sequence: int) -> int:
        """The server said that messages are gone: what lies below ``sequence`` is no silent loss.

        Returns:
            How many were missing.
        """
        gone = sum(1 for _ in self.missing(sequence - 1))
        self.holes = None
        self.top = max(self.top, sequence - 1)
        return gone


class Example(msgspec.Struct, frozen=True):
    """One case of what went wrong."""

    stream: str
    """Channel or user."""
    sequence: int | None
    """None when it could not be read."""
    session: int
    """Number of the receiving session."""
    at_s: float
    """Seconds after the start of the run."""
    detail: str = ""


class Ledger:
    """Counts of a whole run.

    Args:
        late_us: Later than this is late; counted from the intended moment.
    """

    def __init__(self, late_us: int) -> None:
        self.late_us = late_us
        self.streams: list[Stream] = []
        self.names: list[str] = []
        """What a person would call each stream."""
        self.counts: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.examples: dict[str, list[Example]] = {kind: [] for kind in KINDS}
        self.delivered = 0
        """Arrivals that were the first of their message at their receiver."""
        self.owed = 0
        """Arrivals there should have been; known once ``settle`` was called for every track."""
        self.foreign = 0
        """Messages on our channels that are of no part of this run."""

    def open_stream(self, name: str) -> int:
        """A new stream; gives its number."""
        self.streams.append(Stream())
        self.names.append(name)
        return len(self.streams) - 1

    def arrived(
        self,
        track: Track,
        stream: int,
        sequence: int,
        latency_us: int,
        session: int,
        at_s: float,
        *,
        is_again: bool = False,
        is_recovered: bool = False,
    ) -> bool:
        """Note an arrival.

        Args:
            is_again: The server announced it as a redelivery.
            is_recovered: It came in the answer to a new subscription.

        Returns:
            Whether it was the first of its message.
        """
        how = track.take(sequence)
        if how == "duplicate":
            self.note("redelivered" if is_again or is_recovered else "duplicate",
                      stream, sequence, session, at_s)  # fmt: skip
            return False
        self.delivered += 1
        if how == "reordered" and not is_again:
            self.note("reordered", stream, sequence, session, at_s)
        if is_recovered:
            self.note("recovered", stream, sequence, session, at_s)
        elif latency_us > self.late_us:
            self.note("late", stream, sequence, session, at_s, f"after {latency_us / 1000:.0f} ms")
        return True

    def damaged(self, track: Track | None, stream: int, session: int, at_s: float, detail: str) -> None:
        """A message or frame that could not be read."""
        if track is not None:
            track.damaged += 1
        self.note("damaged", stream, None, session, at_s, detail)

    def note(
        self, kind: str, stream: int, sequence: int | None, session: int, at_s: float, detail: str = ""
    ) -> None:
        """Count one case, and keep it if it is among the first."""
        self.counts[kind] += 1
        examples = self.examples[kind]
        if len(examples) < EXAMPLES:
            name = self.names[stream] if 0 <= stream < len(self.names) else "?"
            examples.append(Example(name, sequence, session, round(at_s, 3), detail))

    def settle(self, track: Track, stream: int, session: int, at_s: float) -> int:
        """The run is over for this receiver: what is owed and missing is lost.

        What arrived damaged is not also lost: as many of the missing are left out.

        Returns:
            How many were lost.
        """
        sent = self.streams[stream]
        self.owed += sent.accepted(track.first)
        missing = [number for number in track.missing(sent.last) if sent.is_owed(number)]
        lost = missing[track.damaged :]
        for number in lost:
            self.note("lost", stream, number, session, at_s)
        return len(lost)

    def merge(self, counts: dict[str, int], examples: dict[str, list[Example]]) -> None:
        """Add what another process of the same run counted."""
        for kind in KINDS:
            self.counts[kind] += counts[kind]
            self.examples[kind] = (self.examples[kind] + examples[kind])[:EXAMPLES]
