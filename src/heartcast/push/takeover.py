"""Taking over a shard: everything that Redis keeps of it, brought into memory.

First the entries that an earlier owner had read, oldest first, then what nobody has read,
then what waits for a time that is near, the mailboxes, the notes and the last records of
what ended. From the moment the epoch is ours nobody else changes any of it, except that
other nodes add to the stream, so the order of reading does not matter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from heartcast.backends.redis_pipe import RedisPipe
from heartcast.core.errors import StoreUnavailable
from heartcast.push.inbox.memory import Mailbox, MemoryInbox
from heartcast.push.inbox.redis import RedisInbox
from heartcast.push.journal import Note
from heartcast.push.journal.redis import RedisJournal
from heartcast.push.model import Push
from heartcast.push.redis import DUE, PAGE, TAKE, ShardStore
from heartcast.push.rows import box_in, end_in, note_in, row_in
from heartcast.push.templates import Templates


class Taken:
    """A shard that is ours now: its two stores, and how its pushes ended lately."""

    __slots__ = ("ended", "inbox", "journal", "last_id", "store")

    def __init__(
        self, store: ShardStore, journal: RedisJournal, inbox: RedisInbox, ended: list[Push], last_id: str
    ) -> None:
        self.store = store
        self.journal = journal
        self.inbox = inbox
        self.ended = ended
        """Oldest first."""
        self.last_id = last_id
        """The greatest id of a push that is known; "" when there is none."""


async def take_over(
    pipe: RedisPipe,
    shard: int,
    epoch: int,
    *,
    templates: Templates,
    new_epoch: Callable[[], str],
    max_pushes: int,
    max_ended: int,
    horizon_ms: int,
    prefix: str = "hc",
) -> Taken:
    """Load a shard.

    Args:
        pipe: Made with ``SCRIPTS`` and with replies in bytes.
        epoch: Of our lease on it.
        new_epoch: Makes epochs of mailboxes.
        max_pushes: Most pushes of a mailbox.
        horizon_ms: What is due after this wall time stays where it is.

    Raises:
        StoreUnavailable: the server does not answer, or the shard is another's by now.
    """
    store = ShardStore(pipe, shard, epoch, templates=templates, max_ended=max_ended, prefix=prefix)
    await _take_entries(pipe, store, epoch)
    await _read_new(store)
    waiting = await _changed(pipe, store, store.arrivals)
    store.arrivals = []
    near = await _near(pipe, store, horizon_ms)
    far = await pipe.ask("ZCARD", store.key("due")) - len(near)
    index = MemoryInbox(new_epoch, max_pushes)
    await _fill(pipe, store, index)
    notes = [
        Note(key.decode(), kept.value, kept.until_ms)
        async for key, row in _scan(pipe, store.key("notes"))
        for kept in (note_in(row),)
    ]
    ended = await _ended(pipe, store)
    known = (*near, *waiting, *index.kept(), *ended)
    last_id = max((push.id for push in known), default="")
    return Taken(
        store, RedisJournal(store, [*near, *waiting], far, notes), RedisInbox(store, index), ended, last_id
    )


async def _take_entries(pipe: RedisPipe, store: ShardStore, epoch: int) -> None:
    """What earlier owners had read."""
    cursor = b"0-0"
    while True:
        keys = (store.key("epoch"), store.key("push"))
        cursor, entries = await pipe.ask("EVALSHA", TAKE.sha, 2, *keys, epoch, cursor, PAGE)
        store.arrive(entries)
        if cursor == b"0-0":
            return


async def _read_new(store: ShardStore) -> None:
    answer: list[StoreUnavailable | None] = []
    store.next.answers.append(answer.append)
    store.poll()
    await store.written()
    if answer[0] is not None:
        raise answer[0]


async def _changed(pipe: RedisPipe, store: ShardStore, waiting: list[Push]) -> list[Push]:
    """Pushes of the stream, as they were last changed."""
    changed: list[Push] = []
    for first in range(0, len(waiting), PAGE):
        page = waiting[first : first + PAGE]
        rows = await pipe.ask("HMGET", store.key("rows"), *(push.id for push in page))
        changed += [
            push if row is None else row_in(row).push(store.templates)
            for push, row in zip(page, rows, strict=True)
        ]
    return changed


async def _near(pipe: RedisPipe, store: ShardStore, horizon_ms: int) -> list[Push]:
    near: list[Push] = []
    after: tuple[int, str] = (0, "")
    while True:
        keys = (store.key("due"), store.key("rows"))
        rows = await pipe.ask("EVALSHA", DUE.sha, 2, *keys, *after, horizon_ms, PAGE)
        near += [row_in(row).push(store.templates) for row in rows if row is not None]
        if len(rows) < PAGE:
            return near
        after = (near[-1].due_ms or 1, near[-1].id)


async def _fill(pipe: RedisPipe, store: ShardStore, index: MemoryInbox) -> None:
    rows = [row_in(row) async for _, row in _scan(pipe, store.key("inbox"))]
    rows.sort(key=lambda row: (row.user, row.offset))
    async for user, kept in _scan(pipe, store.key("boxes")):
        box = box_in(kept)
        index.open(user.decode(), Mailbox(box.epoch, box.changed_ms, box.top, box.lost))
    for row in rows:
        index.put_back(row.push(store.templates))


async def _ended(pipe: RedisPipe, store: ShardStore) -> list[Push]:
    ids = await pipe.ask("LRANGE", store.key("ends"), 0, -1)
    ended: list[Push] = []
    for first in range(0, len(ids), PAGE):
        rows = await pipe.ask("HMGET", store.key("ended"), *ids[first : first + PAGE])
        ended += [end_in(row).push(store.templates) for row in rows if row is not None]
    ended.reverse()
    return ended


async def _scan(pipe: RedisPipe, key: str) -> AsyncIterator[tuple[bytes, bytes]]:
    cursor: Any = b"0"
    seen: set[bytes] = set()
    while True:
        cursor, parts = await pipe.ask("HSCAN", key, cursor, "COUNT", PAGE)
        for field, value in zip(parts[::2], parts[1::2], strict=True):
            # A hash that grows while it is scanned gives some fields twice.
            if field not in seen:
                seen.add(field)
                yield field, value
        if cursor == b"0":
            return
