"""Streams in SQLite: one file, one thread that owns it, one commit for all that waits.

Each call is a function that is given the connection on that thread; a group of them is one
transaction. A function that refuses has written nothing that anybody misses, so that its
neighbours are not undone with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from heartcast.backends.sqlite import FileLock, GroupThread, Schema, Tuning, open_writer, unavailable
from heartcast.core.clock import Clock
from heartcast.core.errors import HeartcastError, Overloaded, StoreUnavailable
from heartcast.streams import Entry, Group
from heartcast.streams.entry_id import FIRST, EntryId, next_id, parse
from heartcast.streams.options import StreamOptions
from heartcast.streams.refusals import fingerprint, key_reused, stream_full, streams_full

FILE_NAME = "streams.db"
MAX_WAITING = 10_000
"""Calls that may wait for the thread; more are refused."""

SCHEMA = Schema(
    application_id=0x68635354,
    version=1,
    script="""
        CREATE TABLE entry (
            topic TEXT NOT NULL, ms INTEGER NOT NULL, n INTEGER NOT NULL, data BLOB NOT NULL,
            PRIMARY KEY (topic, ms, n)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE top (
            topic TEXT NOT NULL PRIMARY KEY, ms INTEGER NOT NULL, n INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE reader (
            topic TEXT NOT NULL, name TEXT NOT NULL, ms INTEGER NOT NULL, n INTEGER NOT NULL,
            PRIMARY KEY (topic, name)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE pending (
            topic TEXT NOT NULL, name TEXT NOT NULL, ms INTEGER NOT NULL, n INTEGER NOT NULL,
            at_ms INTEGER NOT NULL, deliveries INTEGER NOT NULL,
            PRIMARY KEY (topic, name, ms, n)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX pending_at ON pending (topic, name, at_ms);
        CREATE TABLE once (
            topic TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, id TEXT NOT NULL,
            until_ms INTEGER NOT NULL, PRIMARY KEY (topic, key)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX once_until ON once (until_ms)
    """,
)
_FLOOR = """
    SELECT ms, n FROM (
        SELECT ms, n FROM pending WHERE topic = ?1
        UNION ALL SELECT ms, n + 1 FROM reader WHERE topic = ?1
    ) ORDER BY ms, n LIMIT 1
"""
_AGAIN = """
    SELECT ms, n, data, deliveries + 1 FROM pending JOIN entry USING (topic, ms, n)
    WHERE topic = ? AND name = ? AND at_ms <= ? ORDER BY ms, n LIMIT ?
"""
_NEW = """
    SELECT ms, n, data, 1 FROM entry WHERE topic = ? AND (ms, n) > (?, ?) ORDER BY ms, n LIMIT ?
"""
_GROUPS = """
    SELECT name,
        (SELECT count(*) FROM pending WHERE topic = reader.topic AND name = reader.name),
        (SELECT count(*) FROM entry WHERE topic = reader.topic AND (ms, n) > (reader.ms, reader.n))
    FROM reader WHERE topic = ? ORDER BY name
"""

Ask = Callable[[sqlite3.Connection], Any]


class _Question(NamedTuple):
    ask: Ask
    answer: asyncio.Future[Any]


class _Count:
    """What is known of a stream without asking."""

    __slots__ = ("entries", "last", "oldest_ms")

    def __init__(self, entries: int, last: EntryId, oldest_ms: int) -> None:
        self.entries = entries
        self.last = last
        self.oldest_ms = oldest_ms
        """Not later than the oldest entry's; it may be earlier."""


class SqliteStreamStore:
    """Implements ``StreamStore``. Made by ``open_store``."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        lock: FileLock,
        options: StreamOptions,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._connection = connection
        self._lock = lock
        self._options = options
        self._clock = clock
        self._loop = loop
        self._counts = _counts(connection)
        self._is_stale = False
        self._waiting = 0
        self._is_closed = False
        self._thread = GroupThread("heartcast-streams", loop, self._run)

    async def publish(self, topic: str, data: bytes, key: str = "") -> str:
        return str(await self._ask(partial(self._publish, topic, data, key)))

    async def read(self, topic: str, group: str, count: int) -> list[Entry]:
        entries: list[Entry] = await self._ask(partial(self._read, topic, group, count))
        return entries

    async def ack(self, topic: str, group: str, ids: Sequence[str]) -> int:
        wanted = [parse(id_) for id_ in dict.fromkeys(ids)]

        def ask(connection: sqlite3.Connection) -> int:
            return connection.executemany(
                "DELETE FROM pending WHERE topic = ? AND name = ? AND ms = ? AND n = ?",
                [(topic, group, *id_) for id_ in wanted],
            ).rowcount

        return int(await self._ask(ask)) if wanted else 0

    async def look(self, topic: str) -> tuple[int, list[Group]]:
        def ask(connection: sqlite3.Connection) -> tuple[int, list[Group]]:
            count = self._counts.get(topic)
            groups = [Group(*row) for row in connection.execute(_GROUPS, (topic,))]
            return (count.entries if count else 0), groups

        found: tuple[int, list[Group]] = await self._ask(ask)
        return found

    async def forget(self, topic: str, group: str) -> bool:
        def ask(connection: sqlite3.Connection) -> bool:
            connection.execute("DELETE FROM pending WHERE topic = ? AND name = ?", (topic, group))
            gone = connection.execute("DELETE FROM reader WHERE topic = ? AND name = ?", (topic, group))
            return gone.rowcount > 0

        return bool(await self._ask(ask))

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        await self._thread.stop()
        self._connection.close()
        self._lock.close()

    async def _ask(self, ask: Ask) -> Any:
        if self._is_closed:
            raise StoreUnavailable("the streams are closed")
        if self._waiting >= MAX_WAITING:
            raise Overloaded("too many calls wait for the streams' file", code="streams_full")
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._waiting += 1
        self._thread.submit(_Question(ask, answer))
        return await answer

    # ── on the thread ────────────────────────────────────────────────────────

    def _run(self, questions: list[_Question]) -> Callable[[], None]:
        try:
            if self._is_stale:
                self._counts, self._is_stale = _counts(self._connection), False
            self._connection.execute("BEGIN IMMEDIATE")
            answers = [self._answered(question.ask) for question in questions]
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            # What was counted on the way did not happen.
            self._is_stale = True
            answers = [unavailable(error)] * len(questions)
        return partial(self._tell, questions, answers)

    def _answered(self, ask: Ask) -> Any:
        try:
            return ask(self._connection)
        except HeartcastError as refusal:
            return refusal

    def _publish(self, topic: str, data: bytes, key: str, connection: sqlite3.Connection) -> str:
        now_ms = self._clock.wall_ms()
        if key:
            known = connection.execute(
                "SELECT fingerprint, id FROM once WHERE topic = ? AND key = ? AND until_ms > ?",
                (topic, key, now_ms),
            ).fetchone()
            if known is not None:
                if known[0] != fingerprint(data):
                    raise key_reused()
                return str(known[1])
        count = self._count(topic)
        self._make_room(connection, topic, count, now_ms)
        id_ = next_id(count.last, now_ms)
        connection.execute("INSERT INTO entry VALUES (?, ?, ?, ?)", (topic, *id_, data))
        connection.execute("INSERT OR REPLACE INTO top VALUES (?, ?, ?)", (topic, *id_))
        if key:
            until_ms = now_ms + round(self._options.keep_keys_s * 1000)
            connection.execute("DELETE FROM once WHERE until_ms <= ?", (now_ms,))
            connection.execute(
                "INSERT OR REPLACE INTO once VALUES (?, ?, ?, ?, ?)",
                (topic, key, fingerprint(data), str(id_), until_ms),
            )
        count.entries, count.last = count.entries + 1, id_
        return str(id_)

    def _make_room(self, connection: sqlite3.Connection, topic: str, count: _Count, now_ms: int) -> None:
        oldest_ms = now_ms - round(self._options.keep_s * 1000)
        if count.oldest_ms < oldest_ms:
            self._drop(connection, topic, count, EntryId(oldest_ms, 0))
            count.oldest_ms = oldest_ms
        if count.entries >= self._options.max_entries:
            floor = connection.execute(_FLOOR, (topic,)).fetchone()
            if floor is not None:
                self._drop(connection, topic, count, EntryId(*floor))
        if count.entries >= self._options.max_entries:
            raise stream_full(topic)

    def _drop(self, connection: sqlite3.Connection, topic: str, count: _Count, floor: EntryId) -> None:
        gone = connection.execute("DELETE FROM entry WHERE topic = ? AND (ms, n) < (?, ?)", (topic, *floor))
        connection.execute("DELETE FROM pending WHERE topic = ? AND (ms, n) < (?, ?)", (topic, *floor))
        count.entries -= gone.rowcount

    def _read(self, topic: str, group: str, count: int, connection: sqlite3.Connection) -> list[Entry]:
        now_ms = self._clock.wall_ms()
        self._count(topic)
        connection.execute("INSERT OR IGNORE INTO reader VALUES (?, ?, ?, ?)", (topic, group, *FIRST))
        idle_ms = round(self._options.idle_s * 1000)
        rows = connection.execute(_AGAIN, (topic, group, now_ms - idle_ms, count)).fetchall()
        if left := count - len(rows):
            last = connection.execute(
                "SELECT ms, n FROM reader WHERE topic = ? AND name = ?", (topic, group)
            ).fetchone()
            new = connection.execute(_NEW, (topic, *last, left)).fetchall()
            if new:
                connection.execute(
                    "UPDATE reader SET ms = ?, n = ? WHERE topic = ? AND name = ?",
                    (*new[-1][:2], topic, group),
                )
            rows += new
        connection.executemany(
            "INSERT OR REPLACE INTO pending VALUES (?, ?, ?, ?, ?, ?)",
            [(topic, group, ms, n, now_ms, deliveries) for ms, n, _, deliveries in rows],
        )
        return [Entry(f"{ms}-{n}", data, deliveries) for ms, n, data, deliveries in rows]

    def _count(self, topic: str) -> _Count:
        count = self._counts.get(topic)
        if count is None:
            if len(self._counts) >= self._options.max_streams:
                raise streams_full()
            count = self._counts[topic] = _Count(0, FIRST, self._clock.wall_ms())
        return count

    # ── on the loop ──────────────────────────────────────────────────────────

    def _tell(self, questions: list[_Question], answers: list[Any]) -> None:
        self._waiting -= len(questions)
        for question, answer in zip(questions, answers, strict=True):
            # A reader that hung up waits for nothing; what it was given comes again.
            if question.answer.done():
                continue
            if isinstance(answer, HeartcastError):
                question.answer.set_exception(answer)
            else:
                question.answer.set_result(answer)


def _counts(connection: sqlite3.Connection) -> dict[str, _Count]:
    counts = {topic: _Count(0, EntryId(ms, n), 0) for topic, ms, n in connection.execute("SELECT * FROM top")}
    for topic, entries in connection.execute("SELECT topic, count(*) FROM entry GROUP BY topic"):
        counts[topic].entries = entries
    for (topic,) in connection.execute("SELECT DISTINCT topic FROM reader"):
        counts.setdefault(topic, _Count(0, FIRST, 0))
    return counts


def open_store(
    path: Path, options: StreamOptions, clock: Clock, loop: asyncio.AbstractEventLoop
) -> SqliteStreamStore:
    """Open or make the file; ``close`` it at the end.

    Raises:
        SettingsError: the file is locked, damaged, not writable or of another program.
    """
    lock = FileLock(path)
    try:
        connection = open_writer(path, SCHEMA, Tuning(cache_bytes=16 << 20))
    except BaseException:
        lock.close()
        raise
    return SqliteStreamStore(connection, lock, options, clock, loop)
