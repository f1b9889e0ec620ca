"""Pushes that wait for a time.

A deferred push that is due soon is in its shard's wheel. One that is due late is *far*:
the journal alone keeps it, and gives it back when its time comes near. When the time is
there the push joins its shard like a new one, and all gates are asked again.

The wheels also end pushes in inboxes whose own time to live runs out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from heartcast.core.errors import Overloaded, StoreUnavailable
from heartcast.core.hashing import shard_of
from heartcast.push.journal import Change, Journal
from heartcast.push.ledger import Ledger
from heartcast.push.model import Push, State
from heartcast.push.options import PushOptions
from heartcast.push.wheel import PushWheel

FETCH_PUSHES = 1_000
"""Far pushes taken from the journal at a time, ten times a second: some 5 ms of the loop each."""

_AFTER_ALL_IDS = "~"
"""Greater than any id."""

Release = Callable[[Push], None]
Expire = Callable[[Push, int], None]
Report = Callable[[str, BaseException], None]


class Waiting:
    """Everything that is deferred.

    Args:
        release: Given each push whose time has come, to be queued.
        expire: Given each push in an inbox whose own ttl ran out.
    """

    def __init__(
        self,
        options: PushOptions,
        *,
        journal: Journal,
        ledger: Ledger,
        release: Release,
        expire: Expire,
        report: Report,
        now_ms: int,
    ) -> None:
        self._shards = options.shards
        self._max_far = options.max_far
        self._near_ms = round(options.near_s * 1000)
        self._ttl_ms = round(options.ttl_s * 1000)
        self._journal = journal
        self._ledger = ledger
        self._release = release
        self._expire = expire
        self._report = report
        self._wheels = [PushWheel(now_ms) for _ in range(options.shards)]
        self._is_fetching = False
        self._visitors: list[Push] = []
        """Far pushes that were fetched for a look; they go at the next advance."""
        self._cursor: tuple[int, str] | None = None
        """While what was far is fetched page by page: the last one that came."""
        self.horizon_ms = now_ms + self._near_ms
        """What is due after this wall time is far."""
        self.near = 0
        """Deferred pushes in memory."""
        self.far = 0
        """Deferred pushes that only the journal has."""

    @property
    def deferred(self) -> int:
        """Everything deferred, near and far."""
        return self.near + self.far

    def check_room(self, due_ms: int) -> None:
        """Whether one more may be deferred to this time.

        Raises:
            Overloaded: it would be far, and the journal has as many as it may.
        """
        if due_ms > self.horizon_ms and self.far >= self._max_far:
            raise Overloaded("too many pushes wait for a later time", retry_after_s=60, code="pushes_full")

    def add(self, push: Push, now_ms: int) -> None:
        """An accepted push whose time is already written down."""
        self._defer(push, now_ms)
        if push.due_ms > self.horizon_ms:
            self._let_go(push, None)
        else:
            self._wheel(push).put(push, push.due_ms)

    def defer(self, push: Push, until_ms: int, now_ms: int) -> None:
        """A push that must wait, or wait for another time, from now on; the journal is told."""
        push.made_special().due_ms = until_ms
        if push.state is not State.DEFERRED:
            self._defer(push, now_ms)
        if until_ms > self.horizon_ms:
            self._journal.write(Change(changed=[push]), partial(self._let_go, push))
        else:
            self._wheel(push).put(push, until_ms)
            self._journal.write(Change(changed=[push]), None)

    def no_longer(self, push: Push) -> None:
        """A deferred push was queued or ended."""
        self.near -= 1

    def watch_ttl(self, push: Push) -> None:
        """A push with a time of its own is in the inbox."""
        self._wheel(push).put(push, push.expires_ms(self._ttl_ms) + 1)

    def wheel(self, shard: int) -> PushWheel:
        """The wheel of one shard."""
        return self._wheels[shard]

    def bring_back(self, push: Push) -> Push:
        """A far push that the journal gave us is here again: this one, or the one that was faster."""
        if (here := self._ledger.living(push.id) or self._ledger.ended_one(push.id)) is not None:
            return here
        push.state = State.DEFERRED
        self.near += 1
        self.far -= 1
        self._journal.take_back(push)
        self._ledger.bring_back(push)
        return push

    def settle(self, push: Push) -> None:
        """A push that was brought back for a look waits on where it belongs."""
        if push.due_ms <= self.horizon_ms:
            self._wheel(push).put(push, push.due_ms)
        else:
            # Not before whoever asked for it is done with it.
            self._visitors.append(push)

    def advance(self, now_ms: int) -> None:
        """Release what is due. Called every tenth of a second."""
        visitors, self._visitors = self._visitors, []
        for push in visitors:
            # One whose time was changed while it was here has been seen to.
            if push.state is State.DEFERRED and push.due_ms > self.horizon_ms:
                self._let_go(push, None)
        for wheel in self._wheels:
            if wheel.entries:
                for push in wheel.advance(now_ms):
                    self._due(push, now_ms)

    def fetch(self, now_ms: int) -> None:
        """Take a page from the journal of what is no longer far. Called ten times a second."""
        if self._is_fetching:
            return
        if self._cursor is None:
            until_ms = now_ms + self._near_ms
            if until_ms < self.horizon_ms + 1000:
                return
            # At once: what is deferred from now on to a time before the new horizon stays here.
            self._cursor, self.horizon_ms = (self.horizon_ms, _AFTER_ALL_IDS), until_ms
        if not self.far:
            self._cursor = None
            return
        self._is_fetching = True
        self._journal.due(self._cursor, self.horizon_ms, FETCH_PUSHES, self._fetched)

    def _defer(self, push: Push, now_ms: int) -> None:
        push.state = State.DEFERRED
        push.changed_ms = now_ms
        self.near += 1
        self._ledger.set_time(push)

    def _let_go(self, push: Push, error: StoreUnavailable | None) -> None:
        if push.state is not State.DEFERRED or self._ledger.living(push.id) is not push:
            return
        if error is not None or push.due_ms <= self.horizon_ms:
            if error is not None:
                self._report(f"push {push.id} stays in memory: its time could not be written", error)
            self._wheel(push).put(push, push.due_ms)
            return
        self._ledger.leave(push)
        self.near -= 1
        self.far += 1
        self._journal.leave(push)

    def _fetched(self, found: list[Push] | StoreUnavailable) -> None:
        self._is_fetching = False
        if isinstance(found, StoreUnavailable):
            self._report("deferred pushes could not be read; trying again", found)
            return
        for push in found:
            here = self.bring_back(push)
            if here.state is State.DEFERRED:
                self._wheel(here).put(here, here.due_ms)
        self._cursor = (found[-1].due_ms, found[-1].id) if len(found) == FETCH_PUSHES else None

    def _due(self, push: Push, now_ms: int) -> None:
        if push.state is State.DEFERRED:
            # An entry of a time that was changed since is passed over; there is a later one.
            if push.due_ms <= now_ms:
                self._release(push)
        elif push.state is State.SENT and now_ms > push.expires_ms(self._ttl_ms):
            self._expire(push, now_ms)

    def _wheel(self, push: Push) -> PushWheel:
        return self._wheels[shard_of(push.user, self._shards)]
