"""The last hearts that came and went, for operators who look at what is going on."""

from __future__ import annotations

from collections import deque
from itertools import repeat
from typing import NamedTuple

from heartcast.core.clock import Clock
from heartcast.hearts.model import HeartChanged

_KEPT = 500


class Seen(NamedTuple):
    """A change, and when it was seen."""

    at_ms: int
    change: HeartChanged


class Recent:
    """A view of the bus (``core.bus.Subscriber``). It remembers little and nothing for long."""

    def __init__(self, clock: Clock) -> None:
        self._now_ms = clock.wall_ms
        self._seen: deque[tuple[int, HeartChanged]] = deque(maxlen=_KEPT)

    def apply(self, events: list[HeartChanged]) -> None:
        """Take these changes, oldest first."""
        self._seen.extend(zip(repeat(self._now_ms()), events[-_KEPT:], strict=False))

    def mark_stale(self) -> None:
        """Events were lost: there is a gap, as there would be after a restart."""

    def find(self, *, target_id: str | None = None, user_id: str | None = None, most: int = 50) -> list[Seen]:
        """The last changes, newest first.

        Args:
            target_id: Only of this target; None: of any.
            user_id: Only of this user; None: of any.
            most: At most so many, >= 1.
        """
        found = []
        for at_ms, change in reversed(self._seen):
            key = change.key
            if target_id in (None, key.target_id) and user_id in (None, key.user_id):
                found.append(Seen(at_ms, change))
                if len(found) == most:
                    break
        return found
