"""The ledger in ``effects.db``: of one node alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from pathlib import Path

from heartcast.hearts.following import EffectsFile
from heartcast.hearts.ledger import Account, Award, AwardKey, Bookings, Books, Entry, Place

_NAME = "credit"
_OF_KEY = "user = ? AND target = ? AND kind = ?"


class SqliteLedger:
    """Implements ``LedgerStore``.

    Args:
        file: Stays its owner's, who closes it.
    """

    def __init__(self, file: EffectsFile) -> None:
        self._file = file

    async def place(self) -> Place | None:
        return await self._file.ask(_place)

    async def read(self, keys: Collection[AwardKey], users: Collection[str]) -> Books:
        def run(connection: sqlite3.Connection) -> Books:
            books = Books({}, {})
            find = f"SELECT points, at_ms, is_taken_back FROM award WHERE {_OF_KEY}"  # noqa: S608 - ours
            for key in keys:
                if (row := connection.execute(find, key).fetchone()) is not None:
                    books.awards[key] = Award(row[0], row[1], bool(row[2]))
            for user_id in users:
                if (account := _account(connection, user_id)) is not None:
                    books.accounts[user_id] = account
            return books

        return await self._file.ask(run)

    async def write(self, before: Place | None, after: Place, bookings: Bookings) -> bool:
        def run(connection: sqlite3.Connection) -> bool:
            if _place(connection) != before:
                return False
            _book(connection, bookings)
            connection.execute("INSERT OR REPLACE INTO place VALUES (?, ?, ?)", (_NAME, *after))
            return True

        return await self._file.ask(run)

    async def account(self, user_id: str) -> Account:
        return await self._file.ask(lambda connection: _account(connection, user_id)) or Account()

    async def entries(self, user_id: str, before: int, limit: int) -> list[Entry]:
        def run(connection: sqlite3.Connection) -> list[Entry]:
            rows = connection.execute(
                "SELECT number, target, kind, points, reason, at_ms, event FROM entry"
                " WHERE user = ? AND (? = 0 OR number < ?) ORDER BY number DESC LIMIT ?",
                (user_id, before, before, limit),
            )
            return [Entry(*row) for row in rows]

        return await self._file.ask(run)

    async def close(self) -> None:
        """The file is closed by its owner."""


def has_books(path: Path) -> bool:
    """Whether a ledger was kept in this database, which nobody need have open."""
    if not path.exists():
        return False
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            return _place(connection) is not None
        finally:
            connection.close()
    except sqlite3.Error:
        return False  # whatever it is, it is told by whoever needs it


def _place(connection: sqlite3.Connection) -> Place | None:
    row = connection.execute("SELECT epoch, number FROM place WHERE name = ?", (_NAME,)).fetchone()
    return None if row is None else Place(*row)


def _account(connection: sqlite3.Connection, user_id: str) -> Account | None:
    row = connection.execute("SELECT points, day, awarded FROM balance WHERE user = ?", (user_id,)).fetchone()
    return None if row is None else Account(*row)


def _book(connection: sqlite3.Connection, bookings: Bookings) -> None:
    for table in ("award", "entry", "balance"):
        connection.executemany(
            f"DELETE FROM {table} WHERE user = ?",  # noqa: S608 - three names of ours
            [(user_id,) for user_id in bookings.erased],
        )
    connection.executemany(
        "INSERT OR REPLACE INTO award (user, target, kind, points, at_ms, is_taken_back)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [(*key, one.points, one.at_ms, one.is_taken_back) for key, one in bookings.awards.items()],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO balance VALUES (?, ?, ?, ?)",
        [(user_id, one.points, one.day, one.awarded) for user_id, one in bookings.accounts.items()],
    )
    connection.executemany(
        "INSERT INTO entry (user, target, kind, points, reason, at_ms, event) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (user_id, one.target_id, one.kind, one.points, one.reason, one.at_ms, one.event)
            for user_id, one in bookings.entries
        ],
    )
