"""Counts against rows in SQLite, and walking through all targets."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from heartcast.hearts.model import Count, Recount

_RECOUNT = """
SELECT t.tid, t.count, t.version, (SELECT count(*) FROM heart h WHERE h.tid = t.tid)
FROM target t JOIN kind k USING (kid) WHERE t.target_id = ? AND k.name = ?
"""


def kinds(connection: sqlite3.Connection) -> list[str]:
    """Every kind."""
    return [name for (name,) in connection.execute("SELECT name FROM kind")]


def targets(connection: sqlite3.Connection, after: str, limit: int) -> tuple[list[tuple[str, str]], str]:
    """As ``HeartStore.targets``."""
    rows = connection.execute(
        "SELECT t.tid, t.target_id, k.name FROM target t JOIN kind k USING (kid)"
        " WHERE t.tid > ? ORDER BY t.tid LIMIT ?",
        (int(after or "0"), limit),
    ).fetchall()
    return [(target_id, kind) for _, target_id, kind in rows], str(rows[-1][0]) if len(rows) == limit else ""


def recount(connection: sqlite3.Connection, target_ids: Sequence[str], kind: str) -> list[Recount]:
    """As ``HeartStore.recount``. Each target's numbers are of one statement, hence of one moment."""
    found = []
    for target_id in target_ids:
        row = connection.execute(_RECOUNT, (target_id, kind)).fetchone()
        _, count, version, rows = row or (0, 0, 0, 0)
        found.append(Recount(target_id, kind, count, version, rows))
    return found


def repair(
    connection: sqlite3.Connection, target_id: str, kind: str, seen_count: int, seen_version: int
) -> Count | None:
    """As ``HeartStore.repair``, on the writer's connection between two groups."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        row = connection.execute(_RECOUNT, (target_id, kind)).fetchone()
        tid, count, version, rows = row or (0, 0, 0, 0)
        if (count, version) != (seen_count, seen_version):
            return None
        if count != rows:
            version += 1
            connection.execute("UPDATE target SET count = ?, version = ? WHERE tid = ?", (rows, version, tid))
        connection.execute("COMMIT")
        return Count(target_id, rows, version)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
