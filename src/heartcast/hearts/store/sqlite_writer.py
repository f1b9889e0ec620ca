"""Writing hearts to SQLite: one transaction for a whole group of calls.

A group is worked through in memory, in the order of the calls, on top of what the
database holds for its keys; then the difference is written: hearts gone, hearts new,
and by how much each target's count and version moved. Statements per group stay few
and every call still gets the exact outcome it would have had alone.

Only this object writes, so it remembers targets between groups. After any failure it
forgets them all and reads them anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from heartcast.core.ids import IdSource
from heartcast.hearts.model import Heart, HeartKey
from heartcast.hearts.store import sqlite_bulk, sqlite_events, sqlite_receipts
from heartcast.hearts.store.grouped import Difference, Group, Name, Result, Target, Write
from heartcast.hearts.store.sqlite_rows import FIND_HEARTS, FIND_TARGETS, Statement, packed, unpacked

# A statement of many rows that could stop half-way keeps a copy of every page that it touches, in a
# file of its own. OR ROLLBACK says that the whole group goes then anyway: it halves what a heart costs here.
_INSERT = Statement(
    "INSERT OR ROLLBACK INTO heart (id, tid, user, created_ms)"
    " SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL",
    4,
)
_DELETE = Statement("DELETE FROM heart WHERE id IN (VALUES {})", 1)
_INSERT_TARGETS = Statement(
    "INSERT OR ROLLBACK INTO target (tid, kid, target_id, count, version)"
    " SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL",
    5,
)
_MOVE_TARGETS = Statement(
    "UPDATE OR ROLLBACK target SET count = count + v.column2, version = version + v.column3"
    " FROM (VALUES {}) v WHERE tid = v.column1",
    3,
)
_MAX_TARGETS = 100_000
"""Targets remembered, about 30 MB; then all are forgotten. A target read again costs some µs."""


class _Target(Target):
    __slots__ = ("kid", "target_id")

    def __init__(self, tid: int, kid: int, target_id: str, count: int, version: int) -> None:
        super().__init__(tid, count, version)
        self.kid = kid
        self.target_id = target_id


class Writer:
    """Turns groups of writes into transactions. Used by one thread.

    Args:
        connection: In autocommit mode; stays the caller's.
        ids: Makes ids of new hearts; used by nobody else.
        now_ms: Wall time, for events.
        keeps_events: Whether changes are written to the outbox.
    """

    def __init__(
        self, connection: sqlite3.Connection, ids: IdSource, now_ms: Callable[[], int], *, keeps_events: bool
    ) -> None:
        self._connection = connection
        self._now_ms = now_ms
        self._keeps_events = keeps_events
        self._last_event = sqlite_events.last_number(connection)
        self._ids = ids
        self._next_id = ids.next
        self._targets: dict[Name, _Target] = {}
        self._kids: dict[str, int] = {}
        self._next_tid = 0

    def apply(self, writes: list[Write]) -> list[Result]:
        """Do all of these writes and commit.

        Returns:
            The result of each write, durable.

        Raises:
            sqlite3.Error: nothing of the group was done, or it is not known.
        """
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes, events = self._work(writes)
            connection.execute("COMMIT")
        except BaseException:
            self._undo()
            raise
        self._last_event += events
        return outcomes

    def offer(self, keys: Sequence[HeartKey], times_ms: Sequence[int]) -> int:
        """Add those of these hearts that are not there, in one transaction of their own.

        Returns:
            How many were not.

        Raises:
            sqlite3.Error: as ``apply``.
        """
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            names = {(target_id, kind) for target_id, _, kind in keys}
            self._learn_targets(keys)
            targets = {name: self._targets[name] for name in names}
            new = [(t.tid, t.kid, t.target_id, 0, 0) for t in targets.values() if not t.version]
            _INSERT_TARGETS.change(connection, new)
            sqlite_bulk.skip_past_all(connection, self._ids)
            offered = sqlite_bulk.offer(connection, keys, times_ms, targets, self._next_id)
            changes = sqlite_bulk.changes(connection, offered, targets) if self._keeps_events else []
            sqlite_events.write(connection, changes, self._last_event, self._now_ms())
            connection.execute("COMMIT")
        except BaseException:
            self._undo()
            raise
        self._last_event += len(changes)
        # Counts were moved in the database only.
        self.forget()
        return offered.added

    def _undo(self) -> None:
        self.forget()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def forget(self) -> None:
        """Read targets anew: somebody else wrote through this connection."""
        self._targets.clear()
        self._kids.clear()
        self._next_tid = 0

    def _work(self, writes: list[Write]) -> tuple[list[Result], int]:
        keys = dict.fromkeys([key for write in writes for key in write.keys])
        self._learn_targets(keys)
        targets: dict[Name, Target] = {
            name: self._targets[name] for name in {(target_id, kind) for target_id, _, kind in keys}
        }
        names = [write.receipt.name for write in writes if write.receipt is not None]
        group = Group(
            targets,
            self._find_hearts(list(keys)),
            self._next_id,
            keeps_events=self._keeps_events,
            records=sqlite_receipts.find(self._connection, names),
        )
        outcomes = [group.apply(write) for write in writes]
        self._save(group.difference())
        if group.records:
            sqlite_receipts.write(self._connection, list(group.records.values()), writes[0].now_ms)
        if group.changes:
            sqlite_events.write(self._connection, group.changes, self._last_event, self._now_ms())
        return outcomes, len(group.changes)

    def _learn_targets(self, keys: Iterable[HeartKey]) -> None:
        if len(self._targets) > _MAX_TARGETS:
            self._targets.clear()
        known = self._targets
        names = dict.fromkeys([(target_id, kind) for target_id, _, kind in keys])
        missing = [name for name in names if name not in known]
        if not missing:
            return
        rows = [(at, target_id, self._kid(kind)) for at, (target_id, kind) in enumerate(missing)]
        for fields in FIND_TARGETS.ask(self._connection, rows):
            at, tid, count, version = map(int, fields)
            known[missing[at]] = _Target(tid, rows[at][2], missing[at][0], count, version)
        for _, target_id, kid in rows:
            name = (target_id, self._kind_of(kid))
            if name not in known:
                known[name] = _Target(self._new_tid(), kid, target_id, 0, 0)

    def _kid(self, kind: str) -> int:
        kid = self._kids.get(kind)
        if kid is None:
            self._connection.execute("INSERT OR IGNORE INTO kind (name) VALUES (?)", (kind,))
            [kid] = self._connection.execute("SELECT kid FROM kind WHERE name = ?", (kind,)).fetchone()
            self._kids[kind] = kid
        return kid

    def _kind_of(self, kid: int) -> str:
        return next(name for name, known in self._kids.items() if known == kid)

    def _new_tid(self) -> int:
        if self._next_tid == 0:
            [top] = self._connection.execute("SELECT coalesce(max(tid), 0) FROM target").fetchone()
            self._next_tid = top + 1
        tid = self._next_tid
        self._next_tid += 1
        return tid

    def _find_hearts(self, keys: list[HeartKey]) -> dict[HeartKey, Heart]:
        rows = []
        for at, (target_id, user_id, kind) in enumerate(keys):
            target = self._targets[target_id, kind]
            if target.count:
                rows.append((at, user_id, target.tid))
        found = {}
        for at_text, id_hex, created_ms in FIND_HEARTS.ask(self._connection, rows):
            key = keys[int(at_text)]
            found[key] = Heart(unpacked(bytes.fromhex(id_hex)), key, int(created_ms))
        return found

    def _save(self, difference: Difference) -> None:
        gone, new, replaced, moved = difference
        ids = [(packed(heart.id),) for heart in gone] + [(packed(was),) for was, _ in replaced]
        rows = [
            (packed(heart.id), self._targets[heart.key[0], heart.key[2]].tid, heart.key[1], heart.created_ms)
            for heart in [*new, *(heart for _, heart in replaced)]
        ]
        # What was counted must be what happened to the rows, or nothing of it is kept.
        # An INSERT fails by itself when a row is there already; a DELETE would be silent.
        if ids and _DELETE.change(self._connection, ids) != len(ids):
            raise sqlite3.IntegrityError("a heart to be removed is not there")
        _INSERT.change(self._connection, rows)
        self._save_targets(cast("list[_Target]", moved))

    def _save_targets(self, moved: list[_Target]) -> None:
        # A target that the database knows has a version of at least 1.
        new = [(t.tid, t.kid, t.target_id, t.count, t.version) for t in moved if t.saved_version == 0]
        _INSERT_TARGETS.change(self._connection, new)
        known = [
            (t.tid, t.count - t.saved_count, t.version - t.saved_version) for t in moved if t.saved_version
        ]
        if _MOVE_TARGETS.change(self._connection, known) != len(known):
            raise sqlite3.IntegrityError("a target to be counted is not there")
        for target in moved:
            target.saved_count, target.saved_version = target.count, target.version
