"""Pushes that repeat each other: duplicates by key, and newer ones that replace older ones.

A *dedupe key* says that two pushes are the same. Within the window of the first, a second
one is not even accepted: its sender gets the first one's id. The gate looks again when a
deferred push is released, as several may then come together that were far apart before.

A *collapse key* says that only the newest counts. A push that still waits when a newer one
of its key was accepted gives way to it; so does one in the inbox that no device has got.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from heartcast.core.errors import Overloaded
from heartcast.push.gates import Gate, Verdict
from heartcast.push.journal import Note
from heartcast.push.model import Push, State

KIND = "d:"
_FREED = (State.CANCELLED, State.FAILED, State.DEAD, State.EXPIRED)
"""Ends that free a dedupe key: the user has not got it and was not spared it on purpose."""


_FORGET_SLICE = 5_000
"""Keys looked at in one call of ``forget``: about a millisecond."""


class _Used(NamedTuple):
    push_id: str
    until_ms: int


def dedupe_note(push: Push, now_ms: int) -> Note:
    """That this push has used its dedupe key; to be written with it."""
    extra = push.asked
    key = f"{KIND}{push.user}\0{extra.dedupe_key}"
    return Note(key, push.id.encode(), now_ms + extra.dedupe_ms)


class Duplicates:
    """Which dedupe keys were used, by whom and until when.

    Args:
        limit: Keys remembered. A push with one more is refused: forgetting another would
            break a promise that was made.
        note: Given what must be remembered.
    """

    def __init__(self, limit: int, note: Callable[[Note], None]) -> None:
        self._limit = limit
        self._used: OrderedDict[str, _Used] = OrderedDict()
        self._note = note

    def check_room(self) -> None:
        """Whether one more key may be used.

        Raises:
            Overloaded: as many are remembered as may be.
        """
        if len(self._used) >= self._limit:
            raise Overloaded("too many dedupe keys are remembered", retry_after_s=60, code="dedupe_keys_full")

    def find(self, user: str, key: str, now_ms: int) -> str | None:
        """Id of the push that has used this key; None: it is free."""
        used = self._used.get(f"{KIND}{user}\0{key}")
        return used.push_id if used and now_ms < used.until_ms else None

    def use(self, note: Note) -> None:
        """A key is used from now on, as its note says."""
        assert note.value is not None
        self._used[note.key] = _Used(note.value.decode(), note.until_ms)

    def restore(self, notes: Iterable[Note]) -> None:
        for note in notes:
            self.use(note)

    def ended(self, push: Push) -> None:
        """A push ended; if its user was not served, another may use its key."""
        key = f"{KIND}{push.user}\0{push.asked.dedupe_key}"
        used = self._used.get(key)
        if used and used.push_id == push.id and push.state in _FREED:
            del self._used[key]
            self._note(Note(key, None))

    def withdraw(self, push: Push) -> None:
        """A push that had used its key was not accepted after all."""
        key = f"{KIND}{push.user}\0{push.asked.dedupe_key}"
        if push.asked.dedupe_key and (used := self._used.get(key)) and used.push_id == push.id:
            del self._used[key]

    def forget_user(self, user: str) -> list[Note]:
        """Forget the keys of this user; returns what the journal must forget."""
        keys = [key for key in self._used if key.startswith(f"{KIND}{user}\0")]
        for key in keys:
            del self._used[key]
        return [Note(key, None) for key in keys]

    def forget(self, now_ms: int) -> None:
        """Drop the keys whose window is over; looks at some of them, the next time at others."""
        for _ in range(min(_FORGET_SLICE, len(self._used))):
            key, used = self._used.popitem(last=False)
            if used.until_ms > now_ms:
                self._used[key] = used

    def gate(self) -> Gate:
        return Gate("dedupe", self._ask, self._passed, needs_extras=True)

    def _ask(self, push: Push, now_ms: int) -> Verdict | None:
        if not push.asked.dedupe_key:
            return None
        other = self.find(push.user, push.asked.dedupe_key, now_ms)
        if other is None or other == push.id:
            return None
        return Verdict(State.SUPPRESSED, "duplicate", other=other)

    def _passed(self, push: Push, now_ms: int) -> None:
        # The window counts from when the user is served, not from when we heard of it.
        if push.asked.dedupe_key and push.asked.rounds:
            note = dedupe_note(push, now_ms)
            self.use(note)
            self._note(note)


class Collapses:
    """Which push is the newest of each collapse key.

    Args:
        replace: ``replace(older, newer, now_ms)`` ends a push that is in the inbox.
    """

    def __init__(self, replace: Callable[[Push, Push, int], None]) -> None:
        self._newest: dict[tuple[str, str], Push] = {}
        self._sent: dict[tuple[str, str], Push] = {}
        self._replace = replace

    def add(self, push: Push) -> None:
        """An accepted push with a collapse key."""
        key = (push.user, push.asked.collapse_key)
        newest = self._newest.get(key)
        if newest is None or newest.id < push.id:
            self._newest[key] = push
        if push.state is State.SENT:
            self._sent[key] = push

    def ended(self, push: Push) -> None:
        key = (push.user, push.asked.collapse_key)
        for index in (self._newest, self._sent):
            if index.get(key) is push:
                del index[key]

    def gate(self) -> Gate:
        return Gate("merge", self._ask, self._passed, needs_extras=True)

    def _ask(self, push: Push, now_ms: int) -> Verdict | None:
        if not push.asked.collapse_key:
            return None
        newest = self._newest.get((push.user, push.asked.collapse_key))
        # One that waits for a later time must not silence what is due today.
        if newest is None or newest is push or newest.state is State.DEFERRED or newest.id < push.id:
            return None
        return Verdict(State.SUPPRESSED, "collapsed", other=newest.id)

    def _passed(self, push: Push, now_ms: int) -> None:
        if not push.asked.collapse_key:
            return
        key = (push.user, push.asked.collapse_key)
        older = self._sent.get(key)
        self._sent[key] = push
        if (
            older is not None
            and older is not push
            and older.state is State.SENT
            and not (older.attempts or older.asked.posted)
        ):
            self._replace(older, push, now_ms)
