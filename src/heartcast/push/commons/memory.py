"""The commons in memory: the reference. Nodes of one process share a shelf."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from heartcast.push.commons import Done
from heartcast.push.commons.known import Entry, Known, changed_meanwhile
from heartcast.push.journal import Note


class Shelf:
    """What is kept.

    Args:
        wall_ms: Now, by the clock of whoever keeps it.
    """

    def __init__(self, wall_ms: Callable[[], int]) -> None:
        self.wall_ms = wall_ms
        self.number = 0
        self.entries: dict[str, Entry] = {}
        """Those of notes that were taken away, too."""

    def find(self, key: str) -> Entry:
        """What is kept under a key; a note without a value: nothing."""
        entry = self.entries.get(key)
        if entry is None or entry.note.value is None or entry.note.until_ms < self.wall_ms():
            return Entry(0, Note(key, None))
        return entry

    def put(self, note: Note) -> int:
        """Keep a note; returns the number of the change."""
        self.number += 1
        self.entries[note.key] = Entry(self.number, note)
        return self.number


class MemoryCommons(Known):
    """Implements ``Commons``."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__()
        self._shelf = shelf
        self._seen = 0

    def write(self, notes: Sequence[Note], done: Done) -> None:
        shelf = self._shelf
        kept = [shelf.find(note.key) for note in notes]
        if any(self.number(entry.note.key) != entry.number for entry in kept):
            for entry in kept:
                self.take(*entry)
            done(changed_meanwhile())
            return
        for note in notes:
            self.take(shelf.put(note), note)
        done(None)

    def sync(self, done: Done) -> None:
        now_ms = self._shelf.wall_ms()
        for number, note in sorted(self._shelf.entries.values()):
            if number > self._seen and note.until_ms >= now_ms:
                self.take(number, note)
        self._seen = self._shelf.number
        done(None)
