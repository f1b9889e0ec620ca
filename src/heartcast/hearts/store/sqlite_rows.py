"""How hearts lie in SQLite, and set-based statements over them.

Python lets go of its interpreter lock at every step of a statement and may wait long
to get it back from a busy event loop. Statements here therefore take many rows as one
``VALUES`` list and answer with one row of text: few steps, whatever the group's size.
A list is filled up with rows of NULL to one of a few lengths, so that nearly any group is
one statement that is prepared already.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import chain

from heartcast.backends.sqlite import Schema
from heartcast.hearts.store import sqlite_events, sqlite_receipts

_HEARTS = """
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
"""
SCHEMA = Schema(
    application_id=0x68656172,  # "hear"
    version=3,
    script=f"{_HEARTS};{sqlite_events.SCRIPT};{sqlite_receipts.SCRIPT}",
    upgrades=(sqlite_events.SCRIPT, sqlite_receipts.SCRIPT),
    page_bytes=1024,
)
"""``heart`` is in order of ids, so new rows append. ``heart_user`` finds a membership and
lists a user's hearts; ``heart_target`` lists a target's, oldest first.

Nearly every heart touches two pages of its own, its user's and its target's. Measured with
groups of 32: a commit takes 1.4 ms with pages of 1 KiB, 1.9 with 2, 2.6 with 4."""

_CROCKFORD = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TO_BASE32 = bytes.maketrans(_CROCKFORD, b"0123456789ABCDEFGHIJKLMNOPQRSTUV")
_PAIRS = [chr(high) + chr(low) for high in _CROCKFORD for low in _CROCKFORD]
_SHIFTS = range(120, -10, -10)

# Prepared lengths: a group of 77 rows runs as 96, of which 19 do nothing. SQLite takes at most
# 32,766 parameters, which is far above.
_LENGTHS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
_LARGEST = _LENGTHS[-1]


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
        sql: With ``{}`` where the list goes. Rows of NULL must do nothing.
        width: Parameters per row.
    """

    def __init__(self, sql: str, width: int) -> None:
        row = f"({','.join('?' * width)})"
        self._width = width
        self._sql = {length: sql.format(",".join([row] * length)) for length in _LENGTHS}

    def change(self, connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> int:
        """Run it over all rows; returns how many rows of the table were changed."""
        changed = 0
        for sql, values in self._calls(rows):
            changed += connection.execute(sql, values).rowcount
        return changed

    def ask(self, connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> Iterator[list[str]]:
        """Run it over all rows; yields the fields of ``group_concat``-ed records ("a:b:c,…")."""
        for sql, values in self._calls(rows):
            [text] = connection.execute(sql, values).fetchone()
            if text is not None:
                yield from (record.split(":") for record in text.split(","))

    def _calls(self, rows: Sequence[tuple[object, ...]]) -> Iterator[tuple[str, list[object]]]:
        for start in range(0, len(rows), _LARGEST):
            values = list(chain.from_iterable(rows[start : start + _LARGEST]))
            count = len(values) // self._width
            length = _LENGTHS[bisect_left(_LENGTHS, count)]
            values += [None] * ((length - count) * self._width)
            yield self._sql[length], values


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
