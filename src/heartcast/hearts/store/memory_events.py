"""Events in memory: the reference of the outbox, gone after a restart like the hearts themselves."""

from __future__ import annotations

from collections import deque
from itertools import islice
from secrets import token_hex

from heartcast.core.clock import Clock
from heartcast.hearts.model import Change, EventPage, HeartEvent

_MAX_EVENTS = 50_000
"""About 25 MB; the oldest make room."""

# A NamedTuple's own constructor is a Python function: on the hot path this is twice as fast.
_new_tuple = tuple.__new__


class MemoryEvents:
    """A bounded queue of numbered events."""

    def __init__(self, clock: Clock, max_events: int = _MAX_EVENTS) -> None:
        self._now_ms = clock.wall_ms
        self._epoch = token_hex(8)
        self._events: deque[HeartEvent] = deque(maxlen=max_events)
        self._last = 0

    def note(self, change: Change) -> None:
        """One more."""
        self._last += 1
        self._events.append(_new_tuple(HeartEvent, (self._last, self._now_ms(), change)))

    def page(self, after: int, limit: int) -> EventPage:
        """As ``HeartStore.events``."""
        # Numbers have no gaps, so the place of the first one wanted is known.
        start = max(0, after - self._last + len(self._events))
        return EventPage(self._epoch, self._last, list(islice(self._events, start, start + limit)))

    def trim(self, before_ms: int, up_to: int) -> int:
        """As ``HeartStore.trim_events``."""
        events, trimmed = self._events, 0
        while events and events[0].at_ms < before_ms and events[0].number <= up_to:
            events.popleft()
            trimmed += 1
        return trimmed
