"""Writing hearts to PostgreSQL: one transaction for a whole group of calls.

The rows of the group's targets are locked first, always in the same order, so that
nodes never wait for each other in a circle. While they are locked nobody else changes
memberships of these targets: what is read next stays true until the commit, and the
outcomes are exact whatever the number of nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from heartcast.backends.postgres import Connection, Migrations
from heartcast.core.errors import StoreUnavailable
from heartcast.hearts.ledger import postgres as postgres_ledger
from heartcast.hearts.model import Heart, HeartKey
from heartcast.hearts.store import postgres_events, postgres_receipts
from heartcast.hearts.store.grouped import Difference, Group, Name, Result, Target, Write

MIGRATIONS = Migrations(
    domain="hearts",
    scripts=(
        """
        CREATE TABLE heartcast_target (
            tid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            target_id text COLLATE "C" NOT NULL, kind text COLLATE "C" NOT NULL,
            count bigint NOT NULL DEFAULT 0 CHECK (count >= 0), version bigint NOT NULL DEFAULT 0,
            UNIQUE (target_id, kind)
        ) WITH (fillfactor = 70);
        CREATE TABLE heartcast_heart (
            id text COLLATE "C" PRIMARY KEY, tid bigint NOT NULL,
            user_id text COLLATE "C" NOT NULL, created_ms bigint NOT NULL,
            UNIQUE (user_id, tid)
        );
        CREATE INDEX heartcast_heart_target ON heartcast_heart (tid, id);
        """,
        """
        CREATE TABLE heartcast_kind (name text COLLATE "C" PRIMARY KEY);
        INSERT INTO heartcast_kind SELECT DISTINCT kind FROM heartcast_target;
        """,
        postgres_events.SCRIPT,
        postgres_receipts.SCRIPT,
        postgres_ledger.SCRIPT,
    ),
)
"""Ids sort bytewise (COLLATE "C"), as everywhere else. Room is left in the pages of targets,
because each heart rewrites its target's row and should find place on the same page."""

_MAX_TARGETS = 100_000
"""Numbers of targets remembered, about 20 MB; then all are forgotten."""

_ENSURE = """
INSERT INTO heartcast_target (target_id, kind)
SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING
"""
_ENSURE_KINDS = "INSERT INTO heartcast_kind SELECT * FROM unnest($1::text[]) ON CONFLICT DO NOTHING"
_NUMBERS = """
SELECT t.target_id, t.kind, t.tid FROM heartcast_target t
JOIN unnest($1::text[], $2::text[]) v (target_id, kind) USING (target_id, kind)
"""
_LOCK = (
    "SELECT tid, count, version FROM heartcast_target WHERE tid = ANY($1::bigint[]) ORDER BY tid FOR UPDATE"
)
_FIND = """
SELECT v.at, h.id, h.created_ms FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY v (user_id, tid, at)
JOIN heartcast_heart h USING (user_id, tid)
"""
_SAVE = """
WITH gone AS (
    DELETE FROM heartcast_heart WHERE id = ANY($1::text[]) RETURNING 1
), replaced AS (
    UPDATE heartcast_heart h SET id = v.id, created_ms = v.created_ms
    FROM unnest($2::text[], $3::text[], $4::bigint[]) v (was, id, created_ms) WHERE h.id = v.was RETURNING 1
), made AS (
    INSERT INTO heartcast_heart (id, tid, user_id, created_ms)
    SELECT * FROM unnest($5::text[], $6::bigint[], $7::text[], $8::bigint[]) RETURNING 1
), moved AS (
    UPDATE heartcast_target t SET count = v.count, version = v.version
    FROM unnest($9::bigint[], $10::bigint[], $11::bigint[]) v (tid, count, version)
    WHERE t.tid = v.tid RETURNING 1
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM replaced),
       (SELECT count(*) FROM made), (SELECT count(*) FROM moved)
"""


