"""The commons as a journal, for what writes notes and never has a push."""

from __future__ import annotations

from heartcast.push.commons import Commons
from heartcast.push.journal import Change, Note, Written
from heartcast.push.journal.memory import MemoryJournal


class CommonsJournal(MemoryJournal):
    """Keeps the notes of a service that stands for all shards and is given no pushes."""

    is_durable = True

    def __init__(self, commons: Commons) -> None:
        super().__init__()
        self._commons = commons

    def write(self, change: Change, done: Written | None) -> None:
        if change.accepted:
            raise ValueError("a push belongs to a shard")
        # What refuses here may be a Conflict, too; whoever writes notes hands it to the caller.
        self._commons.write(change.notes, done or _ignore)  # type: ignore[arg-type]

    def notes(self, kind: str, now_ms: int) -> list[Note]:
        return self._commons.notes(kind, now_ms)


def _ignore(error: object) -> None:
    """Who writes without asking learns of a change by following."""
