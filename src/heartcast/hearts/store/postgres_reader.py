"""Reading hearts from PostgreSQL: statements that answer many callers at once, and lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heartcast.backends.postgres import Connection
from heartcast.hearts.model import Count, Heart, HeartKey

_COUNTS = """
SELECT v.at, t.count, t.version FROM unnest($1::text[], $2::text[]) WITH ORDINALITY v (target_id, kind, at)
JOIN heartcast_target t USING (target_id, kind)
"""
_HEARTED = """
SELECT v.at FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY v (target_id, kind, user_id, at)
JOIN heartcast_target t USING (target_id, kind) JOIN heartcast_heart h USING (user_id, tid)
"""
HEARTS = """
SELECT h.id, t.target_id, h.user_id, t.kind, h.created_ms
FROM heartcast_heart h JOIN heartcast_target t USING (tid)
"""
_OF_TARGET = "h.tid = (SELECT tid FROM heartcast_target WHERE target_id = ${} AND kind = ${})"


async def counts(connection: Connection, names: Sequence[tuple[str, str]]) -> list[Count]:
    """Counts of (target, kind) pairs in the order asked; unknown targets count 0."""
    answers = [Count(target_id, 0, 0) for target_id, _ in names]
    rows = await connection.fetch(_COUNTS, [name[0] for name in names], [name[1] for name in names])
    for at, count, version in rows:
        answers[at - 1] = Count(names[at - 1][0], count, version)
    return answers


async def hearted(connection: Connection, keys: Sequence[HeartKey]) -> list[bool]:
    """Whether each of these hearts exists, in the order asked."""
    columns = [[key[0] for key in keys], [key[2] for key in keys], [key[1] for key in keys]]
    found = {row[0] for row in await connection.fetch(_HEARTED, *columns)}
    return [at in found for at in range(1, len(keys) + 1)]


async def find(connection: Connection, heart_id: str) -> Heart | None:
    """The heart with this id."""
    row = await connection.fetchrow(f"{HEARTS} WHERE h.id = $1", heart_id)
    return None if row is None else heart(row)


async def page(
    connection: Connection, *, target_id: str | None, user_id: str | None, kind: str, after: str, limit: int
) -> list[Heart]:
    """As ``HeartStore.page``."""
    values: list[object] = [after, limit]
    where = "h.id > $1"
    if user_id is not None:
        values += [user_id, kind]
        where += " AND h.user_id = $3 AND t.kind = $4"
    if target_id is not None:
        at = len(values)
        values += [target_id, kind]
        where += " AND " + _OF_TARGET.format(at + 1, at + 2)
    rows = await connection.fetch(f"{HEARTS} WHERE {where} ORDER BY h.id LIMIT $2", *values)
    return [heart(row) for row in rows]


async def walk(connection: Connection, after: str, limit: int) -> list[Heart]:
    """As ``HeartStore.walk``."""
    rows = await connection.fetch(f"{HEARTS} WHERE h.id > $1 ORDER BY h.id LIMIT $2", after, limit)
    return [heart(row) for row in rows]


def heart(row: Any) -> Heart:
    """A row of ``HEARTS``."""
    heart_id, target_id, user_id, kind, created_ms = row
    return Heart(heart_id, HeartKey(target_id, user_id, kind), created_ms)
