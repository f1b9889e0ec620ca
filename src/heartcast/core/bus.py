"""The in-process bus: what happened, for views that can be rebuilt.

Publishing appends to a list and returns; once per turn of the event loop the
waiting events are handed to every view as one batch. The list is bounded. When it
is full the events are dropped, and every view is told that it is *stale*: it
rebuilds itself from the store, exactly as it does at start. Nothing rides on the
bus that may not be lost in this way; outbox and audit rows are written in the
store's own transaction instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

Event = TypeVar("Event")


class Subscriber(Protocol[Event]):
    """A view that follows the bus."""

    def apply(self, events: list[Event]) -> None:
        """Take these events, oldest first. The list is shared: do not change it."""
        ...

    def mark_stale(self) -> None:
        """Events were lost: rebuild from the store."""
        ...


class Bus(Generic[Event]):
    """A bounded list of events and the views that follow it.

    Args:
        defer: Calls its argument soon, once (``loop.call_soon``).
        limit: Events that may wait, >= 1.
    """

    __slots__ = (
        "_defer",
        "_events",
        "_has_overflowed",
        "_is_scheduled",
        "_limit",
        "_subscribers",
        "dropped",
        "failed",
    )

    def __init__(self, defer: Callable[[Callable[[], None]], object], limit: int = 65_536) -> None:
        self._defer = defer
        self._limit = limit
        self._events: list[Event] = []
        self._subscribers: list[Subscriber[Event]] = []
        self._is_scheduled = False
        self._has_overflowed = False
        self.dropped = 0
        """Events that found the bus full."""
        self.failed = 0
        """Batches that a view raised on; that view was marked stale, the others went on."""

    def follow(self, subscriber: Subscriber[Event]) -> None:
        self._subscribers.append(subscriber)

    def publish(self, event: Event) -> None:
        """Hand an event to every view at the end of this turn of the loop."""
        events = self._events
        if len(events) >= self._limit:
            self.dropped += 1
            self._has_overflowed = True
            return
        events.append(event)
        self._schedule()

    def mark_stale(self) -> None:
        """Events were lost before they came here: tell every view at the end of this turn."""
        self._has_overflowed = True
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._defer(self.flush)

    def flush(self) -> None:
        """Deliver what waits, now."""
        self._is_scheduled = False
        events, self._events = self._events, []
        has_overflowed, self._has_overflowed = self._has_overflowed, False
        for subscriber in self._subscribers:
            try:
                if has_overflowed:
                    subscriber.mark_stale()
                else:
                    subscriber.apply(events)
            except Exception:
                # One broken view must not take the others' events.
                self.failed += 1
                subscriber.mark_stale()
