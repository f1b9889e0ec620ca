"""A scan's view of the database: as it was between two groups of writes.

The wish to scan stands in the writer's queue like a write. When its group is committed, and
before the next one begins, a connection of its own opens a read transaction, which the
write-ahead log keeps as it is for as long as the scan takes. The answers of that group are
given first and the scan begins right after, so what was answered is what is seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec

from heartcast.backends.sqlite import Tuning, open_reader, unavailable
from heartcast.core.errors import SettingsError, StoreUnavailable

# A scan reads every page once: a cache would only fill up with what nobody asks for again.
_CACHE_BYTES = 2 << 20


class Snapshot:
    """One scan's connection.

    Args:
        on_begin: As in ``HeartStore.scan``.
    """

    __slots__ = ("_connection", "_failure", "_on_begin", "begun")

    def __init__(self, on_begin: Callable[[], None]) -> None:
        self._on_begin = on_begin
        self._connection: sqlite3.Connection | None = None
        self._failure: StoreUnavailable | None = None
        self.begun: asyncio.Future[sqlite3.Connection] = asyncio.get_running_loop().create_future()
        """The connection, for one thread at a time, once the scan has begun."""

    def open(self, path: Path, tuning: Tuning) -> None:
        """On the writer's thread, between two groups: see the database as it is now."""
        try:
            self._connection = open_reader(path, msgspec.structs.replace(tuning, cache_bytes=_CACHE_BYTES))
            self._connection.execute("BEGIN")
            # A transaction sees the moment of its first read.
            self._connection.execute("SELECT count(*) FROM kind").fetchone()
        except sqlite3.Error as error:
            self._failure = unavailable(error)
        except SettingsError as error:
            self._failure = StoreUnavailable(error.detail)

    def begin(self) -> None:
        """On the loop, after the answers of all that is seen: let the scan go on."""
        if self.begun.cancelled():
            return
        connection = self._connection
        if self._failure is not None or connection is None:
            self.begun.set_exception(self._failure or StoreUnavailable("the heart store is closed"))
            return
        try:
            self._on_begin()
        except Exception as error:
            self.begun.set_exception(error)
        else:
            self.begun.set_result(connection)

    def close(self) -> None:
        """See nothing any more. Not while a query runs; repeating it does nothing."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