class Writer:
    """Turns groups of writes into transactions, one at a time.

    Args:
        next_id: Makes ids of new hearts.
        now_ms: Wall time, for events.
        keeps_events: Whether changes are written to the outbox.
    """

    def __init__(self, next_id: Callable[[], str], now_ms: Callable[[], int], *, keeps_events: bool) -> None:
        self._next_id = next_id
        self._now_ms = now_ms
        self._keeps_events = keeps_events
        self._tids: dict[Name, int] = {}
        self._kinds: set[str] = set()

    async def apply(self, connection: Connection, writes: list[Write]) -> list[Result]:
        """Do all of these writes and commit.

        Returns:
            The result of each write, durable.

        Raises:
            asyncpg.PostgresError, OSError, …: nothing of the group was done, or it is not known.
        """
        try:
            await self._learn(connection, writes)
            async with connection.transaction():
                return await self._work(connection, writes)
        except BaseException:
            # What is remembered may be of a database that is no more (a restore, a failover).
            self._tids.clear()
            self._kinds.clear()
            raise

    async def _learn(self, connection: Connection, writes: list[Write]) -> None:
        if len(self._tids) > _MAX_TARGETS:
            self._tids.clear()
        # Only adds make targets: taking back what is not there must leave no trace.
        added = self._unknown(key for write in writes for key in write.added)
        if kinds := sorted({kind for _, kind in added} - self._kinds):
            await connection.execute(_ENSURE_KINDS, kinds)
            self._kinds.update(kinds)
        if added:
            # Outside the transaction: making rows locks them, and not in the order of _LOCK.
            await connection.execute(_ENSURE, *_columns(added, 2))
        if asked := self._unknown(key for write in writes for key in write.keys):
            for target_id, kind, tid in await connection.fetch(_NUMBERS, *_columns(asked, 2)):
                self._tids[target_id, kind] = tid

    def _unknown(self, keys: Iterable[HeartKey]) -> list[Name]:
        return sorted({(key[0], key[2]) for key in keys} - self._tids.keys())

    async def _work(self, connection: Connection, writes: list[Write]) -> list[Result]:
        names = [write.receipt.name for write in writes if write.receipt is not None]
        records = await postgres_receipts.find(connection, names)
        keys = list(dict.fromkeys([key for write in writes for key in write.keys]))
        targets = await self._locked(connection, {(key[0], key[2]) for key in keys})
        before = await _hearts(connection, keys, targets)
        group = Group(targets, before, self._next_id, keeps_events=self._keeps_events, records=records)
        outcomes = [group.apply(write) for write in writes]
        await _save(connection, group.difference(), targets)
        if group.records:
            await postgres_receipts.write(connection, list(group.records.values()), writes[0].now_ms)
        if group.changes:
            await postgres_events.write(connection, group.changes, self._now_ms())
        return outcomes

    async def _locked(self, connection: Connection, names: set[Name]) -> dict[Name, Target]:
        tids = {self._tids[name]: name for name in names if name in self._tids}
        rows = await connection.fetch(_LOCK, list(tids))
        if len(rows) != len(tids):
            raise StoreUnavailable("targets are gone from the database; try again")
        return {tids[tid]: Target(tid, count, version) for tid, count, version in rows}


async def _hearts(
    connection: Connection, keys: list[HeartKey], targets: dict[Name, Target]
) -> dict[HeartKey, Heart]:
    asked = [key for key in keys if (target := targets.get((key[0], key[2]))) and target.version]
    if not asked:
        return {}
    tids = [targets[key[0], key[2]].tid for key in asked]
    rows = await connection.fetch(_FIND, [key[1] for key in asked], tids)
    return {asked[at - 1]: Heart(heart_id, asked[at - 1], ms) for at, heart_id, ms in rows}


async def _save(connection: Connection, difference: Difference, targets: dict[Name, Target]) -> None:
    gone, new, replaced, moved = difference
    if not moved:
        return
    changed = await connection.fetchrow(
        _SAVE,
        [heart.id for heart in gone],
        *_columns([(was, heart.id, heart.created_ms) for was, heart in replaced], 3),
        *_columns([(h.id, targets[h.key[0], h.key[2]].tid, h.key[1], h.created_ms) for h in new], 4),
        *_columns([(target.tid, target.count, target.version) for target in moved], 3),
    )
    # What was counted must be what happened to the rows, or nothing of it is kept.
    if tuple(changed) != (len(gone), len(replaced), len(new), len(moved)):
        raise StoreUnavailable("hearts were changed by somebody else meanwhile; try again")


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[at] for row in rows] for at in range(width)]
