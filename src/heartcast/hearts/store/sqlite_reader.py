"""Reading hearts from SQLite, on a connection and a thread beside the writer's.

A write-ahead log lets readers see the last commit while the next one is written, so
listing a large target holds nobody up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from heartcast.hearts.model import Count, Heart, HeartKey
from heartcast.hearts.store.sqlite_rows import FIND_HEARTS, FIND_TARGETS, packed, unpacked

_HEART = "SELECT h.id, t.target_id, h.user, k.name, h.created_ms FROM heart h"
_NAMES = " JOIN target t ON t.tid = h.tid JOIN kind k ON k.kid = t.kid"
_OF_TARGET = (
    "h.tid = (SELECT tid FROM target JOIN kind USING (kid) WHERE target_id = :target AND kind.name = :kind)"
)


def counts(connection: sqlite3.Connection, target_ids: Sequence[str], kind: str) -> list[Count]:
    """Counts in the order asked; unknown targets count 0."""
    answers = [Count(target_id, 0, 0) for target_id in target_ids]
    for at, (_, count, version) in _targets(connection, target_ids, kind).items():
        answers[at] = Count(target_ids[at], count, version)
    return answers


def hearted(connection: sqlite3.Connection, user_id: str, target_ids: Sequence[str], kind: str) -> list[bool]:
    """Whether this user hearts each target, in the order asked."""
    targets = _targets(connection, target_ids, kind)
    rows = [(at, user_id, tid) for at, (tid, _, _) in targets.items()]
    found = {int(fields[0]) for fields in FIND_HEARTS.ask(connection, rows)}
    return [at in found for at in range(len(target_ids))]


def find(connection: sqlite3.Connection, heart_id: str) -> Heart | None:
    """The heart with this id, which must be an id."""
    row = connection.execute(f"{_HEART}{_NAMES} WHERE h.id = ?", (packed(heart_id),)).fetchone()
    return None if row is None else _heart(row)


def page(
    connection: sqlite3.Connection,
    *,
    target_id: str | None,
    user_id: str | None,
    kind: str,
    after: str,
    limit: int,
) -> list[Heart]:
    """As ``HeartStore.page``; ``after`` is "" or an id."""
    # The index is named because the planner has no statistics to choose by.
    if user_id is None:
        where, index = _OF_TARGET, "heart_target"
    elif target_id is None:
        where, index = "h.user = :user AND k.name = :kind", "heart_user"
    else:
        where, index = f"h.user = :user AND {_OF_TARGET}", "heart_user"
    rows = connection.execute(
        f"{_HEART} INDEXED BY {index}{_NAMES} WHERE {where} AND h.id > :after ORDER BY h.id LIMIT :limit",
        {
            "target": target_id,
            "user": user_id,
            "kind": kind,
            "after": packed(after) if after else b"",
            "limit": limit,
        },
    )
    return [_heart(row) for row in rows]


def scan(connection: sqlite3.Connection, after: str, limit: int) -> list[Heart]:
    """The next hearts of all, in order of ids."""
    # CROSS JOIN keeps the order of the tables: heart first, so that LIMIT stops the walk.
    joins = _NAMES.replace(" JOIN ", " CROSS JOIN ")
    rows = connection.execute(
        f"{_HEART}{joins} WHERE h.id > ? ORDER BY h.id LIMIT ?", (packed(after) if after else b"", limit)
    )
    return [_heart(row) for row in rows]


def _targets(
    connection: sqlite3.Connection, target_ids: Sequence[str], kind: str
) -> dict[int, tuple[int, int, int]]:
    row = connection.execute("SELECT kid FROM kind WHERE name = ?", (kind,)).fetchone()
    if row is None:
        return {}
    asked = [(at, target_id, row[0]) for at, target_id in enumerate(target_ids)]
    found = {}
    for fields in FIND_TARGETS.ask(connection, asked):
        at, tid, count, version = map(int, fields)
        found[at] = (tid, count, version)
    return found


def _heart(row: tuple[bytes, str, str, str, int]) -> Heart:
    blob, target_id, user_id, kind, created_ms = row
    return Heart(unpacked(blob), HeartKey(target_id, user_id, kind), created_ms)
