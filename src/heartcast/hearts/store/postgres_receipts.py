"""Receipts in PostgreSQL, written in the transaction of their hearts.

Two nodes that are asked with the same key at the same time are kept apart by a lock of its
name. It is taken before any row is locked and in one order, so that nobody waits in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from heartcast.backends.postgres import Connection
from heartcast.hearts.store.receipts import MOST_TRIMMED, Record, record_of

SCRIPT = """
CREATE TABLE heartcast_receipt (
    name bytea PRIMARY KEY, fingerprint bytea NOT NULL, until_ms bigint NOT NULL, outcomes bytea NOT NULL
);
CREATE INDEX heartcast_receipt_until ON heartcast_receipt (until_ms);
"""

_LOCK = "SELECT pg_advisory_xact_lock(number) FROM unnest($1::bigint[]) number"
_FIND = "SELECT name, fingerprint, until_ms, outcomes FROM heartcast_receipt WHERE name = ANY($1::bytea[])"
_WRITE = """
INSERT INTO heartcast_receipt SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bytea[])
ON CONFLICT (name) DO UPDATE
SET fingerprint = excluded.fingerprint, until_ms = excluded.until_ms, outcomes = excluded.outcomes
"""
_TRIM = """
DELETE FROM heartcast_receipt WHERE name IN (
    SELECT name FROM heartcast_receipt WHERE until_ms < $1 LIMIT $2 FOR UPDATE SKIP LOCKED
)
"""


async def find(connection: Connection, names: Iterable[bytes]) -> dict[bytes, Record]:
    """The records that there are of these names, which nobody else changes until the commit."""
    asked = sorted(set(names))
    if not asked:
        return {}
    numbers = sorted({int.from_bytes(name[:8], "big", signed=True) for name in asked})
    await connection.execute(_LOCK, numbers)
    return {bytes(row[0]): record_of(tuple(row)) for row in await connection.fetch(_FIND, asked)}


async def known(connection: Connection, name: bytes) -> Record | None:
    """The record of this name as it is now, for reading alone."""
    row = await connection.fetchrow(_FIND, [name])
    return None if row is None else record_of(tuple(row))


async def write(connection: Connection, records: Sequence[Record], now_ms: int) -> None:
    """Write records in the transaction that is open, and drop some that are over."""
    rows = [record.row() for record in records]
    await connection.execute(_WRITE, *(list(column) for column in zip(*rows, strict=True)))
    await connection.execute(_TRIM, now_ms, MOST_TRIMMED + len(records))
