"""SQLite: connections, and the thread that owns one.

A database belongs to one process at a time, kept by a lock on a file beside it: the
stores on top remember what is in it, and a second writer would make that memory wrong.

All statements of a connection run on one ``GroupThread``. It takes everything that
waits as one group, so that many callers share one commit, and hands the whole group's
answers to the event loop in one call: under load there is one hop per group and not
one per request.

Opening fails with one plain sentence; later failures become ``StoreUnavailable``.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

import msgspec

from heartcast.core.errors import SettingsError, StoreUnavailable

Item = TypeVar("Item")


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """What a database holds, and how to know it again."""

    application_id: int
    """Written into the file, so that a database of another program is refused."""
    version: int
    """>= 1. A file with a greater one was written by a newer release."""
    script: str
    """Makes the tables of an empty database."""
    upgrades: Sequence[str] = ()
    """The n-th makes version n + 1 of version n; ``script`` is what all of them lead to."""
    page_bytes: int = 4096
    """Page size of a new database, a power of two, 512 to 65536. A commit writes every page that
    it touched: small ones suit rows that land all over the file."""


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection treats the disk."""

    synchronous: str = "full"
    """``full``: a commit survives a power cut; ``normal``: it survives the end of the process."""
    cache_bytes: int = 64 << 20
    checkpoint_bytes: int = 64 << 20
    """Size of the write-ahead log from which it is copied into the database."""
    busy_s: float = 5.0
    """How long to wait for a database that another program holds."""


class FileLock:
    """Keeps a second process away from a file, until closed or until this process ends.

    Raises:
        SettingsError: another process has it, or the lock file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise SettingsError(f"cannot write to {path.parent}: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = os.read(self._fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise SettingsError(f"{path} is in use by another process (pid {pid})") from error
        # The file stays for ever: removing it would let two processes lock two files of one name.
        os.ftruncate(self._fd, 0)
        os.write(self._fd, b"%d\n" % os.getpid())

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_writer(path: Path, schema: Schema, tuning: Tuning) -> sqlite3.Connection:
    """Open a database for writing and make its tables when it is new.

    Returns:
        A connection in autocommit mode, usable from any one thread at a time; the
        caller closes it.

    Raises:
        SettingsError: it is locked, corrupt, not writable, of another program or newer.
    """
    try:
        _make_private(path)
        connection = _connect(path, tuning)
    except sqlite3.Error as error:
        raise _refused(path, error) from error
    try:
        _prepare(connection, path, schema)
        _limit_log(connection, tuning)
        return connection
    except sqlite3.Error as error:
        connection.close()
        raise _refused(path, error) from error
    except SettingsError:
        connection.close()
        raise


def _make_private(path: Path) -> None:
    """Make a new database readable for its owner alone, and with it the log files beside it, which SQLite
    gives the same mode: who was shown what, and secrets to sign with, are in there."""
    with contextlib.suppress(OSError):  # there already, or SQLite says what is wrong with the place
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def open_reader(path: Path, tuning: Tuning) -> sqlite3.Connection:
    """Open a database that ``open_writer`` has opened, for reading beside the writer.

    Raises:
        SettingsError: it cannot be opened.
    """
    try:
        connection = _connect(path, tuning)
        connection.execute("PRAGMA query_only = ON")
        return connection
    except sqlite3.Error as error:
        raise _refused(path, error) from error


def _connect(path: Path, tuning: Tuning) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=tuning.busy_s, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute(f"PRAGMA synchronous = {tuning.synchronous}")
    connection.execute(f"PRAGMA cache_size = {-(tuning.cache_bytes // 1024)}")
    return connection


def _limit_log(connection: sqlite3.Connection, tuning: Tuning) -> None:
    [page_bytes] = connection.execute("PRAGMA page_size").fetchone()
    connection.execute(f"PRAGMA wal_autocheckpoint = {tuning.checkpoint_bytes // page_bytes}")
    connection.execute(f"PRAGMA journal_size_limit = {tuning.checkpoint_bytes}")


def _prepare(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    # Says nothing to a database that has tables.
    connection.execute(f"PRAGMA page_size = {schema.page_bytes}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    [version] = connection.execute("PRAGMA user_version").fetchone()
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [tables] = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables == 0:
        for statement in schema.script.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute(f"PRAGMA user_version = {schema.version}")
    elif application != schema.application_id:
        raise SettingsError(f"{path} is a SQLite database of another program")
    elif version > schema.version:
        raise SettingsError(
            f"{path} was written by a newer heartcast (schema {version}, this one knows {schema.version})"
        )
    elif version < schema.version:
        for upgrade in schema.upgrades[version - 1 :]:
            for statement in upgrade.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {schema.version}")
    connection.execute("COMMIT")


def _refused(path: Path, error: sqlite3.Error) -> SettingsError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return SettingsError(f"{path} is damaged or not a SQLite database; restore it from a backup")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SettingsError(f"{path} is locked by another program")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return SettingsError(f"{path} cannot be written: {error}")
    if code == sqlite3.SQLITE_FULL:
        return SettingsError(f"{path} cannot be written: the disk is full")
    return SettingsError(f"{path} cannot be used: {error}")


def unavailable(error: sqlite3.Error) -> StoreUnavailable:
    """What callers are told when a running database fails; the same call may be repeated."""
    return StoreUnavailable(f"the database cannot do this now: {error}")


class GroupThread(Generic[Item]):
    """A thread that takes what waits as one group.

    Args:
        name: For debuggers.
        loop: Where the answers go.
        handle: Called on the thread with a group in the order submitted. Returns what
            is then called on the loop. It must not raise.
        max_group: Most items in a group, >= 1.

    The queue itself has no bound: whoever submits counts what waits.
    """

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        handle: Callable[[list[Item]], Callable[[], None]],
        max_group: int = 512,
    ) -> None:
        self._loop = loop
        self._handle = handle
        self._max_group = max_group
        self._queue: SimpleQueue[list[Item] | None] = SimpleQueue()
        self._submitted: list[Item] = []
        self._has_ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> None:
        """Hand over an item; on the loop, and not after ``stop``.

        The thread gets those of a turn together: woken by the first of them it would begin a group of
        one, and the loop would wait for it all along while both want the interpreter.
        """
        if not self._submitted:
            self._loop.call_soon(self._hand_over)
        self._submitted.append(item)

    def _hand_over(self) -> None:
        if self._submitted:
            submitted, self._submitted = self._submitted, []
            self._queue.put(submitted)

    async def stop(self) -> None:
        """Handle everything submitted so far, deliver it, end the thread."""
        self._hand_over()
        self._queue.put(None)
        await self._has_ended.wait()
        self._thread.join()

    def _run(self) -> None:
        is_running = True
        while is_running:
            waiting, is_running = self._take()
            for start in range(0, len(waiting), self._max_group):
                self._call(self._handle(waiting[start : start + self._max_group]))
        self._call(self._has_ended.set)

    def _take(self) -> tuple[list[Item], bool]:
        waiting: list[Item] = []
        submitted = self._queue.get()
        try:
            while submitted is not None:
                waiting += submitted
                submitted = self._queue.get_nowait()
        except Empty:
            return waiting, True
        return waiting, False

    def _call(self, callback: Callable[[], None]) -> None:
        # A loop that was closed without stop() has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)
