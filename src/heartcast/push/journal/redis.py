"""The journal of one shard in Redis; see ``heartcast.push.redis`` for how it is kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from heartcast.backends.redis_pipe import pack
from heartcast.core.errors import StoreUnavailable
from heartcast.push.journal import Change, Fetched, Note, Replay, Written
from heartcast.push.model import Push
from heartcast.push.redis import DUE, PAGE, ShardStore
from heartcast.push.rows import row_in


class RedisJournal:
    """Implements ``Journal`` for the pushes of one shard.

    Args:
        waiting: What waited when the shard was taken over, in order; what is due later than
            ``taken_until_ms`` is not among it.
        far: How many wait that are due later.
    """

    is_durable = True

    def __init__(self, store: ShardStore, waiting: list[Push], far: int, notes: list[Note]) -> None:
        self._store = store
        self._waiting = waiting
        self._far = far
        self._notes = notes

    def write(self, change: Change, done: Written | None) -> None:
        store = self._store
        if store.is_closed:
            if done is not None:
                done(_closed())
            return
        group = store.next
        group.accepted += change.accepted
        for push in change.changed:
            group.changed[push.id] = push
        group.left += change.ended
        group.ended += change.ended
        group.forgotten += change.forgotten
        for note in change.notes:
            group.notes[note.key] = note
        if done is not None:
            group.answers.append(done)
        else:
            group.kept_notes.update(note.key for note in change.notes)
        store.begin()

    def leave(self, push: Push) -> None:
        """Its row is all there is to it."""

    def take_back(self, push: Push) -> None:
        """Its row stays until it moves or ends."""

    def replay(self, horizon_ms: int) -> Replay:
        near = [push for push in self._waiting if push.due_ms <= horizon_ms]
        far = self._far + len(self._waiting) - len(near)
        # Handed over: what is kept here would be kept twice.
        self._waiting = []
        return Replay(near, far)

    def due(self, after: tuple[int, str], until_ms: int, limit: int, done: Fetched) -> None:
        after_ms, after_id = after
        keys = (self._store.key("due"), self._store.key("rows"))
        self._ask(pack("EVALSHA", DUE.sha, 2, *keys, after_ms, after_id, until_ms, limit), done)

    def fetch(self, push_id: str, done: Fetched) -> None:
        self._ask(pack("HMGET", self._store.key("rows"), push_id), done)

    def of_user(self, user: str, done: Fetched) -> None:
        if self._store.is_closed:
            return done(_closed())
        found: list[Push] = []
        rows = self._store.key("rows")

        def look(
            send: Callable[[bytes, Callable[[Any], None]], None],
            finished: Callable[[StoreUnavailable | None], None],
        ) -> None:
            def scanned(reply: Any) -> None:
                if isinstance(reply, StoreUnavailable):
                    finished(reply)
                    return
                cursor, parts = reply
                pushes = self._pushes(parts[1::2])
                found.extend(push for push in pushes if push.user == user)
                if cursor == b"0":
                    finished(None)
                else:
                    send(pack("HSCAN", rows, cursor, "COUNT", PAGE), scanned)

            send(pack("HSCAN", rows, 0, "COUNT", PAGE), scanned)

        self._store.ask_all(look, partial(_answer, found, done))
        return None

    def notes(self, kind: str, now_ms: int) -> list[Note]:
        return [note for note in self._notes if note.key.startswith(kind) and note.until_ms >= now_ms]

    def forget(self, now_ms: int) -> None:
        if not self._store.is_closed:
            self._notes = []
            self._store.next.forget_ms = now_ms
            self._store.begin()

    async def close(self) -> None:
        await self._store.close()

    def _ask(self, command: bytes, done: Fetched) -> None:
        if self._store.is_closed:
            return done(_closed())
        found: list[Push] = []
        self._store.ask(
            command, lambda reply: found.extend(self._pushes(reply)), partial(_answer, found, done)
        )
        return None

    def _pushes(self, rows: list[bytes | None]) -> list[Push]:
        return [row_in(row).push(self._store.templates) for row in rows if row is not None]


def _answer(found: list[Push], done: Fetched, error: StoreUnavailable | None) -> None:
    done(found if error is None else error)


def _closed() -> StoreUnavailable:
    return StoreUnavailable("the journal is closed")
