"""Hearts in memory: the reference, and the store of ``--in-memory``.

Each target and kind has a dictionary from user to heart, and its count is the size of
that dictionary: there is no second number that could differ. Dictionaries keep the
order of insertion and ids only grow, so a target's dictionary is also its list,
oldest first.

State per heart, measured by ``benchmarks/hearts.py`` with 12-character users who give
three hearts each: about 330 bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from itertools import islice, repeat

import msgspec

from heartcast.core.errors import StoreUnavailable
from heartcast.core.ids import IdSource
from heartcast.hearts.model import (
    Cause,
    Change,
    Count,
    EventPage,
    Heart,
    HeartKey,
    Once,
    Outcome,
    Receipt,
    Recount,
    Step,
)
from heartcast.hearts.store import CountsDone, Done, HeartedDone, OnceDone, nothing
from heartcast.hearts.store.memory_events import MemoryEvents
from heartcast.hearts.store.receipts import Record

_SCAN_ROWS = 2000

# A NamedTuple's own constructor is a Python function: on the hot path this is twice as fast.
_new_tuple = tuple.__new__


class _Row(msgspec.Struct, gc=False):
    # Not tracked by the garbage collector: a million of these would make every full
    # collection walk them all. They live and die with the store, cycles and all.
    id: str
    created_ms: int
    user_id: str
    target: _Target


class _Target:
    __slots__ = ("kind", "order", "rows", "target_id", "version")

    def __init__(self, target_id: str, kind: str) -> None:
        self.target_id = target_id
        self.kind = kind
        self.version = 0
        self.rows: dict[str, _Row] = {}
        self.order: list[_Row] | None = None
        """The rows as a list, for paging; None: not made since the last change."""


class MemoryHeartStore:
    """Implements ``HeartStore``; every ``done`` is called before the call returns.

    Args:
        ids: Makes the ids of new hearts.
        events: Where events are kept; None: nowhere.
    """

    is_durable = False

    def __init__(self, ids: IdSource, events: MemoryEvents | None = None) -> None:
        self._next_id = ids.next
        self._events = events
        self.keeps_events = events is not None
        self._targets: dict[tuple[str, str], _Target] = {}
        self._by_id: dict[str, _Row] = {}
        self._by_user: dict[str, list[_Row]] = {}
        self._records: dict[bytes, Record] = {}
        """By name, in the order of making."""
        self._is_closed = False

    def add(self, keys: Sequence[HeartKey], now_ms: int, done: Done) -> None:
        if self._is_closed:
            return done(_closed())
        if len(keys) == 1:
            return done([self._add(keys[0], now_ms, "user")])
        return self._add_all(keys, repeat(now_ms), done, "user")

    def load(
        self, keys: Sequence[HeartKey], times_ms: Sequence[int], done: Done, cause: Cause = "import"
    ) -> None:
        if self._is_closed:
            return done(_closed())
        return self._add_all(keys, times_ms, done, cause)

    def _add_all(self, keys: Sequence[HeartKey], times_ms: Iterable[int], done: Done, cause: Cause) -> None:
        done([self._add(key, created_ms, cause) for key, created_ms in zip(keys, times_ms, strict=False)])

    def _add(self, key: HeartKey, created_ms: int, cause: Cause) -> Outcome:
        target_id, user_id, kind = key
        target = self._targets.get((target_id, kind))
        if target is None:
            target = self._targets[target_id, kind] = _Target(target_id, kind)
        rows = target.rows
        row = rows.get(user_id)
        if row is not None:
            heart = _new_tuple(Heart, (row.id, key, row.created_ms))
            return Outcome(heart, len(rows), target.version, False)
        heart_id = self._next_id()
        row = rows[user_id] = self._by_id[heart_id] = _Row(heart_id, created_ms, user_id, target)
        hearts = self._by_user.get(user_id)
        if hearts is None:
            self._by_user[user_id] = [row]
        else:
            hearts.append(row)
        target.version += 1
        target.order = None
        if self._events is not None:
            self._events.note(_change(1, cause, key, row, target))
        heart = _new_tuple(Heart, (heart_id, key, created_ms))
        return Outcome(heart, len(rows), target.version, True)

    def remove(self, keys: Sequence[HeartKey], now_ms: int, done: Done, cause: Cause = "user") -> None:
        if self._is_closed:
            return done(_closed())
        return done([self._remove(key, cause) for key in keys])

    def _remove(self, key: HeartKey, cause: Cause) -> Outcome:
        target = self._targets.get((key.target_id, key.kind))
        if target is None:
            return Outcome(None, 0, 0, False)
        row = target.rows.pop(key.user_id, None)
        if row is None:
            return Outcome(None, len(target.rows), target.version, False)
        del self._by_id[row.id]
        hearts = [heart for heart in self._by_user[key.user_id] if heart is not row]
        if hearts:
            self._by_user[key.user_id] = hearts
        else:
            del self._by_user[key.user_id]
        # The target stays when its last heart goes: its version must go on from here.
        target.version += 1
        target.order = None
        if self._events is not None:
            self._events.note(_change(-1, cause, key, row, target))
        return Outcome(Heart(row.id, key, row.created_ms), len(target.rows), target.version, True)

    def once(self, receipt: Receipt, steps: Sequence[Step], now_ms: int, done: OnceDone) -> None:
        if self._is_closed:
            return done(_closed())
        while self._records and next(iter(self._records.values())).is_over(now_ms):
            del self._records[next(iter(self._records))]
        known = self._records.get(receipt.name)
        if known is not None and not known.is_over(now_ms):
            return done(known.answer(receipt))
        outcomes = [
            self._add(key, now_ms, "user") if is_add else self._remove(key, "user") for is_add, key in steps
        ]
        self._records.pop(receipt.name, None)
        self._records[receipt.name] = Record(receipt, outcomes)
        return done(Once(outcomes, is_repeated=False))

    async def recall(self, receipt: Receipt, now_ms: int) -> Once | None:
        self._check_open()
        known = self._records.get(receipt.name)
        return None if known is None else known.recalled(receipt, now_ms)

    def counts(self, target_ids: Sequence[str], kind: str, done: CountsDone) -> None:
        if self._is_closed:
            return done(_closed())
        find = self._targets.get
        return done(
            [
                Count(target_id, 0, 0)
                if (target := find((target_id, kind))) is None
                else Count(target_id, len(target.rows), target.version)
                for target_id in target_ids
            ]
        )

    def hearted(self, user_id: str, target_ids: Sequence[str], kind: str, done: HeartedDone) -> None:
        if self._is_closed:
            return done(_closed())
        targets = (self._targets.get((target_id, kind)) for target_id in target_ids)
        return done([target is not None and user_id in target.rows for target in targets])

    async def find(self, heart_id: str) -> Heart | None:
        self._check_open()
        row = self._by_id.get(heart_id)
        return None if row is None else _heart(row)

    async def page(
        self, *, target_id: str | None, user_id: str | None, kind: str, after: str, limit: int
    ) -> list[Heart]:
        self._check_open()
        if user_id is None:
            rows = self._target_rows(target_id, kind)
        else:
            rows = [
                row
                for row in self._by_user.get(user_id, ())
                if row.target.kind == kind and target_id in (None, row.target.target_id)
            ]
        start = bisect_right(rows, after, key=lambda row: row.id)
        return [_heart(row) for row in rows[start : start + limit]]

    def _target_rows(self, target_id: str | None, kind: str) -> list[_Row]:
        target = self._targets.get((target_id or "", kind))
        if target is None:
            return []
        if target.order is None:
            # Paging through a large target copies its list once per change, not per page.
            target.order = list(target.rows.values())
        return target.order

    async def scan(self, on_begin: Callable[[], None] = nothing) -> AsyncIterator[list[Heart]]:
        self._check_open()
        rows = list(self._by_id.values())
        on_begin()
        for start in range(0, len(rows), _SCAN_ROWS):
            yield [_heart(row) for row in rows[start : start + _SCAN_ROWS]]

    async def walk(self, after: str, limit: int) -> list[Heart]:
        self._check_open()
        rows = list(self._by_id.values())
        start = bisect_right(rows, after, key=lambda row: row.id)
        return [_heart(row) for row in rows[start : start + limit]]

    async def kinds(self) -> list[str]:
        self._check_open()
        return list({kind for _, kind in self._targets})

    async def targets(self, after: str, limit: int) -> tuple[list[tuple[str, str]], str]:
        self._check_open()
        # Targets are never forgotten, so their places in the order of making stay.
        start = int(after or "0")
        names = list(islice(self._targets, start, start + limit))
        return names, str(start + limit) if len(names) == limit else ""

    async def recount(self, target_ids: Sequence[str], kind: str) -> list[Recount]:
        self._check_open()
        found = [(target_id, self._targets.get((target_id, kind))) for target_id in target_ids]
        return [
            Recount(target_id, kind, len(target.rows), target.version, len(target.rows))
            if target
            else Recount(target_id, kind, 0, 0, 0)
            for target_id, target in found
        ]

    async def repair(self, target_id: str, kind: str, seen_count: int, seen_version: int) -> Count | None:
        # There is no second number that could be wrong: all there is to do is to compare.
        [recount] = await self.recount([target_id], kind)
        if (recount.count, recount.version) != (seen_count, seen_version):
            return None
        return Count(target_id, recount.count, recount.version)

    async def events(self, after: int, limit: int) -> EventPage:
        self._check_open()
        return EventPage("", 0, []) if self._events is None else self._events.page(after, limit)

    async def trim_events(self, before_ms: int, up_to: int) -> int:
        self._check_open()
        return 0 if self._events is None else self._events.trim(before_ms, up_to)

    async def close(self) -> None:
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise _closed()


def _change(delta: int, cause: Cause, key: HeartKey, row: _Row, target: _Target) -> Change:
    target_id, user_id, kind = key
    return Change(
        delta, cause, target_id, user_id, kind, row.id, row.created_ms, len(target.rows), target.version
    )


def _heart(row: _Row) -> Heart:
    return Heart(row.id, HeartKey(row.target.target_id, row.user_id, row.target.kind), row.created_ms)


def _closed() -> StoreUnavailable:
    return StoreUnavailable("the heart store is closed")
