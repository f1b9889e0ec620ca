"""The inbox in memory: the reference, and the index of the durable ones."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from operator import attrgetter

import msgspec

from heartcast.push.inbox import Appended, Kept, Mark, Missing, Since
from heartcast.push.model import Push, State

_offset = attrgetter("offset")
FORGET_AFTER_MS = 24 * 3600 * 1000
MAX_MAILBOXES = 2_000_000
"""With more than so many, empty ones are forgotten without waiting for a day."""
_FORGET_SLICE = 20_000
"""Mailboxes looked at in one call of ``forget``: about 2 ms."""


# gc=False: there are as many of these as users that were pushed to; their lists hold
# pushes, which refer to no mailbox.
class Mailbox(msgspec.Struct, gc=False, eq=False):
    """One user's unsettled pushes."""

    epoch: str
    changed_ms: int
    top: int = 0
    """Offset of the newest push it ever had."""
    lost: int = 0
    """Highest offset that the user never got."""
    pushes: list[Push] = []
    """By offset, ascending."""

    def index(self, offset: int) -> int:
        """How many pushes have at most this offset."""
        return bisect_right(self.pushes, offset, key=_offset)


class MemoryInbox:
    """Implements ``Inbox``. Lost with the process.

    Args:
        new_epoch: Makes epochs; never the same one twice, in any process.
        max_pushes: Most pushes a mailbox keeps, >= 1.
    """

    is_durable = False

    def __init__(self, new_epoch: Callable[[], str], max_pushes: int) -> None:
        self._new_epoch = new_epoch
        self._max_pushes = max_pushes
        # One epoch serves all mailboxes begun between two rounds of forgetting: no
        # mailbox is forgotten and begun again within it.
        self._epoch = new_epoch()
        self._boxes: dict[str, Mailbox] = {}
        self._seen = 0

    def append(self, pushes: Sequence[Push], now_ms: int, done: Appended) -> None:
        boxes = self._boxes
        evicted: list[Push] = []
        for push in pushes:
            user = push.user
            box = boxes.get(user)
            if box is None:
                boxes[user] = Mailbox(self._epoch, now_ms, 1, 0, [push])
                push.offset = 1
                continue
            box.top = push.offset = box.top + 1
            box.changed_ms = now_ms
            box.pushes.append(push)
            if len(box.pushes) > self._max_pushes:
                oldest = box.pushes.pop(0)
                box.lost = oldest.offset
                evicted.append(oldest)
        done(evicted)

    def settle(self, pushes: Iterable[Push], *, is_lost: bool, now_ms: int) -> None:
        for push in pushes:
            box = self._boxes.get(push.user)
            if box is None:
                continue
            kept = box.pushes
            # Nearly always the oldest goes first, and the rest need not be searched.
            index = 0 if kept and kept[0] is push else box.index(push.offset) - 1
            if index < 0 or kept[index] is not push:
                continue
            del kept[index]
            box.changed_ms = now_ms
            if is_lost:
                box.lost = max(box.lost, push.offset)

    def since(self, user: str, mark: Mark | None, limit: int, done: Since) -> None:
        if mark is None:
            return self.page(user, 0, limit, done)
        box = self._boxes.get(user)
        top = self._top(box)
        if mark.epoch != top.epoch or mark.offset > top.offset or mark.offset < (box.lost if box else 0):
            return done(Missing(top))
        waiting = box.pushes[box.index(mark.offset) :] if box else []
        return done(Missing(top) if len(waiting) > limit else Kept(waiting, mark, top))

    def page(self, user: str, after: int, limit: int, done: Since) -> None:
        box = self._boxes.get(user)
        top = self._top(box)
        if box is None or not (pushes := box.pushes[(start := box.index(after)) : start + limit]):
            return done(Kept([], top, top))
        return done(Kept(pushes, Mark(pushes[0].offset - 1, top.epoch), top))

    def kept(self) -> Iterable[Push]:
        pushes = [push for box in self._boxes.values() for push in box.pushes]
        pushes.sort(key=attrgetter("accepted_ms"))
        return pushes

    def forget(self, now_ms: int) -> None:
        self.forget_idle(now_ms)

    def forget_idle(self, now_ms: int) -> list[str]:
        """As ``forget``; returns the users whose mailboxes went."""
        # A slice at a time, round and round: a million mailboxes must not stop the loop.
        boxes = list(islice(self._boxes.items(), self._seen, self._seen + _FORGET_SLICE))
        self._seen = self._seen + len(boxes) if len(boxes) == _FORGET_SLICE else 0
        idle_ms = FORGET_AFTER_MS if len(self._boxes) <= MAX_MAILBOXES else 0
        idle = [user for user, box in boxes if not box.pushes and now_ms - box.changed_ms >= idle_ms]
        for user in idle:
            del self._boxes[user]
        if idle:
            self._seen = max(0, self._seen - len(idle))
            self._epoch = self._new_epoch()
        return idle

    async def close(self) -> None:
        """Nothing to write."""

    def box(self, user: str) -> Mailbox | None:
        """A user's mailbox as it stands, for adapters that keep theirs here; None when there is none."""
        return self._boxes.get(user)

    def restore(self, push: Push, epoch: str, lost: int, is_settled: bool) -> None:
        """Put back what an adapter found on disk; pushes of one user in order of offset."""
        box = self._boxes.setdefault(push.user, Mailbox(epoch, push.changed_ms))
        box.epoch, box.top, box.lost = epoch, push.offset, max(box.lost, lost)
        if not is_settled:
            push.state = State.SENT
            box.pushes.append(push)

    def open(self, user: str, box: Mailbox) -> None:
        """Begin with a mailbox that an adapter kept, still without its pushes."""
        self._boxes[user] = box

    def put_back(self, push: Push) -> None:
        """A push that waits in such a mailbox; those of one user in order of offset."""
        if (box := self._boxes.get(push.user)) is not None:
            box.pushes.append(push)

    @property
    def epoch(self) -> str:
        """The epoch of mailboxes that begin now."""
        return self._epoch

    def _top(self, box: Mailbox | None) -> Mark:
        return Mark(box.top, box.epoch) if box else Mark(0, self._epoch)
