"""Hearts in PostgreSQL: the durable store that several nodes share.

Writes go to one task that commits whatever waits as one transaction on one connection
and answers after the commit. Counts and memberships asked in the meantime share one
statement on another; lists have a few connections of their own. All reads go to the
server, since other nodes write too.

What waits is bounded: beyond ``queue_keys`` hearts a call is answered with
``StoreUnavailable`` at once. A failed transaction fails exactly the calls of its group;
a connection that is lost is opened again when the next group comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from heartcast.backends import postgres
from heartcast.backends.groups import GroupTask
from heartcast.backends.postgres import FAILURES, Connection
from heartcast.core.clock import Clock
from heartcast.core.errors import SettingsError, StoreBusy, StoreUnavailable
from heartcast.core.ids import IdSource, is_id
from heartcast.hearts.model import Cause, Count, EventPage, Heart, HeartKey, Once, Receipt, Recount, Step
from heartcast.hearts.options import PostgresOptions
from heartcast.hearts.store import (
    CountsDone,
    Done,
    HeartedDone,
    OnceDone,
    nothing,
    postgres_events,
    postgres_reader,
    postgres_receipts,
    postgres_truth,
)
from heartcast.hearts.store.grouped import Write
from heartcast.hearts.store.postgres_link import Link, Links
from heartcast.hearts.store.postgres_questions import Question, Questions
from heartcast.hearts.store.postgres_replica import Replica
from heartcast.hearts.store.postgres_writer import MIGRATIONS, Writer

_MAX_READS = 1024
"""Reads that may wait; more would only grow older."""
_GROUP_READS = 4096
"""Targets asked for in one statement."""
_SCAN_ROWS = 2000

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class _Begin:
    """A scan's place in the queue of writes."""

    __slots__ = ("begun", "connection", "on_begin")

    def __init__(self, connection: Connection, on_begin: Callable[[], None]) -> None:
        self.connection = connection
        self.on_begin = on_begin
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class PostgresHeartStore:
    """Implements ``HeartStore``. Make it on a running loop, ``open`` it, and ``close`` it there.

    Args:
        dsn: ``postgresql://…``; never logged.
        clock: Whose time is in the ids of new hearts.
        keeps_events: Whether changes write events. All nodes on one database must agree.
    """

    is_durable = True

    def __init__(
        self,
        dsn: str,
        *,
        clock: Clock,
        options: PostgresOptions | None = None,
        keeps_events: bool = False,
    ) -> None:
        self.keeps_events = keeps_events
        self._options = options or PostgresOptions()
        self._dsn = dsn
        self._writing = Link(dsn, self._options.timeout_s)
        self._asking = Link(dsn, self._options.timeout_s)
        self._listing = Links(dsn, self._options.timeout_s, self._options.readers)
        self._writer = Writer(IdSource(clock).next, clock.wall_ms, keeps_events=keeps_events)
        self.replica = Replica(dsn, self._options) if self._options.replica_dsn else None
        """None: there is none."""
        self._asked_replica: GroupTask[Question] = GroupTask(
            "hearts-replica-read", self._answer_by_replica, lambda question: len(question.keys), _GROUP_READS
        )
        self._writes: GroupTask[Write | _Begin] = GroupTask(
            "hearts-write", self._handle, _weight, self._options.group_keys
        )
        self._questions: GroupTask[Question] = GroupTask(
            "hearts-read", self._answer, lambda question: len(question.keys), _GROUP_READS
        )
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

    async def open(self) -> None:
        """Connect and look at the schema.

        Raises:
            SettingsError: the server refuses us, or the schema is not the one of this release.
            StoreUnavailable: the server cannot be reached.
        """
        async with self._asking.use() as connection:
            await postgres.check(connection, MIGRATIONS)

    # Writing

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
        self._check_open()
        known = await self._listing.ask(lambda connection: postgres_receipts.known(connection, receipt.name))
        return None if known is None else known.recalled(receipt, now_ms)

    def _submit(self, write: Write) -> None:
        waiting = self.waiting_keys + len(write.keys)
        if self._is_closed:
            write.done(_closed())
        elif waiting > self._options.queue_keys:
            self.refused += 1
            write.done(StoreBusy("too many hearts wait for the database; try again"))
        else:
            self.waiting_keys = waiting
            self._writes.submit(write)

    async def _handle(self, items: list[Write | _Begin]) -> None:
        writes: list[Write] = []
        for item in items:
            if isinstance(item, Write):
                writes.append(item)
            else:
                await self._commit(writes)
                writes = []
                await self._begin(item)
        await self._commit(writes)

    async def _commit(self, writes: list[Write]) -> None:
        if not writes:
            return
        try:
            async with self._writing.use() as connection:
                outcomes = await self._writer.apply(connection, writes)
        except (StoreUnavailable, SettingsError) as error:
            self._fail(writes, StoreUnavailable(error.detail))
        except Exception as error:
            # A fault of ours must fail one group, not end the task that all others wait for.
            _log.exception("hearts_write_fault")
            self._fail(writes, _faulty(error))
        else:
            self.groups += 1
            if self.replica is not None:
                self.replica.note(key for write in writes for key in write.keys)
            if self._is_failing:
                self._is_failing = False
                _log.info("hearts_writable_again")
            for write, results in zip(writes, outcomes, strict=True):
                self.waiting_keys -= len(write.keys)
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
        by_replica = self.replica is not None and self.replica.may_tell(None, target_ids, kind)
        self._ask(Questions.counts(target_ids, kind, done), by_replica=by_replica)

    def hearted(self, user_id: str, target_ids: Sequence[str], kind: str, done: HeartedDone) -> None:
        by_replica = self.replica is not None and self.replica.may_tell(user_id, target_ids, kind)
        self._ask(Questions.hearted(user_id, target_ids, kind, done), by_replica=by_replica)

    def _ask(self, question: Question, *, by_replica: bool) -> None:
        if self._is_closed:
            question.done(_closed())
        elif self._waiting_reads >= _MAX_READS:
            question.done(StoreBusy("too many reads wait for the database; try again"))
        else:
            self._waiting_reads += 1
            (self._asked_replica if by_replica else self._questions).submit(question)

    async def _answer_by_replica(self, questions: list[Question]) -> None:
        assert self.replica is not None
        answers = await self.replica.answer(lambda connection: Questions.answers(connection, questions))
        if answers is None:
            await self._answer(questions)
        else:
            self._tell(questions, answers)

    async def _answer(self, questions: list[Question]) -> None:
        answers: list[object]
        try:
            async with self._asking.use() as connection:
                answers = await Questions.answers(connection, questions)
        except (StoreUnavailable, SettingsError) as error:
            answers = [StoreUnavailable(error.detail)] * len(questions)
        except Exception as error:
            _log.exception("hearts_read_fault")
            answers = [_faulty(error)] * len(questions)
        self._tell(questions, answers)

    def _tell(self, questions: list[Question], answers: list[object]) -> None:
        self._waiting_reads -= len(questions)
        for question, answer in zip(questions, answers, strict=True):
            _call(question.done, answer)

    async def find(self, heart_id: str) -> Heart | None:
        self._check_open()
        if not is_id(heart_id):
            return None
        return await self._listing.ask(lambda connection: postgres_reader.find(connection, heart_id))

    async def page(
        self, *, target_id: str | None, user_id: str | None, kind: str, after: str, limit: int
    ) -> list[Heart]:
        self._check_open()

        def query(connection: Connection) -> Awaitable[list[Heart]]:
            return postgres_reader.page(
                connection, target_id=target_id, user_id=user_id, kind=kind, after=after, limit=limit
            )

        targets = () if target_id is None else (target_id,)
        if self.replica is not None and self.replica.may_tell(user_id, targets, kind):
            found = await self.replica.list(query)
            if found is not None:
                return found
        return await self._listing.ask(query)

    async def walk(self, after: str, limit: int) -> list[Heart]:
        self._check_open()
        return await self._listing.ask(lambda connection: postgres_reader.walk(connection, after, limit))

    # Scanning: a transaction sees one moment, and that is between two groups of our writes.

    async def scan(self, on_begin: Callable[[], None] = nothing) -> AsyncIterator[list[Heart]]:
        self._check_open()
        connection = await postgres.connect(self._dsn, timeout_s=self._options.timeout_s)
        try:
            begin = _Begin(connection, on_begin)
            self._check_open()
            self._writes.submit(begin)
            await begin.begun
            cursor = await connection.cursor(postgres_reader.HEARTS)
            while rows := await cursor.fetch(_SCAN_ROWS):
                yield [postgres_reader.heart(row) for row in rows]
        except FAILURES as error:
            raise postgres.unavailable(error, self._dsn) from None
        finally:
            connection.terminate()

    async def _begin(self, begin: _Begin) -> None:
        if begin.begun.done():
            return
        try:
            await begin.connection.transaction(isolation="repeatable_read", readonly=True).start()
            # A transaction sees the moment of its first statement.
            await begin.connection.execute("SELECT FROM heartcast_target LIMIT 1")
            if not begin.begun.done():
                begin.on_begin()
        except Exception as error:
            failure = postgres.unavailable(error, self._dsn) if isinstance(error, FAILURES) else error
            if not begin.begun.done():
                begin.begun.set_exception(failure)
        else:
            if not begin.begun.done():
                begin.begun.set_result(None)

    # Truth

    async def kinds(self) -> list[str]:
        self._check_open()
        return await self._listing.ask(postgres_truth.kinds)

    async def targets(self, after: str, limit: int) -> tuple[list[tuple[str, str]], str]:
        self._check_open()
        return await self._listing.ask(lambda connection: postgres_truth.targets(connection, after, limit))

    async def recount(self, target_ids: Sequence[str], kind: str) -> list[Recount]:
        self._check_open()
        return await self._listing.ask(
            lambda connection: postgres_truth.recount(connection, target_ids, kind)
        )

    async def repair(self, target_id: str, kind: str, seen_count: int, seen_version: int) -> Count | None:
        self._check_open()
        return await self._listing.ask(
            lambda connection: postgres_truth.repair(connection, target_id, kind, seen_count, seen_version)
        )

    # Events

    async def events(self, after: int, limit: int) -> EventPage:
        self._check_open()
        return await self._listing.ask(lambda connection: postgres_events.page(connection, after, limit))

    async def trim_events(self, before_ms: int, up_to: int) -> int:
        self._check_open()
        return await self._listing.ask(lambda connection: postgres_events.trim(connection, before_ms, up_to))

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        await self._writes.stop()
        await self._asked_replica.stop()
        await self._questions.stop()
        if self.replica is not None:
            await self.replica.close()
        await self._writing.close()
        await self._asking.close()
        await self._listing.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise _closed()


def _weight(item: Write | _Begin) -> int:
    return len(item.keys) if isinstance(item, Write) else 1


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
