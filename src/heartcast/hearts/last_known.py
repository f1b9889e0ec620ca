"""The last counts that anybody was told: what a page shows while the store is away.

Follows the bus and what is read. A page that says "about 1,204 hearts" is better than one
with a hole in it, as long as it says since when.
"""

from __future__ import annotations

from collections.abc import Sequence

from heartcast.core.clock import Clock
from heartcast.hearts.model import Count, HeartChanged

_Known = tuple[int, int, int]
"""Count, version, and wall milliseconds when it was so."""


class LastKnown:
    """A view of the bus (``core.bus.Subscriber``).

    Args:
        most: Counts remembered, >= 2. When so many are known, those that were not told or changed
            lately go, about half of them at once.
    """

    def __init__(self, clock: Clock, most: int = 200_000) -> None:
        self._now_ms = clock.wall_ms
        self._half = most // 2
        self._young: dict[tuple[str, str], _Known] = {}
        self._old: dict[tuple[str, str], _Known] = {}

    def apply(self, events: list[HeartChanged]) -> None:
        """Take these changes, oldest first."""
        now_ms = self._now_ms()
        young = self._young
        for event in events:
            young[event.key.target_id, event.key.kind] = (event.count, event.version, now_ms)
        self._turn()

    def mark_stale(self) -> None:
        """Events were lost: what is known stays, with its time."""

    def learn(self, counts: Sequence[Count], kind: str) -> None:
        """Take what the store answered just now."""
        now_ms = self._now_ms()
        self._young.update(
            {(count.target_id, kind): (count.count, count.version, now_ms) for count in counts}
        )
        self._turn()

    def find(self, target_ids: Sequence[str], kind: str) -> tuple[list[Count], int] | None:
        """What is known of these targets, in the order asked.

        Returns:
            The counts of those that are known, and the wall milliseconds since when the oldest
            of them is known. None: none is.
        """
        found: list[Count] = []
        since_ms = self._now_ms()
        for target_id in target_ids:
            known = self._young.get((target_id, kind)) or self._old.get((target_id, kind))
            if known is not None:
                found.append(Count(target_id, known[0], known[1]))
                since_ms = min(since_ms, known[2])
        return (found, since_ms) if found else None

    def _turn(self) -> None:
        if len(self._young) > self._half:
            self._old, self._young = self._young, {}
