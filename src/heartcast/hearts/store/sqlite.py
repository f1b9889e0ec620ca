"""Hearts in SQLite: the durable store of one machine.

Writes go to one thread that commits whatever waits as one transaction and answers
after the commit. Reads have a thread and a connection of their own. Counts are mostly
answered on the event loop itself: this process is the only writer, so the last
outcome it saw of a target *is* the target's count.

What waits is bounded: beyond ``queue_keys`` hearts a call is answered with
``StoreUnavailable`` at once. A failed commit fails exactly the calls of its group.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog

from heartcast.backends.sqlite import FileLock, GroupThread, Tuning, open_reader, open_writer, unavailable
from heartcast.core.clock import Clock
from heartcast.core.errors import StoreBusy, StoreUnavailable
from heartcast.core.ids import IdSource, is_id
from heartcast.hearts.model import (
    Cause,
    Count,
    EventPage,
    Heart,
    HeartKey,
    Once,
    Receipt,
    Recount,
    Step,
)
from heartcast.hearts.options import SqliteOptions
from heartcast.hearts.store import (
    CountsDone,
    Done,
    HeartedDone,
    OnceDone,
    nothing,
    sqlite_events,
    sqlite_reader,
    sqlite_receipts,
    sqlite_truth,
)
from heartcast.hearts.store.awaiting import result_of
from heartcast.hearts.store.grouped import Result, Write
from heartcast.hearts.store.sqlite_alone import Alone
from heartcast.hearts.store.sqlite_counts import KnownCounts
from heartcast.hearts.store.sqlite_rows import SCHEMA
from heartcast.hearts.store.sqlite_snapshot import Snapshot
from heartcast.hearts.store.sqlite_writer import Writer

FILE_NAME = "hearts.db"
"""Of the database in the data folder."""

_MAX_READS = 1024
"""Reads that may wait; more would only grow older."""
_SCAN_ROWS = 2000

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class _Read:
    __slots__ = ("done", "query")

    def __init__(
        self,
        query: Callable[[sqlite3.Connection], object],
        done: Callable[[object], None],
    ) -> None:
        self.query = query
        self.done = done


class SqliteHeartStore:
    """Implements ``HeartStore``. Make it on a running event loop; ``close`` it there.

    Args:
        path: The database, made with its folder when it is not there.
        clock: Whose time is in the ids of new hearts.
        keeps_events: Whether changes write events.

    Raises:
        SettingsError: another process has it, or it is locked, corrupt, not writable,
            of another program or written by a newer release.
    """

    is_durable = True

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        options: SqliteOptions | None = None,
        keeps_events: bool = False,
    ) -> None:
        options = options or SqliteOptions()
        self.keeps_events = keeps_events
        tuning = Tuning(
            synchronous=options.synchronous,
            cache_bytes=options.cache_mb << 20,
            checkpoint_bytes=options.checkpoint_pages * 4096,
            busy_s=options.busy_s,
        )
        self._path, self._tuning = path, tuning
        self._lock = FileLock(path)
        try:
            self._connection = open_writer(path, SCHEMA, tuning)
            self._read_connection = open_reader(path, tuning)
            self._writer = Writer(self._connection, IdSource(clock), clock.wall_ms, keeps_events=keeps_events)
        except BaseException:
            self._lock.close()
            raise
        self._max_keys = options.queue_keys
        loop = asyncio.get_running_loop()
        self._writes = GroupThread("hearts-write", loop, self._handle)
        self._reads = GroupThread("hearts-read", loop, self._answer)
        self._snapshots: set[Snapshot] = set()
        self._known = KnownCounts()
        self._waiting_reads = 0
        self._is_closed = False
        self._is_failing = False
        self.waiting_keys = 0
        """Hearts that wait for a commit now."""
        self.groups = 0
        """Transactions committed."""
        self.failed_groups = 0
        """Transactions that failed; their calls were answered with ``StoreUnavailable``."""
        self.refused = 0
        """Calls that found the queue full."""

    # Writing: on the loop

    def add(self, keys: Sequence[HeartKey], now_ms: int, done: Done) -> None:
        self._submit(Write(True, keys, now_ms, done))

    def load(
        self, keys: Sequence[HeartKey], times_ms: Sequence[int], done: Done, cause: Cause = "import"
    ) -> None:
        self._submit(Write(True, keys, 0, done, cause, times_ms))

    def remove(self, keys: Sequence[HeartKey], now_ms: int, done: Done, cause: Cause = "user") -> None:
        self._submit(Write(False, keys, now_ms, done, cause))

    def once(self, receipt: Receipt, steps: Sequence[Step], now_ms: int, done: OnceDone) -> None:
        self._submit(Write.once(receipt, steps, now_ms, done))

    async def recall(self, receipt: Receipt, now_ms: int) -> Once | None:
        known = await self._result(lambda connection: sqlite_receipts.find(connection, [receipt.name]))
        return known[receipt.name].recalled(receipt, now_ms) if known else None

    def _submit(self, write: Write) -> None:
        waiting = self.waiting_keys + len(write.keys)
        if self._is_closed:
            write.done(_closed())
        elif waiting > self._max_keys:
            self.refused += 1
            write.done(StoreBusy("too many hearts wait for the disk; try again"))
        else:
            self.waiting_keys = waiting
            self._writes.submit(write)

    # On the writer's thread

    def _handle(self, items: list[Write | Snapshot | Alone[Any]]) -> Callable[[], None]:
        writes = [item for item in items if isinstance(item, Write)]
        deliver = self._commit(writes) if writes else nothing
        if len(writes) == len(items):
            return deliver
        others = [item for item in items if not isinstance(item, Write)]
        for item in others:
            if isinstance(item, Snapshot):
                item.open(self._path, self._tuning)
            else:
                item.work(self._connection)

        def deliver_and_go_on() -> None:
            deliver()
            for item in others:
                item.begin() if isinstance(item, Snapshot) else item.tell()

        return deliver_and_go_on

    def _commit(self, writes: list[Write]) -> Callable[[], None]:
        try:
            outcomes = self._writer.apply(writes)
        except sqlite3.Error as error:
            failure = unavailable(error)
        except Exception as error:
            # A fault of ours must fail one group, not end the thread that all others wait for.
            _log.exception("hearts_write_fault")
            failure = _faulty(error)
        else:
            return lambda: self._deliver(writes, outcomes)
        return lambda: self._fail(writes, failure)

    # On the loop again

    def _deliver(self, writes: list[Write], outcomes: list[Result]) -> None:
        self.groups += 1
        if self._is_failing:
            self._is_failing = False
            _log.info("hearts_writable_again")
        known = self._known
        known.make_room()
        for write, results in zip(writes, outcomes, strict=True):
            self.waiting_keys -= len(write.keys)
            if isinstance(results, list):
                known.note(write.keys, results)
            elif isinstance(results, Once) and not results.is_repeated:
                known.note(write.keys, results.outcomes)
            _call(write.done, results)

    def _fail(self, writes: list[Write], failure: StoreUnavailable) -> None:
        self.failed_groups += 1
        if not self._is_failing:
            self._is_failing = True
            _log.error("hearts_not_writable", detail=failure.detail)
        for write in writes:
            self.waiting_keys -= len(write.keys)
            _call(write.done, failure)

    # Reading

    def counts(self, target_ids: Sequence[str], kind: str, done: CountsDone) -> None:
        known = self._known.find(target_ids, kind)
        if known is None:
            self._read_counts(target_ids, kind, done)
        else:
            done(_closed() if self._is_closed else known)

    def _read_counts(self, target_ids: Sequence[str], kind: str, done: CountsDone) -> None:
        known = self._known
        forgets = known.forgets

        def remember(read: list[Count] | StoreUnavailable) -> None:
            if isinstance(read, list):
                # Commits may have been answered since this was read: the later version counts.
                read = [known.latest(count, kind, may_keep=forgets == known.forgets) for count in read]
            done(read)

        self._read(lambda connection: sqlite_reader.counts(connection, target_ids, kind), remember)

    def hearted(self, user_id: str, target_ids: Sequence[str], kind: str, done: HeartedDone) -> None:
        self._read(lambda connection: sqlite_reader.hearted(connection, user_id, target_ids, kind), done)

    async def find(self, heart_id: str) -> Heart | None:
        if not is_id(heart_id):
            return None
        return await self._result(lambda connection: sqlite_reader.find(connection, heart_id))

    async def page(
        self, *, target_id: str | None, user_id: str | None, kind: str, after: str, limit: int
    ) -> list[Heart]:
        return await self._result(
            lambda connection: sqlite_reader.page(
                connection, target_id=target_id, user_id=user_id, kind=kind, after=after, limit=limit
            )
        )

    async def scan(self, on_begin: Callable[[], None] = nothing) -> AsyncIterator[list[Heart]]:
        if self._is_closed:
            raise _closed()
        snapshot = Snapshot(on_begin)
        self._snapshots.add(snapshot)
        self._writes.submit(snapshot)
        try:
            connection = await snapshot.begun
            after = ""
            while hearts := await self._result(_scanning(connection, after)):
                yield hearts
                after = hearts[-1].id
        finally:
            self._release(snapshot)

    async def walk(self, after: str, limit: int) -> list[Heart]:
        return await self._result(lambda connection: sqlite_reader.scan(connection, after, limit))

    def _release(self, snapshot: Snapshot) -> None:
        # In the reader's queue, as a query of a scan that was cancelled may still run.
        # A closed store closes all snapshots itself, when its threads have ended.
        if not self._is_closed:
            self._snapshots.discard(snapshot)
            self._reads.submit(_Read(lambda _: snapshot.close(), _ignore))
            self._waiting_reads += 1

    async def _result(self, query: Callable[[sqlite3.Connection], T]) -> T:
        def start(done: Callable[[T | StoreUnavailable], None]) -> None:
            self._read(query, done)

        return await result_of(start)

    def _read(
        self, query: Callable[[sqlite3.Connection], T], done: Callable[[T | StoreUnavailable], None]
    ) -> None:
        if self._is_closed:
            done(_closed())
        elif self._waiting_reads >= _MAX_READS:
            done(StoreBusy("too many reads wait for the database; try again"))
        else:
            self._waiting_reads += 1
            self._reads.submit(_Read(query, done))  # type: ignore[arg-type]  # done takes what query gives

    def _answer(self, reads: list[_Read]) -> Callable[[], None]:
        answers = [self._query(read) for read in reads]

        def deliver() -> None:
            self._waiting_reads -= len(reads)
            for read, answer in zip(reads, answers, strict=True):
                _call(read.done, answer)

        return deliver

    def _query(self, read: _Read) -> object:
        try:
            return read.query(self._read_connection)
        except sqlite3.Error as error:
            return unavailable(error)
        except Exception as error:
            _log.exception("hearts_read_fault")
            return _faulty(error)

    async def offer(self, keys: Sequence[HeartKey], times_ms: Sequence[int]) -> int:
        """``load`` for imports that do not ask for outcomes: 1 to 20,000 hearts in one transaction.

        Returns:
            How many were not there before.

        Raises:
            StoreUnavailable: nothing was written, or it is not known.
        """

        def start(done: Callable[[int | StoreUnavailable], None]) -> None:
            def offered(added: int | StoreUnavailable) -> None:
                self._known.forget()
                done(added)

            self._alone(lambda _: self._writer.offer(keys, times_ms), offered)

        return await result_of(start)

    # Truth

    async def kinds(self) -> list[str]:
        return await self._result(sqlite_truth.kinds)

    async def targets(self, after: str, limit: int) -> tuple[list[tuple[str, str]], str]:
        return await self._result(lambda connection: sqlite_truth.targets(connection, after, limit))

    async def recount(self, target_ids: Sequence[str], kind: str) -> list[Recount]:
        return await self._result(lambda connection: sqlite_truth.recount(connection, target_ids, kind))

    async def repair(self, target_id: str, kind: str, seen_count: int, seen_version: int) -> Count | None:
        def run(connection: sqlite3.Connection) -> Count | None:
            count = sqlite_truth.repair(connection, target_id, kind, seen_count, seen_version)
            self._writer.forget()
            return count

        def start(done: Callable[[Count | StoreUnavailable | None], None]) -> None:
            def repaired(count: Count | StoreUnavailable | None) -> None:
                if isinstance(count, Count):
                    self._known.set(count, kind)
                done(count)

            self._alone(run, repaired)

        return await result_of(start)

    # Events

    async def events(self, after: int, limit: int) -> EventPage:
        return await self._result(lambda connection: sqlite_events.page(connection, after, limit))

    async def trim_events(self, before_ms: int, up_to: int) -> int:
        def start(done: Callable[[int | StoreUnavailable], None]) -> None:
            self._alone(lambda connection: sqlite_events.trim(connection, before_ms, up_to), done)

        return await result_of(start)

    def _alone(
        self, run: Callable[[sqlite3.Connection], T], done: Callable[[T | StoreUnavailable], None]
    ) -> None:
        if self._is_closed:
            done(_closed())
        else:
            self._writes.submit(Alone(run, done))

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        await self._writes.stop()
        await self._reads.stop()
        for snapshot in self._snapshots:
            snapshot.close()
        self._read_connection.close()
        self._connection.close()
        self._lock.close()


def _scanning(scanned: sqlite3.Connection, after: str) -> Callable[[sqlite3.Connection], list[Heart]]:
    return lambda _: sqlite_reader.scan(scanned, after, _SCAN_ROWS)


def _ignore(_: object) -> None:
    return None


def _call(done: Callable[[T], None], answer: T) -> None:
    # One caller that raises must not take the answers of the others in its group.
    try:
        done(answer)
    except Exception:
        _log.exception("hearts_answer_failed")


def _faulty(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"the heart store failed: {type(error).__name__}")


def _closed() -> StoreUnavailable:
    return StoreUnavailable("the heart store is closed")
