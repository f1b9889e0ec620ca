"""The journal in SQLite, in one file with the inbox; see ``heartcast.push.file``."""

from __future__ import annotations

from functools import partial

from heartcast.core.errors import StoreUnavailable
from heartcast.push.file import PushFile, Read, Row, packed, unpacked
from heartcast.push.journal import Change, Fetched, Note, Replay, Written
from heartcast.push.model import Push
from heartcast.push.templates import Templates

_COLUMNS = "id, user, is_numeric, template, payload, extra, accepted_ms, changed_ms"
_REPLAY = f"SELECT {_COLUMNS} FROM push WHERE state = 0 AND due_ms <= ? ORDER BY id"  # noqa: S608 - constants
_DUE = f"""
    SELECT {_COLUMNS} FROM push
    WHERE (due_ms, id) > (?, ?) AND due_ms <= ? AND due_ms > 0 AND state = 0 ORDER BY due_ms, id LIMIT ?
"""  # noqa: S608 - constants
_FETCH = f"SELECT {_COLUMNS} FROM push WHERE id = ? AND state = 0"  # noqa: S608 - constants
_OF_USER = f"SELECT {_COLUMNS} FROM push WHERE due_ms > 0 AND state = 0 AND user = ?"  # noqa: S608 - constants
_FAR = "SELECT count(*) FROM push WHERE due_ms > ? AND state = 0"
_NOTES = "SELECT key, value, until_ms FROM note WHERE key >= ? AND key < ? AND until_ms >= ?"


class SqliteJournal:
    """Implements ``Journal``. The file is closed by whichever of journal and inbox is closed first."""

    is_durable = True

    def __init__(self, file: PushFile, templates: Templates) -> None:
        self._file = file
        self._templates = templates

    def write(self, change: Change, done: Written | None) -> None:
        file = self._file
        if file.is_closed:
            if done is not None:
                done(StoreUnavailable("the journal is closed"))
            return
        group = file.next
        for push in change.accepted:
            group.accepted.append(
                (push.id, push.user, push.is_numeric, push.due_ms, push.template.key,
                 push.payload, packed(push.extra), push.accepted_ms, push.changed_ms)
            )  # fmt: skip
        for push in change.changed:
            group.changed[push.id] = push
        group.deleted += [(push.id,) for push in change.ended]
        for note in change.notes:
            group.notes[note.key] = (note.value, note.until_ms)
        if done is not None:
            group.answers.append(done)
        else:
            group.kept_notes.update(note.key for note in change.notes)
        file.begin()

    def leave(self, push: Push) -> None:
        """Its row is all there is to it."""

    def take_back(self, push: Push) -> None:
        """Its row stays until it moves or ends."""

    def replay(self, horizon_ms: int) -> Replay:
        [far] = self._file.connection.execute(_FAR, (horizon_ms,)).fetchone()
        rows = self._file.connection.execute(_REPLAY, (horizon_ms,))
        return Replay([self._push(row) for row in rows], far)

    def due(self, after: tuple[int, str], until_ms: int, limit: int, done: Fetched) -> None:
        self._ask(Read(_DUE, (*after, until_ms, limit)), done)

    def fetch(self, push_id: str, done: Fetched) -> None:
        self._ask(Read(_FETCH, (push_id,)), done)

    def of_user(self, user: str, done: Fetched) -> None:
        self._ask(Read(_OF_USER, (user,)), done)

    def notes(self, kind: str, now_ms: int) -> list[Note]:
        end = kind[:-1] + chr(ord(kind[-1]) + 1)
        return [Note(*row) for row in self._file.connection.execute(_NOTES, (kind, end, now_ms))]

    def forget(self, now_ms: int) -> None:
        if not self._file.is_closed:
            self._file.next.forgets = now_ms
            self._file.begin()

    async def close(self) -> None:
        await self._file.close()

    def _ask(self, read: Read, done: Fetched) -> None:
        if self._file.is_closed:
            return done(StoreUnavailable("the journal is closed"))
        self._file.next.reads.append(read)
        self._file.next.answers.append(partial(self._answer, read, done))
        self._file.begin()
        return None

    def _answer(self, read: Read, done: Fetched, error: StoreUnavailable | None) -> None:
        if error is not None:
            done(error)
            return
        done([self._push(row) for row in read.rows])

    def _push(self, row: Row) -> Push:
        return unpacked(row, self._templates)
