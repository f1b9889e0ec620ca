"""The ranking store of a process that keeps nothing: the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from heartcast.core.errors import StoreUnavailable
from heartcast.ranking.feedback import Feedback
from heartcast.ranking.store import Appended, Document, Put

_PIECE = 10_000


class MemoryRankingStore:
    """Implements ``RankingStore`` in dictionaries."""

    is_durable = False

    def __init__(self) -> None:
        self._events: dict[str, Feedback] = {}
        self._places: dict[str, int] = {}
        self.position = 0
        self._shelves: dict[str, dict[str, bytes]] = {}
        self._is_closed = False

    def append(self, events: Sequence[Feedback], done: Appended) -> None:
        if self._is_closed:
            return done(StoreUnavailable("the ranking store is closed"))
        return done([self._add(event) for event in events])

    def _add(self, event: Feedback) -> bool:
        is_new = event.id not in self._events
        if is_new:
            self.position += 1
            self._events[event.id] = event
            self._places[event.id] = self.position
        return is_new

    def put(self, documents: Sequence[Document], done: Put) -> None:
        if self._is_closed:
            return done(StoreUnavailable("the ranking store is closed"))
        for shelf, key, value in documents:
            on_shelf = self._shelves.setdefault(shelf, {})
            if value is None:
                on_shelf.pop(key, None)
            else:
                on_shelf[key] = value
        return done(None)

    def feedback(self, until: int | None = None) -> Iterator[list[Feedback]]:
        last = self.position if until is None else until
        events = [event for event in self._events.values() if self._places[event.id] <= last]
        for start in range(0, len(events), _PIECE):
            yield events[start : start + _PIECE]

    def documents(self, shelf: str) -> dict[str, bytes]:
        return dict(sorted(self._shelves.get(shelf, {}).items()))

    def forget(self, before_ms: int, most: int) -> None:
        self._events = {id_: event for id_, event in self._events.items() if event.at_ms >= before_ms}
        for id_ in list(islice(self._events, max(0, len(self._events) - most))):
            del self._events[id_]
        self._places = {id_: self._places[id_] for id_ in self._events}

    async def close(self) -> None:
        self._is_closed = True
