"""One SQLite file for journal and inbox, and the one thread that writes it.

An accepted push is one row. It is written when the push is accepted, moves into the
user's inbox by an update of that row, and goes when the push has ended: at no moment
can a crash find it in two places or in none.

One group of changes is written at a time; what comes meanwhile makes the next group, so
that under load one commit carries hundreds of pushes. Within a group new rows come first,
then changes and moves, then what ends; a push never does two of the latter in one group
in another order, because each waits for the answer to the one before.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from heartcast.backends.sqlite import FileLock, GroupThread, Schema, Tuning, open_writer, unavailable
from heartcast.core.errors import StoreUnavailable
from heartcast.push.model import Extra, Push
from heartcast.push.templates import Templates

FILE_NAME = "pushes.db"
WAITING, IN_INBOX, SETTLED = range(3)

SCHEMA = Schema(
    application_id=0x68635055,
    version=1,
    script="""
        CREATE TABLE push (
            id TEXT NOT NULL PRIMARY KEY,
            user TEXT NOT NULL,
            is_numeric INTEGER NOT NULL,
            state INTEGER NOT NULL,
            due_ms INTEGER NOT NULL,
            epoch TEXT NOT NULL,
            offset INTEGER NOT NULL,
            lost INTEGER NOT NULL,
            template TEXT NOT NULL,
            payload BLOB NOT NULL,
            extra BLOB,
            accepted_ms INTEGER NOT NULL,
            changed_ms INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX push_due ON push (due_ms) WHERE due_ms > 0;
        CREATE TABLE note (
            key TEXT NOT NULL PRIMARY KEY,
            value BLOB NOT NULL,
            until_ms INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX note_until ON note (until_ms)
    """,
)
_ACCEPT = "INSERT INTO push VALUES (?, ?, ?, 0, ?, '', 0, 0, ?, ?, ?, ?, ?)"
_CHANGE = "UPDATE push SET due_ms = ?, payload = ?, extra = ?, changed_ms = ? WHERE id = ? AND state = 0"
# An insert with a way out: the inbox may be given pushes that no journal saw.
_MOVE = """
    INSERT INTO push VALUES (?, ?, ?, 1, 0, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        state = 1, due_ms = 0, epoch = excluded.epoch, offset = excluded.offset, lost = excluded.lost,
        payload = excluded.payload, extra = excluded.extra, changed_ms = excluded.changed_ms
"""
_BURY = """
    UPDATE push SET state = 2, payload = x'', extra = NULL, lost = max(lost, ?), changed_ms = ? WHERE id = ?
"""
_LOSE = "UPDATE push SET lost = max(lost, ?) WHERE id = ?"
_DELETE = "DELETE FROM push WHERE id = ?"
_NOTE = "INSERT OR REPLACE INTO note VALUES (?, ?, ?)"
_UNNOTE = "DELETE FROM note WHERE key = ?"
_FORGET = "DELETE FROM note WHERE until_ms < ?"

Answer = Callable[[StoreUnavailable | None], None]
Row = tuple[Any, ...]
_encode = msgspec.json.Encoder().encode
_decode_extra = msgspec.json.Decoder(Extra).decode


def packed(extra: Extra | None) -> bytes | None:
    """Extras as they are stored."""
    return None if extra is None else _encode(extra)


def unpacked(row: Row, templates: Templates, *, offset: int = 0) -> Push:
    """A push from (id, user, is_numeric, template, payload, extra, accepted_ms, changed_ms)."""
    push_id, user, is_numeric, key, payload, extra, accepted_ms, changed_ms = row
    template = templates.find_or_absent(key)
    push = Push(push_id, user, bool(is_numeric), template, payload, accepted_ms, changed_ms)
    push.offset = offset
    if extra is not None:
        push.extra = _decode_extra(extra)
    return push


class Read:
    """A question that is answered after the changes of its group."""

    __slots__ = ("arguments", "rows", "sql")

    def __init__(self, sql: str, arguments: Row) -> None:
        self.sql = sql
        self.arguments = arguments
        self.rows: list[Row] = []


class Group:
    """What is committed together; executed in the order of these lists."""

    __slots__ = (
        "accepted",
        "answers",
        "buried",
        "changed",
        "deleted",
        "forgets",
        "kept_notes",
        "lost",
        "moved",
        "movers",
        "notes",
        "reads",
        "rows",
    )

    def __init__(self) -> None:
        self.accepted: list[Row] = []
        self.changed: dict[str, Push] = {}
        """Written as they are when the group leaves for the disk, in ``rows``."""
        self.rows: list[Row] = []
        self.movers: list[Callable[[list[Row]], None]] = []
        """Called when the group leaves for the disk: each adds rows to ``moved``."""
        self.moved: list[Row] = []
        self.buried: list[Row] = []
        self.lost: list[Row] = []
        self.deleted: list[tuple[str]] = []
        self.notes: dict[str, tuple[bytes | None, int]] = {}
        self.kept_notes: set[str] = set()
        """Keys of notes that are tried again when the group fails."""
        self.forgets = 0
        """Wall time before which notes have run out; 0: they stay."""
        self.reads: list[Read] = []
        self.answers: list[Answer] = []
        """Called in order, on the loop, with what became of the group."""

    @property
    def writes(self) -> bool:
        return bool(
            self.accepted
            or self.changed
            or self.movers
            or self.buried
            or self.lost
            or self.deleted
            or self.notes
            or self.forgets
        )

    def __bool__(self) -> bool:
        return self.writes or bool(self.answers)

    def inherit(self, failed: Group) -> None:
        """Take over what must reach the disk some day from a group that did not."""
        self.changed = failed.changed | self.changed
        self.buried[:0] = failed.buried
        self.lost[:0] = failed.lost
        self.deleted[:0] = failed.deleted
        kept = {key: failed.notes[key] for key in failed.kept_notes}
        self.notes = kept | self.notes
        self.kept_notes |= failed.kept_notes


class PushFile:
    """The open file. Journal and inbox add to ``next`` and call ``begin``."""

    def __init__(
        self, connection: sqlite3.Connection, lock: FileLock, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.connection = connection
        """For reading at start, before anything is written."""
        self.next = Group()
        self.is_writing = False
        self.is_closed = False
        self.failures = 0
        """Groups that could not be written."""
        self.groups = 0
        """Groups committed."""
        self._lock = lock
        self._loop = loop
        self._is_due = False
        self._wrote = asyncio.Event()
        self._thread = GroupThread("heartcast-pushes", loop, self._write)

    def begin(self) -> None:
        """Let what waits go to the disk at the end of this turn of the loop.

        What one turn writes is one group: a push that ends and the answer to whoever ended
        it are never apart.
        """
        if not self._is_due and not self.is_writing:
            self._is_due = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._is_due = False
        if self.is_writing or not self.next:
            return
        group, self.next = self.next, Group()
        for mover in group.movers:
            mover(group.moved)
        # Here and not on the thread, which would see them change under its hands.
        group.rows = [
            (push.due_ms, push.payload, packed(push.extra), push.changed_ms, push.id)
            for push in group.changed.values()
            if not push.state.is_terminal
        ]
        self.is_writing = True
        self._thread.submit(group)

    def last_id(self) -> str:
        """The greatest id of a push in the file; "" when there is none."""
        [greatest] = self.connection.execute("SELECT max(id) FROM push").fetchone()
        return greatest or ""

    async def close(self) -> None:
        """Write what waits and answer every call. Repeating it does nothing."""
        if self.is_closed:
            return
        self.is_closed = True
        self._begin()
        while self.is_writing or self.next.answers:
            self._wrote.clear()
            self._begin()
            await self._wrote.wait()
        await self._thread.stop()
        self.connection.close()
        self._lock.close()

    def _write(self, groups: list[Group]) -> Callable[[], None]:
        """On the thread: one transaction for all of it."""
        execute = self.connection.execute
        try:
            if any(group.writes for group in groups):
                execute("BEGIN IMMEDIATE")
                for group in groups:
                    _execute(self.connection, group)
                execute("COMMIT")
            for read in (read for group in groups for read in group.reads):
                read.rows = execute(read.sql, read.arguments).fetchall()
        except sqlite3.Error as error:
            if self.connection.in_transaction:
                execute("ROLLBACK")
            return partial(self._ended, groups, unavailable(error))
        return partial(self._ended, groups, None)

    def _ended(self, groups: list[Group], error: StoreUnavailable | None) -> None:
        self.is_writing = False
        if error is None:
            self.groups += 1
        else:
            self.failures += 1
            for group in groups:
                self.next.inherit(group)
        try:
            for answer in (answer for group in groups for answer in group.answers):
                answer(error)
        finally:
            # What was not given up waits for the next call: a full disk must not be hammered.
            if error is None or self.next.answers:
                self.begin()
            self._wrote.set()


def _execute(connection: sqlite3.Connection, group: Group) -> None:
    executemany = connection.executemany
    if group.accepted:
        executemany(_ACCEPT, group.accepted)
    if group.rows:
        executemany(_CHANGE, group.rows)
    if group.moved:
        executemany(_MOVE, group.moved)
    if group.buried:
        executemany(_BURY, group.buried)
    if group.lost:
        executemany(_LOSE, group.lost)
    if group.deleted:
        executemany(_DELETE, group.deleted)
    if group.notes:
        executemany(_NOTE, [(key, *note) for key, note in group.notes.items() if note[0] is not None])
        executemany(_UNNOTE, [(key,) for key, note in group.notes.items() if note[0] is None])
    if group.forgets:
        connection.execute(_FORGET, (group.forgets,))


def open_file(path: Path, loop: asyncio.AbstractEventLoop, tuning: Tuning | None = None) -> PushFile:
    """Open or make the file; the caller closes it.

    Raises:
        SettingsError: the file is locked, damaged, not writable or of another program.
    """
    lock = FileLock(path)
    try:
        connection = open_writer(path, SCHEMA, tuning or Tuning(cache_bytes=32 << 20))
    except BaseException:
        lock.close()
        raise
    return PushFile(connection, lock, loop)
