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

from heartcast.core.ids import IdSource
from heartcast.hearts.model import Change, HeartKey
from heartcast.hearts.store.grouped import Name, Target
from heartcast.hearts.store.sqlite_rows import packed, unpacked

_INSERT = (
    "INSERT INTO heart (id, tid, user, created_ms) VALUES (?, ?, ?, ?) ON CONFLICT (user, tid) DO NOTHING"
)
_ADDED = "SELECT count(*), tid FROM heart WHERE id BETWEEN ? AND ? GROUP BY tid"
_NEW = "SELECT id, tid, user, created_ms FROM heart WHERE id BETWEEN ? AND ? ORDER BY id"
_MOVE = "UPDATE target SET count = count + ?1, version = version + ?1 WHERE tid = ?2"

Span = tuple[bytes, bytes]
"""The first and the last id of an import's transaction, as they are in the table."""


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
) -> tuple[Span, int]:
    """Insert those of these hearts that are not there, and count them.

    Args:
        keys: At least one; the first of equal ones counts.
        targets: Those of the keys, all of them in the database.

    Returns:
        The ids given out, and how many hearts were new.
    """
    ids = [packed(next_id()) for _ in keys]
    rows = [
        (heart_id, targets[key[0], key[2]].tid, key[1], created_ms)
        for heart_id, key, created_ms in zip(ids, keys, times_ms, strict=True)
    ]
    # Stable, so that of equal keys the first stays first.
    rows.sort(key=lambda row: (row[2], row[1]))
    added: int = connection.executemany(_INSERT, rows).rowcount
    span = ids[0], ids[-1]
    connection.executemany(_MOVE, connection.execute(_ADDED, span).fetchall())
    return span, added


def changes(connection: sqlite3.Connection, span: Span, targets: Mapping[Name, Target]) -> list[Change]:
    """The events of what was added; counts and versions of ``targets`` move along."""
    names = {target.tid: (name, target) for name, target in targets.items()}
    found = []
    for blob, tid, user_id, created_ms in connection.execute(_NEW, span):
        (target_id, kind), target = names[tid]
        target.count += 1
        target.version += 1
        heart_id, count, version = unpacked(blob), target.count, target.version
        found.append(Change(1, "import", target_id, user_id, kind, heart_id, created_ms, count, version))
    return found
