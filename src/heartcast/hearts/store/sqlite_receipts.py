"""Receipts in SQLite, written in the transaction of their hearts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from heartcast.hearts.store.receipts import MOST_TRIMMED, Record, record_of

SCRIPT = """
CREATE TABLE receipt (
    name BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, until_ms INTEGER NOT NULL, outcomes BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX receipt_until ON receipt (until_ms)
"""

_FIND = "SELECT name, fingerprint, until_ms, outcomes FROM receipt WHERE name = ?"
_TRIM = "DELETE FROM receipt WHERE name IN (SELECT name FROM receipt WHERE until_ms < ? LIMIT ?)"


def find(connection: sqlite3.Connection, names: Iterable[bytes]) -> dict[bytes, Record]:
    """The records that there are of these names."""
    found = {}
    for name in names:
        row = connection.execute(_FIND, (name,)).fetchone()
        if row is not None:
            found[name] = record_of(row)
    return found


def write(connection: sqlite3.Connection, records: Sequence[Record], now_ms: int) -> None:
    """Write records in the transaction that is open, and drop some that are over."""
    connection.executemany(
        "INSERT OR REPLACE INTO receipt VALUES (?, ?, ?, ?)", [record.row() for record in records]
    )
    connection.execute(_TRIM, (now_ms, MOST_TRIMMED + len(records)))
