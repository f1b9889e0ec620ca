"""Many hearts at once, for imports: one transaction, and the database decides what is new.

The writer of single hearts reads what a group touches, decides in memory, and writes the
difference, so that each call has its exact outcome. Nobody asks for the outcome of one line
of an import. Here all rows are offered to the table, sorted by user so that neighbours in
the index are written together; those that exist are left out by the index itself. What is
new has ids behind all others, and one GROUP BY over these says by how much each target's
count moved.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from heartcast.core.ids import IdSource
from heartcast.hearts.model import Change, HeartKey
from heartcast.hearts.store.grouped import Name, Target
from heartcast.hearts.store.sqlite_rows import Statement, packed, unpacked

# Many rows a statement: one at a time, every row would let go of the interpreter and wait to get it back
# from whoever reads the file meanwhile.
_INSERT = Statement(
    "INSERT OR ROLLBACK INTO heart (user, tid, id, created_ms)"
    " SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL ON CONFLICT (user, tid) DO NOTHING",
    4,
)
_ID_BYTES = 16
_ADDED = "SELECT count(*), tid FROM heart WHERE id BETWEEN ? AND ? GROUP BY tid"
_NEW = "SELECT group_concat(hex(id), '') FROM heart WHERE id BETWEEN ? AND ?"
_MOVE = "UPDATE target SET count = count + ?1, version = version + ?1 WHERE tid = ?2"


class Offered(NamedTuple):
    """What one transaction was asked to add."""

    keys: Sequence[HeartKey]
    times_ms: Sequence[int]
    ids: Sequence[str]
    """Given to them in this order, so they grow."""
    blobs: Sequence[bytes]
    """The ids as they are in the table."""
    added: int
    """How many were not there."""


def skip_past_all(connection: sqlite3.Connection, ids: IdSource) -> None:
    """Make only ids behind all that the database has."""
    [newest] = connection.execute("SELECT max(id) FROM heart").fetchone()
    if newest is not None:
        ids.skip_past(unpacked(newest))


def offer(
    connection: sqlite3.Connection,
    keys: Sequence[HeartKey],
    times_ms: Sequence[int],
    targets: Mapping[Name, Target],
    next_id: Callable[[], str],
) -> Offered:
    """Insert those of these hearts that are not there, and count them.

    Args:
        keys: At least one; the first of equal ones counts.
        targets: Those of the keys, all of them in the database.

    Returns:
        What was asked, and how many were new.
    """
    ids = [next_id() for _ in keys]
    blobs = [packed(heart_id) for heart_id in ids]
    rows = [
        (user_id, targets[target_id, kind].tid, blob, created_ms)
        for blob, (target_id, user_id, kind), created_ms in zip(blobs, keys, times_ms, strict=True)
    ]
    # By user and target; of equal keys the first has the lower id, and stays first.
    rows.sort()
    added = _INSERT.change(connection, rows)
    connection.executemany(_MOVE, connection.execute(_ADDED, (blobs[0], blobs[-1])).fetchall())
    return Offered(keys, times_ms, ids, blobs, added)


def changes(connection: sqlite3.Connection, offered: Offered, targets: Mapping[Name, Target]) -> list[Change]:
    """The events of what was added; counts and versions of ``targets`` move along."""
    new = _new(connection, offered)
    found = []
    for blob, heart_id, (target_id, user_id, kind), created_ms in zip(
        offered.blobs, offered.ids, offered.keys, offered.times_ms, strict=True
    ):
        if new is None or blob in new:
            target = targets[target_id, kind]
            target.count += 1
            target.version += 1
            count, version = target.count, target.version
            found.append(Change(1, "import", target_id, user_id, kind, heart_id, created_ms, count, version))
    return found


def _new(connection: sqlite3.Connection, offered: Offered) -> set[bytes] | None:
    """The ids of what was added; None: all of them, as is usual, and nothing is read."""
    if offered.added == len(offered.ids):
        return None
    [text] = connection.execute(_NEW, (offered.blobs[0], offered.blobs[-1])).fetchone()
    raw = bytes.fromhex(text or "")
    return {raw[start : start + _ID_BYTES] for start in range(0, len(raw), _ID_BYTES)}
