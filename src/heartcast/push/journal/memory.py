"""The journal in memory: the reference. Lost with the process.

It keeps what nobody else keeps: the far pushes. What is near is in the shards, and
notes are in the heads of those who made them, so writing costs a call.
"""

from __future__ import annotations

from heartcast.push.journal import Change, Fetched, Note, Replay, Written
from heartcast.push.model import Push


class MemoryJournal:
    """Implements ``Journal``."""

    is_durable = False

    def __init__(self) -> None:
        self._far: dict[str, Push] = {}

    def write(self, change: Change, done: Written | None) -> None:
        for push in change.ended:
            self._far.pop(push.id, None)
        if done is not None:
            done(None)

    def leave(self, push: Push) -> None:
        self._far[push.id] = push

    def take_back(self, push: Push) -> None:
        self._far.pop(push.id, None)

    def replay(self, horizon_ms: int) -> Replay:
        return Replay([], 0)

    def due(self, after: tuple[int, str], until_ms: int, limit: int, done: Fetched) -> None:
        # Everything far is looked at; a heap would cost more than the pushes themselves.
        found = [push for push in self._far.values() if after < (push.due_ms, push.id) <= (until_ms, "~")]
        found.sort(key=lambda push: (push.due_ms, push.id))
        done(found[:limit])

    def fetch(self, push_id: str, done: Fetched) -> None:
        push = self._far.get(push_id)
        done([push] if push else [])

    def of_user(self, user: str, done: Fetched) -> None:
        done([push for push in self._far.values() if push.user == user])

    def notes(self, kind: str, now_ms: int) -> list[Note]:
        return []

    def forget(self, now_ms: int) -> None:
        """Nothing is kept that could run out."""

    async def close(self) -> None:
        """Nothing to write."""
