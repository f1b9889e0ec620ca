"""Hearts in Redis or Valkey, one server: fast, and as durable as its append-only file.

Each heart is one script call; all calls of a tick go out in one write on one
connection. No task is made per call. All reads go to the server, since other nodes
write too.

What waits is bounded: beyond ``queue_keys`` hearts a call is answered with
``StoreUnavailable`` at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from itertools import repeat
from secrets import token_hex
from typing import Any, TypeVar

import structlog

from heartcast.backends.redis_pipe import RedisPipe, pack
from heartcast.core.clock import Clock
from heartcast.core.errors import SettingsError, StoreBusy, StoreUnavailable
from heartcast.core.ids import IdSource, is_id
from heartcast.hearts.model import (
    Cause,
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
from heartcast.hearts.options import RedisOptions
from heartcast.hearts.store import CountsDone, Done, HeartedDone, OnceDone, nothing
from heartcast.hearts.store.redis_events import EVENTS, page_of, trim
from heartcast.hearts.store.redis_receipts import ONCE, ONCE_NOTED, beginning, record_of
from heartcast.hearts.store.redis_rows import (
    ADD,
    ADD_NOTED,
    COUNTS,
    HEARTED,
    REMOVE,
    REMOVE_NOTED,
    SEPARATOR,
    Names,
    after,
    heart_of,
    heart_of_all,
)
from heartcast.hearts.store.redis_scan import Walk
from heartcast.hearts.store.redis_truth import MAX_REPAIR, RECOUNT, REPAIR, escaped

_MAX_READS = 1024
"""Reads that may wait; more would only grow older."""
_SCAN_ROWS = 2000
_SCRIPTS = (ADD, ADD_NOTED, REMOVE, REMOVE_NOTED, ONCE, ONCE_NOTED, COUNTS, HEARTED, RECOUNT, REPAIR, EVENTS)

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class _Call:
    """A write under way: its outcomes so far."""

    __slots__ = ("done", "failure", "is_add", "keys", "outcomes", "store")

    def __init__(self, store: RedisHeartStore, keys: Sequence[HeartKey], done: Done, is_add: bool) -> None:
        self.store = store
        self.keys = keys
        self.done = done
        self.is_add = is_add
        self.failure: StoreUnavailable | None = None
        self.outcomes: list[Outcome] = []

    def replied(self, reply: Any) -> None:
        """The next key's reply; they come in order."""
        key = self.keys[len(self.outcomes)]
        if isinstance(reply, StoreUnavailable):
            self.failure = reply
            self.outcomes.append(Outcome(None, 0, 0, False))
        else:
            changed, row, count, version = reply
            heart = None if row is None else heart_of(row, key)
            self.outcomes.append(Outcome(heart, count, int(version), changed == 1))
        if len(self.outcomes) == len(self.keys):
            self.store.finish(self)


