"""The inbox of one shard in Redis: everything in memory, every change written before it is answered.

Reading never asks the server: the owner of a shard loads its mailboxes when it takes over,
and nobody else changes them. Offsets are given when a group leaves for the server and put
into memory when it is there. ``heartcast.push.redis`` says how it is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from heartcast.core.errors import StoreUnavailable
from heartcast.push.inbox import Appended, Mark, Since
from heartcast.push.inbox.memory import MemoryInbox
from heartcast.push.model import Push
from heartcast.push.redis import ShardStore
from heartcast.push.rows import Box, encode, row_of


class RedisInbox:
    """Implements ``Inbox`` for the users of one shard.

    Args:
        index: The mailboxes, as they were loaded.
    """

    is_durable = True

    def __init__(self, store: ShardStore, index: MemoryInbox) -> None:
        self._store = store
        self._index = index
        self._now_ms = 0
        store.box_of = self._box

    def append(self, pushes: Sequence[Push], now_ms: int, done: Appended) -> None:
        store = self._store
        if store.is_closed:
            return done(StoreUnavailable("the inbox is closed"))
        self._now_ms = now_ms
        store.next.movers.append(partial(self._number, pushes))
        store.next.moved += pushes
        store.next.answers.append(partial(self._written, pushes, now_ms, done))
        store.begin()
        return None

    def settle(self, pushes: Iterable[Push], *, is_lost: bool, now_ms: int) -> None:
        group = self._store.next
        for push in pushes:
            box = self._index.box(push.user)
            waiting = len(box.pushes) if box else 0
            self._index.settle([push], is_lost=is_lost, now_ms=now_ms)
            if box is None or len(box.pushes) == waiting:
                continue
            group.gone.append(push)
            group.ended.append(push)
            if is_lost:
                group.boxes[push.user] = None
        self._begin()

    def since(self, user: str, mark: Mark | None, limit: int, done: Since) -> None:
        self._index.since(user, mark, limit, done)

    def page(self, user: str, after: int, limit: int, done: Since) -> None:
        self._index.page(user, after, limit, done)

    def kept(self) -> Iterable[Push]:
        return self._index.kept()

    def forget(self, now_ms: int) -> None:
        if self._store.is_writing or self._store.next.movers:
            # The group on its way counts on the mailboxes as they stand.
            return
        for user in self._index.forget_idle(now_ms):
            self._store.next.unboxed[user] = None
            self._store.next.boxes.pop(user, None)
        if self._store.next.unboxed:
            self._begin()

    async def close(self) -> None:
        await self._store.close()

    def _begin(self) -> None:
        if not self._store.is_closed and self._store.next:
            self._store.begin()

    def _box(self, user: str, top: int) -> bytes:
        box = self._index.box(user)
        if box is None:
            return encode(Box(self._index.epoch, top, 0, self._now_ms))
        return encode(Box(box.epoch, max(box.top, top), box.lost, box.changed_ms))

    def _number(self, pushes: Sequence[Push], tops: dict[str, int], inbox: list[bytes | str]) -> None:
        """The group leaves for the server: give its pushes their offsets."""
        for push in pushes:
            box = self._index.box(push.user)
            offset = tops[push.user] = tops.get(push.user, box.top if box else 0) + 1
            inbox += (push.id, row_of(push, offset))

    def _written(
        self, pushes: Sequence[Push], now_ms: int, done: Appended, error: StoreUnavailable | None
    ) -> None:
        if error is not None:
            done(error)
            return
        self._index.append(pushes, now_ms, partial(self._indexed, now_ms, done))

    def _indexed(self, now_ms: int, done: Appended, evicted: list[Push] | StoreUnavailable) -> None:
        assert isinstance(evicted, list)
        group = self._store.next
        for push in evicted:
            group.gone.append(push)
            group.ended.append(push)
            group.boxes[push.user] = None
        done(evicted)
        if evicted:
            self._begin()
