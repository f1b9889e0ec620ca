"""A node's copy of the commons, and who is told of its changes."""

from __future__ import annotations

from typing import NamedTuple

import structlog

from heartcast.core.errors import Conflict
from heartcast.push.commons import Told
from heartcast.push.journal import Note

_log = structlog.get_logger("heartcast")


class Entry(NamedTuple):
    """A note as it is kept."""

    number: int
    """Changes are counted from 1; 0: there is no such note."""
    note: Note


NOTHING = Entry(0, Note("", None))


class Known:
    """What one node knows."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._followers: list[tuple[str, Told]] = []

    def follow(self, kind: str, told: Told) -> None:
        self._followers.append((kind, told))
        for entry in sorted(self.entries.values(), key=lambda entry: entry.number):
            if entry.note.key.startswith(kind):
                _tell(told, entry.note)

    def notes(self, kind: str, now_ms: int) -> list[Note]:
        found = sorted(entry for entry in self.entries.values() if entry.note.key.startswith(kind))
        return [entry.note for entry in found if entry.note.until_ms >= now_ms]

    def number(self, key: str) -> int:
        """The number of the change that this node knows; 0: it knows no such note."""
        return self.entries.get(key, NOTHING).number

    def take(self, number: int, note: Note) -> None:
        """A note as it is kept now. Those who follow are told, unless they were."""
        if note.value is None:
            if self.entries.pop(note.key, None) is None:
                return
        elif self.entries.get(note.key) == (number, note):
            return
        else:
            self.entries[note.key] = Entry(number, note)
        for kind, told in self._followers:
            if note.key.startswith(kind):
                _tell(told, note)

    def forget(self, now_ms: int) -> None:
        for key, entry in list(self.entries.items()):
            if entry.note.until_ms < now_ms:
                del self.entries[key]


def _tell(told: Told, note: Note) -> None:
    try:
        told(note)
    except Exception:
        # What a later release wrote must not keep this node from all that follows.
        _log.exception("a note of all nodes was not understood", key=note.key)


def changed_meanwhile() -> Conflict:
    """The refusal of a write that began from something else than what is kept."""
    return Conflict(
        "somebody else changed it at the same time; look at it and try again", code="changed_meanwhile"
    )
