"""The inbox in SQLite: everything in memory, every change on disk before it is answered.

Reading never touches the disk: the file is loaded at start into the same mailboxes that
the in-memory inbox has. Offsets are given when a group leaves for the disk and put into
memory when it is there: a push is never sent under an offset that a crash could hand to
another.

A row goes when its push is settled, except a mailbox's newest: that one is *buried*
(emptied and marked) and stays until a newer push comes, because it remembers the
mailbox's top, its epoch, and what was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from heartcast.backends.sqlite import Tuning
from heartcast.core.errors import StoreUnavailable
from heartcast.push.file import SETTLED, PushFile, Row, open_file, packed, unpacked
from heartcast.push.inbox import Appended, Mark, Since
from heartcast.push.inbox.memory import MemoryInbox
from heartcast.push.model import Push
from heartcast.push.templates import Templates

_LOAD = """
    SELECT epoch, offset, lost, state, id, user, is_numeric, template, payload, extra, accepted_ms, changed_ms
    FROM push WHERE state > 0 ORDER BY user, offset
"""


class SqliteInbox:
    """Implements ``Inbox``. The file is closed by whichever of journal and inbox is closed first."""

    is_durable = True

    def __init__(self, file: PushFile, index: MemoryInbox) -> None:
        self._file = file
        self._index = index
        self._graves: dict[str, str] = {}
        """Id of the buried row of each mailbox whose newest push is settled."""
        self._tops: dict[str, int] = {}
        """Offsets given in the group that is about to leave."""

    @property
    def failures(self) -> int:
        """Groups that could not be written."""
        return self._file.failures

    def append(self, pushes: Sequence[Push], now_ms: int, done: Appended) -> None:
        if self._file.is_closed:
            return done(StoreUnavailable("the inbox is closed"))
        group = self._file.next
        if not group.movers:
            self._tops = {}
        group.movers.append(partial(self._number, pushes, now_ms, self._tops))
        group.answers.append(partial(self._written, pushes, now_ms, done))
        self._file.begin()
        return None

    def settle(self, pushes: Iterable[Push], *, is_lost: bool, now_ms: int) -> None:
        for push in pushes:
            box = self._index.box(push.user)
            waiting = len(box.pushes) if box else 0
            self._index.settle([push], is_lost=is_lost, now_ms=now_ms)
            if box is None or len(box.pushes) == waiting:
                continue
            self._drop(
                push, is_newest=push.offset == box.top, lost=push.offset if is_lost else 0, now_ms=now_ms
            )
        self._begin()

    def since(self, user: str, mark: Mark | None, limit: int, done: Since) -> None:
        self._index.since(user, mark, limit, done)

    def page(self, user: str, after: int, limit: int, done: Since) -> None:
        self._index.page(user, after, limit, done)

    def kept(self) -> Iterable[Push]:
        return self._index.kept()

    def forget(self, now_ms: int) -> None:
        if self._file.is_writing:
            # The group on its way counts on the mailboxes as they stand.
            return
        for user in self._index.forget_idle(now_ms):
            if grave := self._graves.pop(user, None):
                self._file.next.deleted.append((grave,))
        self._begin()

    async def close(self) -> None:
        """Write what waits; then answer what comes later with ``StoreUnavailable``."""
        await self._file.close()

    def load(self, templates: Templates) -> None:
        """Fill the mailboxes from the file; once, before anything else."""
        for epoch, offset, lost, state, *row in self._file.connection.execute(_LOAD):
            push = unpacked(tuple(row), templates, offset=offset)
            self._index.restore(push, epoch, lost, state == SETTLED)
            self._note_grave(push, is_buried=state == SETTLED)
        self._begin()

    def _begin(self) -> None:
        if not self._file.is_closed:
            self._file.begin()

    def _note_grave(self, push: Push, *, is_buried: bool) -> None:
        # A crash between two groups may leave an older grave behind: it goes now.
        if (older := self._graves.pop(push.user, None)) is not None:
            self._file.next.deleted.append((older,))
        if is_buried:
            self._graves[push.user] = push.id

    def _drop(self, push: Push, *, is_newest: bool, lost: int, now_ms: int) -> None:
        """Note that a push's row goes, without forgetting what it alone remembers."""
        group = self._file.next
        if is_newest:
            self._note_grave(push, is_buried=True)
            group.buried.append((lost, now_ms, push.id))
            return
        group.deleted.append((push.id,))
        if lost:
            box = self._index.box(push.user)
            keeper = box.pushes[-1].id if box and box.pushes else self._graves.get(push.user)
            if keeper:
                group.lost.append((lost, keeper))

    # ── writing ──────────────────────────────────────────────────────────────

    def _number(self, pushes: Sequence[Push], now_ms: int, tops: dict[str, int], rows: list[Row]) -> None:
        """The group leaves for the disk: give its pushes their offsets."""
        for push in pushes:
            box = self._index.box(push.user)
            epoch, top, lost = (box.epoch, box.top, box.lost) if box else (self._index.epoch, 0, 0)
            offset = tops[push.user] = tops.get(push.user, top) + 1
            rows.append(
                (push.id, push.user, push.is_numeric, epoch, offset, lost, push.template.key,
                 push.payload, packed(push.extra), push.accepted_ms, now_ms)
            )  # fmt: skip

    def _written(
        self, pushes: Sequence[Push], now_ms: int, done: Appended, error: StoreUnavailable | None
    ) -> None:
        if error is not None:
            done(error)
            return
        self._index.append(pushes, now_ms, partial(self._indexed, pushes, now_ms, done))

    def _indexed(
        self,
        pushes: Sequence[Push],
        now_ms: int,
        done: Appended,
        evicted: list[Push] | StoreUnavailable,
    ) -> None:
        assert isinstance(evicted, list)
        for push in pushes:
            if grave := self._graves.pop(push.user, None):
                # The new row remembers all that the grave did, also what was lost meanwhile.
                box = self._index.box(push.user)
                self._file.next.lost.append((box.lost if box else 0, push.id))
                self._file.next.deleted.append((grave,))
        for push in evicted:
            self._drop(push, is_newest=False, lost=push.offset, now_ms=now_ms)
        done(evicted)


def open_inbox(
    path: Path,
    *,
    templates: Templates,
    new_epoch: Callable[[], str],
    max_pushes: int,
    loop: asyncio.AbstractEventLoop,
    tuning: Tuning | None = None,
) -> SqliteInbox:
    """Open an inbox in a file of its own, or one whose journal nobody asks.

    Raises:
        SettingsError: the file is locked, damaged, not writable or of another program.
    """
    return load_inbox(
        open_file(path, loop, tuning), templates=templates, new_epoch=new_epoch, max_pushes=max_pushes
    )


def load_inbox(
    file: PushFile, *, templates: Templates, new_epoch: Callable[[], str], max_pushes: int
) -> SqliteInbox:
    """The inbox of an open file, loaded."""
    inbox = SqliteInbox(file, MemoryInbox(new_epoch, max_pushes))
    inbox.load(templates)
    return inbox
