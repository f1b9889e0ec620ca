"""Everything that is kept of one user: shown, and erased.

Both look through all pushes, as no index by user is kept for what is asked once a year.
Erasing ends what waits as ``cancelled(erased)`` and forgets its record with all others; webhooks
that are for this user alone go too, but for those of the settings, which only the operator can change.
What names the user a little longer goes by itself: the position of the mailbox within a
day, marks of caps and Idempotency-Keys when their windows end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from heartcast.core.clock import Clock
from heartcast.core.errors import HeartcastError, StoreUnavailable, Unavailable
from heartcast.push.dead import DeadLetters, Letter
from heartcast.push.digests import Digests
from heartcast.push.gates.frequency import Frequencies
from heartcast.push.gates.repeats import Duplicates
from heartcast.push.journal import Change, Journal
from heartcast.push.ledger import Ledger
from heartcast.push.model import Push, State
from heartcast.push.preferences import PreferenceBook, Preferences, preference_note
from heartcast.push.receipts import Receipts
from heartcast.push.settling import Settling
from heartcast.push.topics import Topics
from heartcast.push.waiting import Waiting
from heartcast.push.webhooks import WebhookBook


class Person(NamedTuple):
    """What is kept of a user."""

    preferences: Preferences
    pushes: list[Push]
    """Waiting, in the inbox, and ended; oldest first."""
    letters: list[Letter]
    topics: list[str]


class Erased(NamedTuple):
    """What was erased of a user."""

    cancelled: int
    """Pushes that were waiting or in the inbox."""
    records: int
    """Records of pushes that had ended."""
    dead_letters: int


class People:
    """Looks users up in all parts."""

    def __init__(
        self,
        *,
        clock: Clock,
        ledger: Ledger,
        waiting: Waiting,
        journal: Journal,
        settling: Settling,
        dead: DeadLetters,
        duplicates: Duplicates,
        preferences: PreferenceBook,
        receipts: Receipts,
        topics: Topics,
        frequencies: Frequencies,
        digests: Digests,
        webhooks: WebhookBook,
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._waiting = waiting
        self._journal = journal
        self._settling = settling
        self._dead = dead
        self._duplicates = duplicates
        self._preferences = preferences
        self._receipts = receipts
        self._topics = topics
        self._frequencies = frequencies
        self._digests = digests
        self._webhooks = webhooks

    def find(self, user: str, found: Callable[[Person | HeartcastError], None]) -> None:
        """Everything that is kept of this user."""
        self._journal.of_user(user, partial(self._found, user, found))

    def _found(
        self,
        user: str,
        found: Callable[[Person | HeartcastError], None],
        waiting: list[Push] | StoreUnavailable,
    ) -> None:
        if isinstance(waiting, StoreUnavailable):
            found(waiting)
            return
        # What is near is in the ledger, and may have moved on since the journal was read.
        far = [push for push in waiting if not self._is_here(push.id)]
        for push in far:
            push.state = State.DEFERRED
        pushes = sorted([*self._ledger.of_user(user), *far], key=lambda push: push.id)
        letters = self._dead.page("", len(self._dead), user)
        wishes = self._preferences.of(user).document
        found(Person(wishes, pushes, letters, self._topics.of_user(user)))

    def erase(self, user: str, done: Callable[[Erased | HeartcastError], None]) -> None:
        """End and forget everything of this user; answered when it is on the disk."""
        self._journal.of_user(user, partial(self._erase, user, done))

    def _erase(
        self,
        user: str,
        done: Callable[[Erased | HeartcastError], None],
        waiting: list[Push] | StoreUnavailable,
    ) -> None:
        if isinstance(waiting, StoreUnavailable):
            done(waiting)
            return
        if any(push.state is State.SENDING for push in self._ledger.of_user(user)):
            done(Unavailable("a push to this user is on its way; try again", code="user_busy"))
            return
        for push in waiting:
            if not self._is_here(push.id):
                self._waiting.bring_back(push)
        living = [push for push in self._ledger.of_user(user) if not push.state.is_terminal]
        ended = self._end(living)
        notes = [preference_note(user, None), *self._duplicates.forget_user(user)]
        notes += [*self._topics.forget_user(user), *self._frequencies.forget_user(user)]
        notes += [*self._digests.forget_user(user), *self._webhooks.forget_user(user)]
        letters = self._dead.page("", len(self._dead), user)
        notes += [self._dead.take(letter.id) for letter in letters]
        self._preferences.put(user, None)
        for push in self._ledger.of_user(user):
            self._receipts.forget(push.id)
        records = self._ledger.erase(user)
        answer = Erased(len(living), len(records) - len(living), len(letters))
        change = Change(ended=ended, notes=notes, forgotten=records)
        self._journal.write(change, lambda error: done(answer if error is None else error))

    def _end(self, living: list[Push]) -> list[Push]:
        now_ms = self._clock.wall_ms()
        in_inbox = [push for push in living if push.state is State.SENT]
        waiting = [push for push in living if push.state is not State.SENT]
        for push in waiting:
            if push.state is State.DEFERRED:
                self._waiting.no_longer(push)
        for push in living:
            self._ledger.end(push, State.CANCELLED, "erased", now_ms)
        self._settling.settle(in_inbox, is_lost=False, now_ms=now_ms)
        return waiting

    def _is_here(self, push_id: str) -> bool:
        return (self._ledger.living(push_id) or self._ledger.ended_one(push_id)) is not None
