"""Counts against rows in PostgreSQL, and walking through all targets."""

from __future__ import annotations

from collections.abc import Sequence

from heartcast.backends.postgres import Connection
from heartcast.hearts.model import Count, Recount

_RECOUNT = """
SELECT v.at, t.count, t.version, (SELECT count(*) FROM heartcast_heart h WHERE h.tid = t.tid)
FROM unnest($1::text[]) WITH ORDINALITY v (target_id, at)
JOIN heartcast_target t ON t.target_id = v.target_id AND t.kind = $2
"""
_TARGETS = "SELECT tid, target_id, kind FROM heartcast_target WHERE tid > $1 ORDER BY tid LIMIT $2"
_LOCK = "SELECT tid, count, version FROM heartcast_target WHERE target_id = $1 AND kind = $2 FOR UPDATE"
_ROWS = "SELECT count(*) FROM heartcast_heart WHERE tid = $1"
_SET = "UPDATE heartcast_target SET count = $2, version = $3 WHERE tid = $1"


async def kinds(connection: Connection) -> list[str]:
    """Every kind."""
    return [name for (name,) in await connection.fetch("SELECT name FROM heartcast_kind")]


async def targets(connection: Connection, after: str, limit: int) -> tuple[list[tuple[str, str]], str]:
    """As ``HeartStore.targets``."""
    rows = await connection.fetch(_TARGETS, int(after or "0"), limit)
    return [(target_id, kind) for _, target_id, kind in rows], str(rows[-1][0]) if len(rows) == limit else ""


async def recount(connection: Connection, target_ids: Sequence[str], kind: str) -> list[Recount]:
    """As ``HeartStore.recount``: one statement, hence one moment."""
    found = [Recount(target_id, kind, 0, 0, 0) for target_id in target_ids]
    for at, count, version, rows in await connection.fetch(_RECOUNT, list(target_ids), kind):
        found[at - 1] = Recount(target_ids[at - 1], kind, count, version, rows)
    return found


async def repair(
    connection: Connection, target_id: str, kind: str, seen_count: int, seen_version: int
) -> Count | None:
    """As ``HeartStore.repair``. Every writer locks the target's row first, so its hearts stand still."""
    async with connection.transaction():
        row = await connection.fetchrow(_LOCK, target_id, kind)
        tid, count, version = row or (0, 0, 0)
        if (count, version) != (seen_count, seen_version):
            return None
        rows = await connection.fetchval(_ROWS, tid)
        if rows != count:
            version += 1
            await connection.execute(_SET, tid, rows, version)
    return Count(target_id, rows, version)
