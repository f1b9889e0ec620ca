"""Reading the hearts of a data folder beside the server that has it.

A write-ahead log lets another process read while the server writes. Nothing here can change
anything, and no lock is taken.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from heartcast.backends.sqlite import Tuning, open_reader, unavailable
from heartcast.core.errors import SettingsError
from heartcast.hearts.model import Count, EventPage, Heart
from heartcast.hearts.store import sqlite_events, sqlite_reader, sqlite_truth
from heartcast.hearts.store.sqlite_rows import SCHEMA

T = TypeVar("T")


class SqliteBeside:
    """Implements ``copying.Source``. Its methods are called one at a time.

    Raises:
        SettingsError: there is no such database, or it is of another release.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise SettingsError(f"there is no {path}")
        self._connection = open_reader(path, Tuning())
        [version] = self._connection.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA.version:
            self._connection.close()
            raise SettingsError(
                f"{path} has schema {version}, this release knows {SCHEMA.version}; "
                "start its server once with this release"
            )

    async def walk(self, after: str, limit: int) -> list[Heart]:
        return await self._ask(lambda connection: sqlite_reader.scan(connection, after, limit))

    async def events(self, after: int, limit: int) -> EventPage:
        return await self._ask(lambda connection: sqlite_events.page(connection, after, limit))

    async def targets(self, after: str, limit: int) -> tuple[list[tuple[str, str]], str]:
        return await self._ask(lambda connection: sqlite_truth.targets(connection, after, limit))

    async def counted(self, target_ids: Sequence[str], kind: str) -> list[Count]:
        return await self._ask(lambda connection: sqlite_reader.counts(connection, target_ids, kind))

    async def _ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            try:
                return query(self._connection)
            except sqlite3.Error as error:
                raise unavailable(error) from error

        return await asyncio.to_thread(run)

    async def close(self) -> None:
        self._connection.close()
