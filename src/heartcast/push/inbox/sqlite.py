"""The inbox in SQLite: everything in memory, every change on disk before it is answered.

Reading never touches the disk: the file is loaded at start into the same mailboxes that
the in-memory inbox has. One group of changes is written at a time; what comes meanwhile
makes the next group, so that under load one commit carries hundreds of pushes. Offsets
are given when a group leaves for the disk and put into memory when it is there: a push
is never sent under an offset that a crash could hand to another.

A row goes when its push is settled, except a mailbox's newest: that one is *buried*
(emptied and marked) and stays until a newer push comes, because it remembers the
mailbox's top, its epoch, and what was lost.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from heartcast.backends.sqlite import FileLock, GroupThread, Schema, Tuning, open_writer, unavailable
from heartcast.core.errors import StoreUnavailable
from heartcast.push.inbox import Appended, Mark, Since
from heartcast.push.inbox.memory import MemoryInbox
from heartcast.push.model import Push
from heartcast.push.templates import Templates

SCHEMA = Schema(
    application_id=0x68634942,
    version=1,
    script="""
        CREATE TABLE inbox (
            id TEXT NOT NULL PRIMARY KEY,
            user TEXT NOT NULL,
            is_numeric INTEGER NOT NULL,
            epoch TEXT NOT NULL,
            offset INTEGER NOT NULL,
            lost INTEGER NOT NULL,
            is_settled INTEGER NOT NULL,
            template TEXT NOT NULL,
            payload BLOB NOT NULL,
            accepted_ms INTEGER NOT NULL,
            changed_ms INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
    """,
)
_INSERT = "INSERT INTO inbox VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)"
_BURY = "UPDATE inbox SET is_settled = 1, payload = x'', lost = max(lost, ?), changed_ms = ? WHERE id = ?"
_LOSE = "UPDATE inbox SET lost = max(lost, ?) WHERE id = ?"
_DELETE = "DELETE FROM inbox WHERE id = ?"
_LOAD = """
    SELECT id, user, is_numeric, epoch, offset, lost, is_settled, template, payload, accepted_ms, changed_ms
    FROM inbox ORDER BY user, offset
"""


class _Append(NamedTuple):
    pushes: Sequence[Push]
    now_ms: int
    done: Appended


class _Group:
    """Changes that are committed together; executed in the order of these lists."""

    __slots__ = ("appends", "buried", "deleted", "inserted", "lost")

    def __init__(self) -> None:
        self.appends: list[_Append] = []
        self.inserted: list[tuple[object, ...]] = []
        self.buried: list[tuple[int, int, str]] = []
        self.lost: list[tuple[int, str]] = []
        self.deleted: list[tuple[str]] = []

    def __bool__(self) -> bool:
        return bool(self.appends or self.buried or self.lost or self.deleted)


class SqliteInbox:
    """Implements ``Inbox``. Open it with ``open_inbox``."""

    is_durable = True

    def __init__(
        self,
        connection: sqlite3.Connection,
        lock: FileLock,
        index: MemoryInbox,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._connection = connection
        self._lock = lock
        self._index = index
        self._graves: dict[str, str] = {}
        """Id of the buried row of each mailbox whose newest push is settled."""
        self._next = _Group()
        self._is_writing = False
        self._is_closed = False
        self._wrote = asyncio.Event()
        self._thread = GroupThread("heartcast-inbox", loop, self._write)
        self.failures = 0
        """Groups that could not be written."""

    def append(self, pushes: Sequence[Push], now_ms: int, done: Appended) -> None:
        if self._is_closed:
            return done(StoreUnavailable("the inbox is closed"))
        self._next.appends.append(_Append(pushes, now_ms, done))
        self._begin()
        return None

    def settle(self, pushes: Iterable[Push], *, is_lost: bool, now_ms: int) -> None:
        for push in pushes:
            box = self._index.box(push.user)
            waiting = len(box.pushes) if box else 0
            self._index.settle([push], is_lost=is_lost, now_ms=now_ms)
            if box is None or len(box.pushes) == waiting:
                continue
            self._drop(
                push, is_newest=push.offset == box.top, lost=push.offset if is_lost else 0, now_ms=now_ms
            )
        self._begin()

    def since(self, user: str, mark: Mark | None, limit: int, done: Since) -> None:
        self._index.since(user, mark, limit, done)

    def page(self, user: str, after: int, limit: int, done: Since) -> None:
        self._index.page(user, after, limit, done)

    def kept(self) -> Iterable[Push]:
        return self._index.kept()

    def forget(self, now_ms: int) -> None:
        if self._is_writing:
            # The group on its way counts on the mailboxes as they stand.
            return
        for user in self._index.forget_idle(now_ms):
            if grave := self._graves.pop(user, None):
                self._next.deleted.append((grave,))
        self._begin()

    async def close(self) -> None:
        """Write what waits; then answer what comes later with ``StoreUnavailable``."""
        if self._is_closed:
            return
        self._is_closed = True
        self._begin()
        while self._is_writing:
            self._wrote.clear()
            await self._wrote.wait()
        await self._thread.stop()
        self._connection.close()
        self._lock.close()

    def load(self, templates: Templates) -> None:
        """Fill the mailboxes from the file; once, before anything else."""
        for row in self._connection.execute(_LOAD):
            (push_id, user, is_numeric, epoch, offset, lost, is_settled, key, *rest) = row
            push = Push(push_id, user, bool(is_numeric), templates.find_or_absent(key), *rest)
            push.offset = offset
            self._index.restore(push, epoch, lost, bool(is_settled))
            self._note_grave(push, is_buried=bool(is_settled))
        self._begin()

    def _note_grave(self, push: Push, *, is_buried: bool) -> None:
        # A crash between two groups may leave an older grave behind: it goes now.
        if (older := self._graves.pop(push.user, None)) is not None:
            self._next.deleted.append((older,))
        if is_buried:
            self._graves[push.user] = push.id

    def _drop(self, push: Push, *, is_newest: bool, lost: int, now_ms: int) -> None:
        """Note that a push's row goes, without forgetting what it alone remembers."""
        group = self._next
        if is_newest:
            self._note_grave(push, is_buried=True)
            group.buried.append((lost, now_ms, push.id))
            return
        group.deleted.append((push.id,))
        if lost:
            box = self._index.box(push.user)
            keeper = box.pushes[-1].id if box and box.pushes else self._graves.get(push.user)
            if keeper:
                group.lost.append((lost, keeper))

    # ── writing ──────────────────────────────────────────────────────────────

    def _begin(self) -> None:
        if self._is_writing or not self._next:
            return
        group, self._next = self._next, _Group()
        self._number(group)
        self._is_writing = True
        self._thread.submit(group)

    def _number(self, group: _Group) -> None:
        tops: dict[str, int] = {}
        for append in group.appends:
            for push in append.pushes:
                box = self._index.box(push.user)
                epoch, top, lost = (box.epoch, box.top, box.lost) if box else (self._index.epoch, 0, 0)
                offset = tops[push.user] = tops.get(push.user, top) + 1
                group.inserted.append(
                    (push.id, push.user, push.is_numeric, epoch, offset, lost,
                     push.template.key, push.payload, push.accepted_ms, append.now_ms)
                )  # fmt: skip

    def _write(self, groups: list[_Group]) -> Callable[[], None]:
        """On the thread: one transaction for all of it."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for group in groups:
                self._connection.executemany(_INSERT, group.inserted)
                self._connection.executemany(_BURY, group.buried)
                self._connection.executemany(_LOSE, group.lost)
                self._connection.executemany(_DELETE, group.deleted)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            return partial(self._failed, groups, unavailable(error))
        return partial(self._written, groups)

    def _written(self, groups: list[_Group]) -> None:
        self._is_writing = False
        for append in (append for group in groups for append in group.appends):
            self._index.append(append.pushes, append.now_ms, partial(self._indexed, append))
        self._begin()
        self._wrote.set()

    def _indexed(self, append: _Append, evicted: list[Push] | StoreUnavailable) -> None:
        assert isinstance(evicted, list)
        for push in append.pushes:
            if grave := self._graves.pop(push.user, None):
                # The new row remembers all that the grave did, also what was lost meanwhile.
                box = self._index.box(push.user)
                self._next.lost.append((box.lost if box else 0, push.id))
                self._next.deleted.append((grave,))
        for push in evicted:
            self._drop(push, is_newest=False, lost=push.offset, now_ms=append.now_ms)
        append.done(evicted)

    def _failed(self, groups: list[_Group], error: StoreUnavailable) -> None:
        self._is_writing = False
        self.failures += 1
        for group in groups:
            # What is settled in memory must leave the disk some day; the next group takes it along.
            self._next.buried[:0] = group.buried
            self._next.lost[:0] = group.lost
            self._next.deleted[:0] = group.deleted
        for append in (append for group in groups for append in group.appends):
            append.done(error)
        # Settlements alone wait for the next append: a full disk must not be hammered.
        if self._next.appends:
            self._begin()
        self._wrote.set()


def open_inbox(
    path: Path,
    *,
    templates: Templates,
    new_epoch: Callable[[], str],
    max_pushes: int,
    loop: asyncio.AbstractEventLoop,
    tuning: Tuning | None = None,
) -> SqliteInbox:
    """Open the inbox of a data directory and load it; the caller closes it.

    Raises:
        SettingsError: the file is locked, damaged, not writable or of another program.
    """
    lock = FileLock(path)
    try:
        connection = open_writer(path, SCHEMA, tuning or Tuning(cache_bytes=32 << 20))
    except BaseException:
        lock.close()
        raise
    inbox = SqliteInbox(connection, lock, MemoryInbox(new_epoch, max_pushes), loop)
    inbox.load(templates)
    return inbox
