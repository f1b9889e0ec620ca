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
from collections.abc import Iterable, Sequence
from itertools import repeat

import msgspec

from heartcast.core.ids import IdSource
from heartcast.hearts.model import Heart, HeartKey, Outcome
from heartcast.hearts.store import Done
from heartcast.hearts.store.sqlite_rows import FIND_HEARTS, FIND_TARGETS, Statement, packed, unpacked

_INSERT = Statement(
    "INSERT INTO heart (id, tid, user, created_ms) SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL", 4
)
_DELETE = Statement("DELETE FROM heart WHERE id IN (VALUES {})", 1)
_INSERT_TARGETS = Statement(
    "INSERT INTO target (tid, kid, target_id, count, version)"
    " SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL",
    5,
)
_MOVE_TARGETS = Statement(
    "UPDATE target SET count = count + v.column2, version = version + v.column3"
    " FROM (VALUES {}) v WHERE tid = v.column1",
    3,
)
_MAX_TARGETS = 100_000
"""Targets remembered, about 30 MB; then all are forgotten. A target read again costs some µs."""


class Write(msgspec.Struct, gc=False):
    """One call of ``add``, ``load`` or ``remove`` on its way to the disk."""

    is_add: bool
    keys: Sequence[HeartKey]
    now_ms: int
    done: Done
    times_ms: Sequence[int] | None = None


class _Target:
    __slots__ = ("count", "kid", "saved_count", "saved_version", "target_id", "tid", "version")

    def __init__(self, tid: int, kid: int, target_id: str, count: int, version: int) -> None:
        self.tid = tid
        self.kid = kid
        self.target_id = target_id
        self.count = self.saved_count = count
        self.version = self.saved_version = version


class Writer:
    """Turns groups of writes into transactions. Used by one thread.

    Args:
        connection: In autocommit mode; stays the caller's.
        ids: Makes ids of new hearts; used by nobody else.
    """

    def __init__(self, connection: sqlite3.Connection, ids: IdSource) -> None:
        self._connection = connection
        self._next_id = ids.next
        self._targets: dict[tuple[str, str], _Target] = {}
        self._kids: dict[str, int] = {}
        self._next_tid = 0

    def apply(self, writes: list[Write]) -> list[list[Outcome]]:
        """Do all of these writes and commit.

        Returns:
            The outcomes of each write, durable.

        Raises:
            sqlite3.Error: nothing of the group was done, or it is not known.
        """
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = self._work(writes)
            connection.execute("COMMIT")
        except BaseException:
            self._undo()
            raise
        return outcomes

    def _undo(self) -> None:
        self._targets.clear()
        self._kids.clear()
        self._next_tid = 0
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _work(self, writes: list[Write]) -> list[list[Outcome]]:
        keys = dict.fromkeys([key for write in writes for key in write.keys])
        self._learn_targets(keys)
        before = self._find_hearts(list(keys))
        now: dict[HeartKey, Heart | None] = dict(before)
        outcomes = [self._add(write, now) if write.is_add else self._remove(write, now) for write in writes]
        self._save_hearts(before, now)
        self._save_targets({(target_id, kind) for target_id, _, kind in keys})
        return outcomes

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

    def _add(self, write: Write, now: dict[HeartKey, Heart | None]) -> list[Outcome]:
        times_ms = repeat(write.now_ms) if write.times_ms is None else write.times_ms
        outcomes = []
        for key, created_ms in zip(write.keys, times_ms, strict=False):
            target = self._targets[key[0], key[2]]
            heart = now.get(key)
            is_new = heart is None
            if heart is None:
                heart = now[key] = Heart(self._next_id(), key, created_ms)
                target.count += 1
                target.version += 1
            outcomes.append(Outcome(heart, target.count, target.version, is_new))
        return outcomes

    def _remove(self, write: Write, now: dict[HeartKey, Heart | None]) -> list[Outcome]:
        outcomes = []
        for key in write.keys:
            target = self._targets[key[0], key[2]]
            heart = now.get(key)
            if heart is not None:
                now[key] = None
                target.count -= 1
                target.version += 1
            outcomes.append(Outcome(heart, target.count, target.version, heart is not None))
        return outcomes

    def _save_hearts(self, before: dict[HeartKey, Heart], now: dict[HeartKey, Heart | None]) -> None:
        gone = [(packed(heart.id),) for key, heart in before.items() if now[key] is not heart]
        new = [
            (packed(heart.id), self._targets[key[0], key[2]].tid, key[1], heart.created_ms)
            for key, heart in now.items()
            if heart is not None and before.get(key) is not heart
        ]
        # What was counted must be what happened to the rows, or nothing of it is kept.
        # An INSERT fails by itself when a row is there already; a DELETE would be silent.
        if gone and _DELETE.change(self._connection, gone) != len(gone):
            raise sqlite3.IntegrityError("a heart to be removed is not there")
        _INSERT.change(self._connection, new)

    def _save_targets(self, names: Iterable[tuple[str, str]]) -> None:
        moved = [target for name in names if (target := self._targets[name]).version != target.saved_version]
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
