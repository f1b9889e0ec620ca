"""How hearts lie in SQLite, and set-based statements over them.

Python lets go of its interpreter lock at every step of a statement and may wait long
to get it back from a busy event loop. Statements here therefore take many rows as one
``VALUES`` list and answer with one row of text: few steps, whatever the group's size.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain

from heartcast.backends.sqlite import Schema

SCHEMA = Schema(
    application_id=0x68656172,  # "hear"
    version=1,
    script="""
    CREATE TABLE kind (kid INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE target (
        tid INTEGER PRIMARY KEY, kid INTEGER NOT NULL, target_id TEXT NOT NULL,
        count INTEGER NOT NULL CHECK (count >= 0), version INTEGER NOT NULL, UNIQUE (target_id, kid)
    );
    CREATE TABLE heart (
        id BLOB PRIMARY KEY, tid INTEGER NOT NULL, user TEXT NOT NULL, created_ms INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX heart_user ON heart (user, tid);
    CREATE INDEX heart_target ON heart (tid, id)
    """,
)
"""``heart`` is in order of ids, so new rows append. ``heart_user`` finds a membership and
lists a user's hearts; ``heart_target`` lists a target's, oldest first."""

_CROCKFORD = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TO_BASE32 = bytes.maketrans(_CROCKFORD, b"0123456789ABCDEFGHIJKLMNOPQRSTUV")
_PAIRS = [chr(high) + chr(low) for high in _CROCKFORD for low in _CROCKFORD]
_SHIFTS = range(120, -10, -10)

# One prepared statement per power of two: a group of 77 rows runs as 64 + 8 + 4 + 1.
_LARGEST = 512


def packed(heart_id: str) -> bytes:
    """An id's 26 characters as 16 bytes, which sort alike."""
    return int(heart_id.encode().translate(_TO_BASE32), 32).to_bytes(16, "big")


def unpacked(blob: bytes) -> str:
    """The id that ``packed`` made 16 bytes of."""
    value = int.from_bytes(blob, "big")
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in _SHIFTS])


class Statement:
    """A statement with a ``VALUES`` list of any length.

    Args:
        sql: With ``{}`` where the list goes.
        width: Parameters per row.
    """

    def __init__(self, sql: str, width: int) -> None:
        row = f"({','.join('?' * width)})"
        sizes = [1 << power for power in range(_LARGEST.bit_length())]
        self._sql = {size: sql.format(",".join([row] * size)) for size in sizes}

    def change(self, connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> int:
        """Run it over all rows; returns how many rows of the table were changed."""
        changed = 0
        for size, piece in _pieces(rows):
            changed += connection.execute(self._sql[size], tuple(chain.from_iterable(piece))).rowcount
        return changed

    def ask(self, connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> Iterator[list[str]]:
        """Run it over all rows; yields the fields of ``group_concat``-ed records ("a:b:c,…")."""
        for size, piece in _pieces(rows):
            [text] = connection.execute(self._sql[size], tuple(chain.from_iterable(piece))).fetchone()
            if text is not None:
                yield from (record.split(":") for record in text.split(","))


def _pieces(rows: Sequence[tuple[object, ...]]) -> Iterator[tuple[int, Sequence[tuple[object, ...]]]]:
    start, size = 0, _LARGEST
    while start < len(rows):
        while size > len(rows) - start:
            size //= 2
        yield size, rows[start : start + size]
        start += size


FIND_TARGETS = Statement(
    "SELECT group_concat(v.column1 || ':' || t.tid || ':' || t.count || ':' || t.version)"
    " FROM (VALUES {}) v JOIN target t ON t.target_id = v.column2 AND t.kid = v.column3",
    3,
)
"""(position, target_id, kid) -> position, tid, count, version of those that exist."""

FIND_HEARTS = Statement(
    "SELECT group_concat(v.column1 || ':' || hex(h.id) || ':' || h.created_ms)"
    " FROM (VALUES {}) v JOIN heart h ON h.user = v.column2 AND h.tid = v.column3",
    3,
)
"""(position, user, tid) -> position, id in hexadecimal, created_ms of those that exist."""
