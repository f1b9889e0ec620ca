"""Following the feed inside this program: effects in a database, each with its place.

What an event does and how far the follower has come are one transaction. A crash at any
moment leaves both or neither, and the follower goes on where it stands: every event takes
effect exactly once. Where several nodes share the place (``hearts.ledger``), whoever moves it first
has taken the events.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from heartcast.backends.sqlite import FileLock, Schema, Tuning, open_writer, unavailable
from heartcast.core.errors import Gone, StoreUnavailable
from heartcast.hearts.model import HeartEvent
from heartcast.hearts.outbox import Feed, Page, cursor_of

FILE_NAME = "effects.db"
"""Of the database in the data folder."""

_PAGE = 500
_WAIT_S = 30.0
_REST_S = 1.0
"""After a failure, before the next attempt."""

_WEBHOOKS = "CREATE TABLE webhook (name TEXT PRIMARY KEY, is_disabled INTEGER NOT NULL) WITHOUT ROWID"
_AUDIT = """
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL UNIQUE, person TEXT NOT NULL,
    record BLOB NOT NULL, hash BLOB NOT NULL
);
CREATE INDEX audit_person ON audit (person, number);
CREATE TABLE person (
    user TEXT PRIMARY KEY, pseudonym TEXT NOT NULL UNIQUE, key BLOB NOT NULL
) WITHOUT ROWID
"""
SCHEMA = Schema(
    application_id=0x68656666,  # "heff"
    version=3,
    script=f"""{_WEBHOOKS};{_AUDIT};
    CREATE TABLE place (name TEXT PRIMARY KEY, epoch TEXT NOT NULL, number INTEGER NOT NULL);
    CREATE TABLE award (
        user TEXT NOT NULL, target TEXT NOT NULL, kind TEXT NOT NULL,
        points INTEGER NOT NULL, at_ms INTEGER NOT NULL, is_taken_back INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (user, target, kind)
    ) WITHOUT ROWID;
    CREATE TABLE entry (
        number INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT NOT NULL, target TEXT NOT NULL,
        kind TEXT NOT NULL, points INTEGER NOT NULL, reason TEXT NOT NULL, at_ms INTEGER NOT NULL,
        event TEXT NOT NULL
    );
    CREATE INDEX entry_user ON entry (user, number);
    CREATE TABLE balance (
        user TEXT PRIMARY KEY, points INTEGER NOT NULL, day INTEGER NOT NULL, awarded INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    upgrades=(_WEBHOOKS, _AUDIT),
)

T = TypeVar("T")
_log = structlog.get_logger("heartcast")


class EffectsFile:
    """The database of all followers, on a thread of its own.

    Args:
        path: None: in memory.

    Raises:
        SettingsError: the file cannot be used.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = None if path is None else FileLock(path)
        try:
            self._connection = open_writer(path or Path(":memory:"), SCHEMA, Tuning(cache_bytes=16 << 20))
        except BaseException:
            self._close_lock()
            raise
        # What is deleted is overwritten: a key that could be found again would not be deleted.
        self._connection.execute("PRAGMA secure_delete = ON")
        self._thread = ThreadPoolExecutor(1, "heart-effects")
        self.has_secrets_left = False
        """Set by a query that deleted a key: after its commit the log of writes is emptied, too."""

    async def ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query, or a change, as one transaction.

        Raises:
            StoreUnavailable: the database cannot do it now; nothing was changed.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, query)

    def _transact(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with self._connection as connection:
                connection.execute("BEGIN IMMEDIATE")
                answer = query(connection)
            if self.has_secrets_left:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self.has_secrets_left = False
            return answer
        except sqlite3.Error as error:
            raise unavailable(error) from error

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)
        self._connection.close()
        self._close_lock()

    def _close_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()


class Taker(Protocol):
    """Where the effects of events are kept, each written together with its place in the feed."""

    async def place(self) -> tuple[str, int] | None:
        """Epoch and number of the last event taken; None: there was none yet."""
        ...

    async def take(self, before: tuple[str, int] | None, page: Page) -> bool:
        """Take these events and move the place behind them, both or neither.

        Args:
            before: The place as it was last seen.

        Returns:
            False: it is another by now, so somebody else takes them; nothing was done.

        Both raise ``StoreUnavailable``; nothing was taken, or it is not known.
        """
        ...


class FileTaker:
    """Effects in the database of this node.

    Args:
        name: The place is kept under this name.
        apply: Called in the transaction, with events in order and their epoch.
    """

    def __init__(
        self,
        name: str,
        file: EffectsFile,
        apply: Callable[[sqlite3.Connection, list[HeartEvent], str], None],
    ) -> None:
        self._name = name
        self._file = file
        self._apply = apply

    async def place(self) -> tuple[str, int] | None:
        def read(connection: sqlite3.Connection) -> tuple[str, int] | None:
            found: tuple[str, int] | None = connection.execute(
                "SELECT epoch, number FROM place WHERE name = ?", (self._name,)
            ).fetchone()
            return found

        return await self._file.ask(read)

    async def take(self, before: tuple[str, int] | None, page: Page) -> bool:
        # The file is locked for this process: nobody else moves the place.
        def write(connection: sqlite3.Connection) -> None:
            self._apply(connection, page.events, page.epoch)
            connection.execute(
                "INSERT OR REPLACE INTO place VALUES (?, ?, ?)", (self._name, page.epoch, page.number)
            )

        await self._file.ask(write)
        return True


class _Overtaken(Exception):
    """Somebody else took the page."""


class Follower:
    """Takes every event of the feed.

    Args:
        name: For people, and for what the feed holds back.
    """

    def __init__(self, name: str, feed: Feed, taker: Taker) -> None:
        self._name = name
        self._feed = feed
        self._taker = taker
        self._place: tuple[str, int] | None = None
        self._knows_place = False
        self.number = 0
        """Of the last event taken, as far as this process knows."""
        feed.hold(name, lambda: self.number)

    async def run(self) -> None:
        """Follow until cancelled. A failure is tried again, and never skips an event."""
        cursor: str | None = None
        while True:
            try:
                if cursor is None:
                    cursor = await self.begin()
                cursor = await self.step(cursor)
            except Gone as gone:
                # What was taken stays taken; keys of effects keep it from happening twice.
                _log.error("events_missed", follower=self._name, detail=gone.detail)
                cursor, self.number = "", 0
            except (StoreUnavailable, _Overtaken):
                cursor = None
                # Long enough for another node to go on undisturbed: mostly one of them works.
                await asyncio.sleep(_REST_S)
            except Exception:
                _log.exception("follower_fault", follower=self._name)
                cursor = None
                await asyncio.sleep(_REST_S)

    async def begin(self) -> str:
        """The cursor where it stands.

        Raises:
            StoreUnavailable: it cannot be read now.
        """
        self._place = await self._taker.place()
        self._knows_place = True
        if self._place is None:
            return ""
        self.number = self._place[1]
        return cursor_of(*self._place)

    async def step(self, cursor: str, wait_s: float = _WAIT_S) -> str:
        """Take one page of events.

        Returns:
            The next cursor.

        Raises:
            Gone, StoreUnavailable: nothing was taken.
        """
        if not self._knows_place:
            await self.begin()
        page = await self._feed.read(cursor, _PAGE, wait_s)
        if page.cursor != cursor:
            self._knows_place = False
            if not await self._taker.take(self._place, page):
                raise _Overtaken
            self._place, self._knows_place = (page.epoch, page.number), True
            self.number = page.number
        return page.cursor
