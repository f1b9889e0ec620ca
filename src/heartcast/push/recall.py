"""Taking back and changing what has not left yet.

``cancel`` is final in both directions. Everything here and everything that sends runs on
one thread, and a push is marked before it is handed on: at the moment of the call it has
left or it has not. One that has not ends there and then, and the answer waits until that
is on the disk, so that a crash cannot bring it back.

A push in the inbox of a user who is away has not left: no device has seen it. After a restart, or
when its shard has another owner, nobody knows that any more of what is in the inbox: it counts as left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from heartcast.core.clock import Clock
from heartcast.core.errors import Conflict, HeartcastError, NotFound, StoreUnavailable
from heartcast.push.intake import Intake
from heartcast.push.journal import Change, Journal, Note, Written
from heartcast.push.ledger import Ledger
from heartcast.push.model import Push, State
from heartcast.push.settling import Settling
from heartcast.push.waiting import Waiting

_FORGOTTEN = "no push has this id, or its record is no longer kept"

Notes = Callable[[], Sequence[Note]]
Found = Callable[[Push | HeartcastError], None]


class Recall:
    """Finds, cancels and changes single pushes."""

    def __init__(
        self,
        *,
        clock: Clock,
        intake: Intake,
        settling: Settling,
        journal: Journal,
        ledger: Ledger,
        waiting: Waiting,
    ) -> None:
        self._clock = clock
        self._intake = intake
        self._settling = settling
        self._journal = journal
        self._ledger = ledger
        self._waiting = waiting
        self.cancelled = 0
        """Pushes that were cancelled in time."""
        self.too_late = 0
        """Pushes that could no longer be cancelled."""

    def find(self, push_id: str, found: Found) -> None:
        """The push with this id, from wherever it is; a far one comes back to memory."""
        push = self._ledger.living(push_id) or self._ledger.ended_one(push_id)
        if push is not None:
            found(push)
        elif self._waiting.far:
            self._journal.fetch(push_id, partial(self._fetched, found))
        else:
            found(NotFound(_FORGOTTEN, code="push_forgotten"))

    def cancel(self, push: Push, notes: Notes, done: Written) -> None:
        """Take a push back. When ``done`` is told None it will never be sent.

        Args:
            notes: Called when it has ended: what must be written with that.

        Raises:
            Conflict: it is on its way (code ``push_on_its_way``) or has ended otherwise
                (``push_ended``); then ``done`` is not called.
        """
        now_ms = self._clock.wall_ms()
        ended: tuple[Push, ...] = ()
        if push.state in (State.QUEUED, State.DEFERRED):
            if push.state is State.DEFERRED:
                self._waiting.no_longer(push)
            ended = (push,)
            self._end(push, now_ms)
        elif push.state is State.SENT and not (push.attempts or push.attempted_ms or push.asked.posted):
            self._end(push, now_ms)
            # Not lost: there is nothing that its user should make up for.
            self._settling.settle([push], is_lost=False, now_ms=now_ms)
        elif push.state is not State.CANCELLED:
            self.too_late += 1
            raise _too_late(push)
        # Also when it was cancelled before: that answer may have been lost before its commit.
        self._journal.write(Change(ended=ended, notes=notes()), done)

    def change(
        self,
        push: Push,
        *,
        payload: dict[str, Any] | None,
        due_ms: int | None,
        ttl_ms: int | None,
        notes: Notes,
        done: Written,
    ) -> None:
        """Change what waits; None leaves a part as it is. ``due_ms`` in the past: now.

        Args:
            notes: Called when the push is changed: what must be written with it.

        Raises:
            Conflict: it no longer waits (codes as for ``cancel``).
            InvalidInput: the payload does not fit the template.
            BodyTooLarge: the payload is larger than the bound.
        """
        if push.state not in (State.QUEUED, State.DEFERRED):
            raise _too_late(push)
        before = _Terms(push)
        if payload is not None:
            push.template.check(payload)
            self._ledger.resize(push, self._intake.packed(payload))
        if ttl_ms is not None:
            push.made_special().ttl_ms = ttl_ms
            self._ledger.set_time(push)
        if due_ms is not None:
            self._set_due(push, due_ms)
        self._journal.write(Change(changed=[push], notes=notes()), partial(self._changed, push, before, done))

    def release(self, push: Push) -> None:
        """The time of a deferred push has come: it waits in its shard now."""
        self._waiting.no_longer(push)
        push.state = State.QUEUED
        push.changed_ms = self._clock.wall_ms()
        self._intake.queue(push)

    def _set_due(self, push: Push, due_ms: int) -> None:
        now_ms = self._clock.wall_ms()
        push.made_special().sends_at_ms = due_ms
        if due_ms > now_ms:
            self._waiting.defer(push, due_ms, now_ms)
        else:
            push.made_special().due_ms = 0
            self._ledger.set_time(push)
            if push.state is State.DEFERRED:
                self.release(push)

    def _changed(self, push: Push, before: _Terms, done: Written, error: StoreUnavailable | None) -> None:
        if error is not None and push.state in (State.QUEUED, State.DEFERRED):
            # Nothing was promised, so nothing may have changed. The journal keeps trying to
            # write the push as it is, which is now what it was.
            self._ledger.resize(push, before.payload)
            push.made_special().ttl_ms = before.ttl_ms
            if push.due_ms != before.due_ms:
                self._set_due(push, before.due_ms)
        done(error)

    def _end(self, push: Push, now_ms: int) -> None:
        self._ledger.end(push, State.CANCELLED, "", now_ms)
        self.cancelled += 1

    def _fetched(self, found: Found, answer: list[Push] | StoreUnavailable) -> None:
        if isinstance(answer, StoreUnavailable):
            found(answer)
        elif not answer:
            found(NotFound(_FORGOTTEN, code="push_forgotten"))
        else:
            push = self._waiting.bring_back(answer[0])
            if push.state is State.DEFERRED:
                self._waiting.settle(push)
            found(push)


class _Terms:
    """What a change may have to restore."""

    __slots__ = ("due_ms", "payload", "ttl_ms")

    def __init__(self, push: Push) -> None:
        self.payload = push.payload
        self.due_ms = push.due_ms
        self.ttl_ms = push.asked.ttl_ms


def _too_late(push: Push) -> Conflict:
    if push.state.is_terminal:
        return Conflict(f"this push has ended: {push.state.value}", code="push_ended")
    return Conflict("this push is on its way already", code="push_on_its_way")
