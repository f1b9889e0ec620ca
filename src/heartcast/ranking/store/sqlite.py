"""The ranking store in one SQLite file, written by one thread in group commits."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from heartcast.backends.sqlite import (
    FileLock,
    GroupThread,
    Schema,
    Tuning,
    open_reader,
    open_writer,
    unavailable,
)
from heartcast.core.errors import SettingsError, StoreUnavailable
from heartcast.ranking.feedback import Feedback, Kind
from heartcast.ranking.store import Appended, Document, Put

FILE_NAME = "ranking.db"
_KINDS = list(Kind)
"""A kind is stored as its place in this list: new ones go to the end."""
_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}
_PIECE = 10_000
_NO_END = (1 << 63) - 1

_SCHEMA = Schema(
    application_id=0x6863524B,
    version=1,
    script="""
        CREATE TABLE feedback (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            kind INTEGER NOT NULL,
            user TEXT NOT NULL,
            item TEXT NOT NULL,
            at_ms INTEGER NOT NULL,
            value REAL NOT NULL,
            propensity REAL NOT NULL
        ) STRICT;
        CREATE TABLE document (
            shelf TEXT NOT NULL,
            key TEXT NOT NULL,
            value BLOB NOT NULL,
            PRIMARY KEY (shelf, key)
        ) STRICT, WITHOUT ROWID
    """,
)
_APPEND = """
    INSERT OR IGNORE INTO feedback (number, id, kind, user, item, at_ms, value, propensity)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_READ = """
    SELECT number, id, kind, user, item, at_ms, value, propensity FROM feedback
    WHERE number > ? AND number <= ? ORDER BY number LIMIT ?
"""
_PUT = "INSERT OR REPLACE INTO document VALUES (?, ?, ?)"
_TAKE_AWAY = "DELETE FROM document WHERE shelf = ? AND key = ?"
_DOCUMENTS = "SELECT key, value FROM document WHERE shelf = ? ORDER BY key"
_FORGET_OLD = "DELETE FROM feedback WHERE at_ms < ?"
# Numbers only grow, and are as many as there are events plus those forgotten in between.
_FORGET_MANY = """
    DELETE FROM feedback WHERE number <= (SELECT number FROM feedback ORDER BY number DESC LIMIT 1 OFFSET ?)
"""


class _Append(NamedTuple):
    events: Sequence[Feedback]
    done: Appended


class _Put(NamedTuple):
    documents: Sequence[Document]
    done: Put


class _Forget(NamedTuple):
    before_ms: int
    most: int


_Item = _Append | _Put | _Forget


class SqliteRankingStore:
    """Implements ``RankingStore``. Make it on a running loop.

    Raises:
        SettingsError: the file is locked, damaged, not writable or of another program.
    """

    is_durable = True

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop, tuning: Tuning | None = None) -> None:
        self._path = path
        self._tuning = tuning or Tuning(cache_bytes=16 << 20)
        self._lock = FileLock(path)
        try:
            self._connection = open_writer(path, _SCHEMA, self._tuning)
        except BaseException:
            self._lock.close()
            raise
        self._thread: GroupThread[_Item] = GroupThread("heartcast-ranking", loop, self._write)
        [newest] = self._connection.execute("SELECT max(number) FROM feedback").fetchone()
        self.position = newest or 0
        self._last = self.position
        self._is_closed = False

    def append(self, events: Sequence[Feedback], done: Appended) -> None:
        if self._is_closed:
            return done(StoreUnavailable("the ranking store is closed"))
        return self._thread.submit(_Append(events, done))

    def put(self, documents: Sequence[Document], done: Put) -> None:
        if self._is_closed:
            return done(StoreUnavailable("the ranking store is closed"))
        return self._thread.submit(_Put(documents, done))

    def feedback(self, until: int | None = None) -> Iterator[list[Feedback]]:
        end = _NO_END if until is None else until
        with self._reader() as reader:
            last = 0
            while rows := reader.execute(_READ, (last, end, _PIECE)).fetchall():
                last = rows[-1][0]
                yield [
                    Feedback(id_, _KINDS[kind], user, item, at_ms, value, propensity)
                    for _, id_, kind, user, item, at_ms, value, propensity in rows
                ]

    def documents(self, shelf: str) -> dict[str, bytes]:
        with self._reader() as reader:
            return dict(reader.execute(_DOCUMENTS, (shelf,)))

    def forget(self, before_ms: int, most: int) -> None:
        if not self._is_closed:
            self._thread.submit(_Forget(before_ms, most))

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        await self._thread.stop()
        self._connection.close()
        self._lock.close()

    def _reader(self) -> _Reading:
        return _Reading(self._path, self._tuning)

    def _write(self, group: list[_Item]) -> Callable[[], None]:
        """On the thread: one transaction for all of it."""
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            outcomes = [self._execute(item) for item in group]
            execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            return partial(_refuse, group, unavailable(error))
        return partial(self._answer, group, outcomes, self._last)

    def _execute(self, item: _Item) -> list[bool]:
        execute = self._connection.execute
        if isinstance(item, _Append):
            return [self._append(event) for event in item.events]
        if isinstance(item, _Forget):
            execute(_FORGET_OLD, (item.before_ms,))
            execute(_FORGET_MANY, (item.most,))
            return []
        for shelf, key, value in item.documents:
            if value is None:
                execute(_TAKE_AWAY, (shelf, key))
            else:
                execute(_PUT, (shelf, key, value))
        return []

    def _append(self, event: Feedback) -> bool:
        row = (
            self._last + 1, event.id, _NUMBERS[event.kind], event.user_id, event.item_id, event.at_ms,
            event.value, event.propensity,
        )  # fmt: skip
        is_new = self._connection.execute(_APPEND, row).rowcount > 0
        self._last += is_new
        return is_new

    def _answer(self, group: list[_Item], outcomes: list[list[bool]], position: int) -> None:
        """On the loop."""
        self.position = position
        for item, outcome in zip(group, outcomes, strict=True):
            if isinstance(item, _Append):
                item.done(outcome)
            elif isinstance(item, _Put):
                item.done(None)


class _Reading:
    """A connection for as long as something is read."""

    def __init__(self, path: Path, tuning: Tuning) -> None:
        self._path = path
        self._tuning = tuning

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._connection = open_reader(self._path, self._tuning)
        except SettingsError as error:
            raise StoreUnavailable(error.detail) from error
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._connection.close()
        if isinstance(error, sqlite3.Error):
            raise unavailable(error) from error


def _refuse(group: list[_Item], error: StoreUnavailable) -> None:
    for item in group:
        if not isinstance(item, _Forget):
            item.done(error)