class RedisHeartStore:
    """Implements ``HeartStore``. Make it on a running loop, ``open`` it, and ``close`` it there.

    Args:
        url: ``redis://…``; never logged.
        clock: Whose time is in the ids of new hearts.
        keeps_events: Whether changes write events. All nodes on one server must agree.

    Raises:
        SettingsError: the URL is not one.
    """

    is_durable = True

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        options: RedisOptions | None = None,
        keeps_events: bool = False,
    ) -> None:
        self.keeps_events = keeps_events
        self._now_ms = clock.wall_ms
        self._options = options or RedisOptions()
        self._names = Names(self._options.prefix)
        self._next_id = IdSource(clock).next
        self._pipe = RedisPipe(url, timeout_s=self._options.timeout_s, scripts=_SCRIPTS)
        self._walks: set[Walk] = set()
        self._kinds: set[str] = set()
        self._waiting_reads = 0
        self._is_closed = False
        self._is_failing = False
        self.waiting_keys = 0
        """Hearts that wait for the server now."""
        self.groups = 0
        """Calls that were answered."""
        self.failed_groups = 0
        """Calls that were answered with ``StoreUnavailable``."""
        self.refused = 0
        """Calls that found the queue full."""

    async def open(self) -> None:
        """Connect and see whether the server keeps what it is given.

        Raises:
            SettingsError: it may forget hearts, or is a cluster.
            StoreUnavailable: it cannot be reached.
        """
        await self._pipe.ask("PING")
        if self._options.check:
            await self._check()
        if self.keeps_events:
            await self._pipe.ask("SET", self._names.epoch, token_hex(8), "NX")

    async def _check(self) -> None:
        wanted = {
            "appendonly": (("yes",), "it has no append-only file; set appendonly yes"),
            "appendfsync": (("always", "everysec"), "it never syncs its file; set appendfsync everysec"),
            "maxmemory-policy": (("noeviction",), "it may evict hearts; set maxmemory-policy noeviction"),
            "cluster-enabled": (("no",), "it is a cluster; one heart touches keys of several slots"),
        }
        for name, (good, problem) in wanted.items():
            try:
                found = await self._pipe.ask("CONFIG", "GET", name)
            except StoreUnavailable as error:
                raise SettingsError(
                    f"redis does not say whether it keeps hearts ({error.detail}); "
                    "hearts.redis.check = false takes it as it is"
                ) from error
            if not found or found[1] not in good:
                raise SettingsError(f"redis cannot keep hearts: {problem}")

    # Writing

    def add(self, keys: Sequence[HeartKey], now_ms: int, done: Done) -> None:
        self._write(keys, repeat(now_ms), done, "user", is_add=True)

    def load(
        self, keys: Sequence[HeartKey], times_ms: Sequence[int], done: Done, cause: Cause = "import"
    ) -> None:
        self._write(keys, times_ms, done, cause, is_add=True)

    def remove(self, keys: Sequence[HeartKey], now_ms: int, done: Done, cause: Cause = "user") -> None:
        self._write(keys, repeat(now_ms), done, cause, is_add=False)

    def _write(
        self, keys: Sequence[HeartKey], times_ms: Any, done: Done, cause: Cause, *, is_add: bool
    ) -> None:
        waiting = self.waiting_keys + len(keys)
        if self._is_closed:
            return done(_closed())
        if waiting > self._options.queue_keys:
            self.refused += 1
            return done(StoreBusy("too many hearts wait for redis; try again"))
        self.waiting_keys = waiting
        replied = _Call(self, keys, done, is_add).replied
        names, send = self._names.of_heart, self._pipe.send
        if is_add:
            self._note_kinds(keys)
        script, noted = (ADD, ADD_NOTED) if is_add else (REMOVE, REMOVE_NOTED)
        head: tuple[str | int, ...] = ("EVALSHA", script.sha, 4)
        stream: tuple[str, ...] = ()
        event: tuple[str | int, ...] = ()
        if self.keeps_events:
            head, stream = ("EVALSHA", noted.sha, 5), (self._names.events,)
            event = (cause, self._now_ms())
        for key, created_ms in zip(keys, times_ms, strict=False):
            target_id, user_id, kind = key
            row = f"{self._next_id()}{created_ms}" if is_add else ""
            send(pack(*head, *names(key), *stream, user_id, target_id, kind, row, *event), replied)
        return None

    def once(self, receipt: Receipt, steps: Sequence[Step], now_ms: int, done: OnceDone) -> None:
        waiting = self.waiting_keys + len(steps)
        if self._is_closed:
            return done(_closed())
        if waiting > self._options.queue_keys:
            self.refused += 1
            return done(StoreBusy("too many hearts wait for redis; try again"))
        self.waiting_keys = waiting
        self._note_kinds([step.key for step in steps if step.is_add])
        keys, arguments = [self._names.receipt(receipt.name)], []
        for is_add, key in steps:
            keys += self._names.of_heart(key)
            row = f"{self._next_id()}{now_ms}" if is_add else ""
            arguments += ["1" if is_add else "0", key.user_id, key.target_id, key.kind, row]
        script = ONCE_NOTED if self.keeps_events else ONCE
        keep_ms = max(1, receipt.until_ms - now_ms)
        head = (now_ms, keep_ms, beginning(receipt, steps), self._names.events, self._now_ms())
        command = pack("EVALSHA", script.sha, len(keys), *keys, *head, *arguments)
        self._pipe.send(command, partial(self._once_done, receipt, steps, done))
        return None

    def _once_done(self, receipt: Receipt, steps: Sequence[Step], done: OnceDone, reply: Any) -> None:
        self.waiting_keys -= len(steps)
        self._note_answer(reply if isinstance(reply, StoreUnavailable) else None)
        if isinstance(reply, StoreUnavailable):
            _call(done, reply)
            return
        is_new, text = reply
        record = record_of(text, receipt.name)
        if not is_new:
            _call(done, record.answer(receipt))
            return
        for walk in self._walks:
            for step, outcome in zip(steps, record.outcomes, strict=True):
                walk.note([outcome], is_add=step.is_add)
        _call(done, Once(record.outcomes, is_repeated=False))

    async def recall(self, receipt: Receipt, now_ms: int) -> Once | None:
        self._check_open()
        text = await self._pipe.ask("GET", self._names.receipt(receipt.name))
        return None if text is None else record_of(text, receipt.name).recalled(receipt, now_ms)

    def _note_kinds(self, keys: Sequence[HeartKey]) -> None:
        # In front of the first heart of a kind, once per process: on one connection it is there first.
        for _, _, kind in keys:
            if kind not in self._kinds:
                self._kinds.add(kind)
                self._pipe.send(pack("SADD", self._names.kinds, kind), partial(self._kind_noted, kind))

    def _kind_noted(self, kind: str, reply: Any) -> None:
        if isinstance(reply, StoreUnavailable):
            self._kinds.discard(kind)

    def finish(self, call: _Call) -> None:
        """All replies of a call are there."""
        self.waiting_keys -= len(call.keys)
        for walk in self._walks:
            walk.note(call.outcomes, is_add=call.is_add)
        self._note_answer(call.failure)
        _call(call.done, call.outcomes if call.failure is None else call.failure)

    def _note_answer(self, failure: StoreUnavailable | None) -> None:
        if failure is None:
            self.groups += 1
            self._is_failing = False
        else:
            self.failed_groups += 1
            if not self._is_failing:
                self._is_failing = True
                _log.error("hearts_not_writable", detail=failure.detail)

    # Reading

    def counts(self, target_ids: Sequence[str], kind: str, done: CountsDone) -> None:
        def counted(reply: Any) -> list[Count]:
            return [
                Count(target_id, reply[2 * at], int(reply[2 * at + 1]))
                for at, target_id in enumerate(target_ids)
            ]

        keys = [self._names.members(target_id, kind) for target_id in target_ids]
        self._read(pack("EVALSHA", COUNTS.sha, len(keys), *keys), counted, done)

    def hearted(self, user_id: str, target_ids: Sequence[str], kind: str, done: HeartedDone) -> None:
        keys = [self._names.members(target_id, kind) for target_id in target_ids]
        command = pack("EVALSHA", HEARTED.sha, len(keys), *keys, user_id)
        self._read(command, lambda reply: [found == 1 for found in reply], done)

    def _read(
        self, command: bytes, render: Callable[[Any], T], done: Callable[[T | StoreUnavailable], None]
    ) -> None:
        if self._is_closed:
            return done(_closed())
        if self._waiting_reads >= _MAX_READS:
            return done(StoreBusy("too many reads wait for redis; try again"))
        self._waiting_reads += 1

        def replied(reply: Any) -> None:
            self._waiting_reads -= 1
            _call(done, reply if isinstance(reply, StoreUnavailable) else render(reply))

        self._pipe.send(command, replied)
        return None

    async def find(self, heart_id: str) -> Heart | None:
        self._check_open()
        if not is_id(heart_id):
            return None
        low, high = f"[{heart_id}", f"({heart_id}\x7f"
        found = await self._pipe.ask("ZRANGEBYLEX", self._names.all_hearts, low, high, "LIMIT", 0, 1)
        return heart_of_all(found[0]) if found else None

    async def page(
        self, *, target_id: str | None, user_id: str | None, kind: str, after: str, limit: int
    ) -> list[Heart]:
        self._check_open()
        if target_id is not None and user_id is not None:
            return await self._page_of_one(HeartKey(target_id, user_id, kind), after)
        if user_id is not None:
            members = await self._members(self._names.of_user(user_id, kind), after, limit)
            return [heart_of(row, HeartKey(target, user_id, kind)) for row, target in members]
        members = await self._members(self._names.of_target(target_id or "", kind), after, limit)
        return [heart_of(row, HeartKey(target_id or "", user, kind)) for row, user in members]

    async def _page_of_one(self, key: HeartKey, after_id: str) -> list[Heart]:
        row = await self._pipe.ask("HGET", self._names.members(key.target_id, key.kind), key.user_id)
        hearts = [] if row is None else [heart_of(row, key)]
        return [heart for heart in hearts if heart.id > after_id]

    async def _members(self, key: str, after_id: str, limit: int) -> list[tuple[str, str]]:
        found = await self._pipe.ask("ZRANGEBYLEX", key, after(after_id), "+", "LIMIT", 0, limit)
        pairs = (member.split(SEPARATOR) for member in found)
        return [(row, other) for row, other in pairs]

    # Scanning

    async def scan(self, on_begin: Callable[[], None] = nothing) -> AsyncIterator[list[Heart]]:
        self._check_open()
        walk = Walk()
        try:
            await self._begin(walk, on_begin)
            while hearts := await self._step(walk):
                if kept := walk.keep(hearts):
                    yield kept
            if rest := walk.rest():
                yield rest
        finally:
            self._walks.discard(walk)

    async def _begin(self, walk: Walk, on_begin: Callable[[], None]) -> None:
        def begin(_: Any) -> None:
            # Everything sent before is answered by now, everything after is not.
            self._walks.add(walk)
            on_begin()

        await self._pipe.ask_then(("PING",), begin)

    async def _step(self, walk: Walk) -> list[Heart]:
        def arrived(reply: Any) -> list[Heart]:
            hearts = [heart_of_all(member) for member in reply]
            if hearts:
                walk.reached = hearts[-1].id
            return hearts

        return await self._pipe.ask_then(self._all_after(walk.reached, _SCAN_ROWS), arrived)

    async def walk(self, after: str, limit: int) -> list[Heart]:
        self._check_open()
        found = await self._pipe.ask(*self._all_after(after, limit))
        return [heart_of_all(member) for member in found]

    def _all_after(self, heart_id: str, limit: int) -> tuple[str | int, ...]:
        return ("ZRANGEBYLEX", self._names.all_hearts, after(heart_id), "+", "LIMIT", 0, limit)

    # Truth

    async def kinds(self) -> list[str]:
        self._check_open()
        found: list[str] = await self._pipe.ask("SMEMBERS", self._names.kinds)
        return found

    async def targets(self, after: str, limit: int) -> tuple[list[tuple[str, str]], str]:
        self._check_open()
        stem = self._names.members("", "")[: -len(SEPARATOR)]
        reply = await self._pipe.ask("SCAN", after or "0", "MATCH", escaped(stem) + "*", "COUNT", limit)
        names = [key[len(stem) :].split(SEPARATOR) for key in reply[1]]
        return [(target_id, kind) for kind, target_id in names], "" if reply[0] == "0" else reply[0]

    async def recount(self, target_ids: Sequence[str], kind: str) -> list[Recount]:
        self._check_open()
        names = self._names
        pairs = [
            key
            for target_id in target_ids
            for key in (names.members(target_id, kind), names.of_target(target_id, kind))
        ]
        reply = await self._pipe.ask("EVALSHA", RECOUNT.sha, len(pairs), *pairs)
        return [
            Recount(target_id, kind, reply[3 * at], int(reply[3 * at + 1]), reply[3 * at + 2])
            for at, target_id in enumerate(target_ids)
        ]

    async def repair(self, target_id: str, kind: str, seen_count: int, seen_version: int) -> Count | None:
        self._check_open()
        keys = (self._names.members(target_id, kind), self._names.of_target(target_id, kind))
        reply = await self._pipe.ask("EVALSHA", REPAIR.sha, 2, *keys, seen_count, seen_version, MAX_REPAIR)
        return None if reply is None else Count(target_id, reply[0], int(reply[1]))

    # Events

    async def events(self, after: int, limit: int) -> EventPage:
        self._check_open()
        keys = (self._names.events, self._names.epoch)
        return page_of(await self._pipe.ask("EVALSHA", EVENTS.sha, 2, *keys, after + 1, limit))

    async def trim_events(self, before_ms: int, up_to: int) -> int:
        self._check_open()
        return await trim(self._pipe.ask, self._names.events, before_ms, up_to)

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        await self._pipe.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise _closed()


def _call(done: Callable[[T], None], answer: T) -> None:
    # One caller that raises must not take the answers of the others.
    try:
        done(answer)
    except Exception:
        _log.exception("hearts_answer_failed")


def _closed() -> StoreUnavailable:
    return StoreUnavailable("the heart store is closed")
