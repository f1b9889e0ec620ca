"""The counts that this process knows without asking the database.

The process is the only writer, so the last outcome it saw of a target *is* the target's
count. What is remembered is bounded: when it is full, all of it is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence

from heartcast.hearts.model import Count, HeartKey, Outcome

_MAX_COUNTS = 100_000
"""About 25 MB."""


class KnownCounts:
    """Count and version of targets. Used on the loop only."""

    __slots__ = ("_counts", "forgets")

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], tuple[int, int]] = {}
        self.forgets = 0
        """How often all was forgotten: what was read from the database before the last time may
        be older than an outcome that is forgotten."""

    def note(self, keys: Sequence[HeartKey], outcomes: Sequence[Outcome]) -> None:
        """Remember what a committed call did."""
        counts = self._counts
        for key, outcome in zip(keys, outcomes, strict=True):
            counts[key[0], key[2]] = (outcome.count, outcome.version)

    def set(self, count: Count, kind: str) -> None:
        """Remember a count that was repaired."""
        self._counts[count.target_id, kind] = (count.count, count.version)

    def find(self, target_ids: Sequence[str], kind: str) -> list[Count] | None:
        """The counts in the order asked; None when not all are known."""
        known = self._counts
        counts = []
        for target_id in target_ids:
            found = known.get((target_id, kind))
            if found is None:
                return None
            counts.append(Count(target_id, *found))
        return counts

    def latest(self, read: Count, kind: str, *, may_keep: bool) -> Count:
        """A count that was read, or the newer one that was committed meanwhile.

        Args:
            may_keep: Whether nothing was forgotten since it was asked for.
        """
        known = self._counts.get((read.target_id, kind))
        if known is not None and known[1] >= read.version:
            return Count(read.target_id, *known)
        if may_keep:
            self.make_room()
            self._counts[read.target_id, kind] = (read.count, read.version)
        return read

    def make_room(self) -> None:
        """Forget everything if there is too much."""
        if len(self._counts) >= _MAX_COUNTS:
            self.forget()

    def forget(self) -> None:
        """Forget everything."""
        self._counts.clear()
        self.forgets += 1
