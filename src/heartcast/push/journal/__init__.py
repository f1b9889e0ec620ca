"""What was promised, kept until it is done.

The journal holds every accepted push that is not in an inbox and has not ended, and the
*notes* that must be true together with it: that a dedupe key was used, what was answered
to an Idempotency-Key, a user's preferences. Where it is durable, 202 is answered after
the commit, and a new process goes on where the old one was killed.

A push moves from here into its user's inbox. Both are kept in one file, so that a crash
finds it in exactly one of them. Pushes that are due in the far future are kept here only,
not in memory; the service asks for them when their time comes near.

The in-memory journal is the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from heartcast.core.errors import StoreUnavailable
from heartcast.push.model import Push

FOREVER_MS = 1 << 62
"""``until_ms`` of a note that does not go by itself."""


class Note(NamedTuple):
    """Something small to be remembered under a key."""

    key: str
    """Begins with the letter of its kind and a colon, as in ``d:ann:welcome``."""
    value: bytes | None
    """None takes the note away."""
    until_ms: int = FOREVER_MS
    """Wall time after which it means nothing any more."""


class Change(NamedTuple):
    """What is written together or not at all."""

    accepted: Sequence[Push] = ()
    """New pushes."""
    changed: Sequence[Push] = ()
    """Pushes whose payload, time or extras are others now; as they are when they are written."""
    ended: Sequence[Push] = ()
    """Pushes that ended without being in an inbox."""
    notes: Sequence[Note] = ()
    forgotten: Sequence[str] = ()
    """Ids of ended pushes whose records go, where the journal keeps any."""


class Replay(NamedTuple):
    """What an earlier process left to do."""

    pushes: list[Push]
    """In the order in which they were accepted."""
    far: int
    """How many more are due after the horizon."""


Written = Callable[[StoreUnavailable | None], None]
Fetched = Callable[[list[Push] | StoreUnavailable], None]


class Journal(Protocol):
    """Accepted pushes that are not in an inbox, and notes.

    Guarantees, each with a contract test of the same number:

    1. **Durable before answered.** When ``done`` is called with None, the change survives
       ``kill -9`` (memory: nothing does, and it says so).
    2. **Replay.** A new life gives exactly the pushes that had neither ended nor gone into
       an inbox, in the order in which they were accepted, as they were last changed.
    3. **Whole or nothing.** A change that is answered with ``StoreUnavailable`` left no trace;
       one that a crash cut short is there with its notes, or not at all.
    4. **Ended is gone.** A push that ended is in no later answer.
    5. **Kept trying.** A change written without ``done`` is not given up when the store
       refuses: it goes with the next group. It must not accept pushes.
    6. **The far future.** Replay leaves out what is due after its horizon; ``due`` gives
       that when it is asked for its time, and ``fetch`` gives it by id.
    7. **Once answered, in order.** Every callback is called exactly once, at once or on the
       loop, in the order of the calls, also when the journal is closed with calls still waiting.
    8. **Notes.** The last note of a key is the one that is given; what ran out is not.
    """

    is_durable: bool
    """Whether guarantee 1 means anything here."""

    def write(self, change: Change, done: Written | None) -> None:
        """Write a change; ``done`` is told when it is safe, or that nothing was written."""
        ...

    def leave(self, push: Push) -> None:
        """The caller forgets this deferred push, whose last change is written: it is far now."""
        ...

    def take_back(self, push: Push) -> None:
        """The caller has this far push, which ``due`` or ``fetch`` gave it, again."""
        ...

    def replay(self, horizon_ms: int) -> Replay:
        """What waits and is due at or before this wall time; asked once, at start."""
        ...

    def due(self, after: tuple[int, str], until_ms: int, limit: int, done: Fetched) -> None:
        """Far pushes whose (due_ms, id) comes after ``after`` and that are due at or before
        ``until_ms``, in that order, at most ``limit``."""
        ...

    def fetch(self, push_id: str, done: Fetched) -> None:
        """The far push with this id, in a list, or an empty list."""
        ...

    def of_user(self, user: str, done: Fetched) -> None:
        """All far pushes of this user; may give near ones, too. Slow: it looks at everything."""
        ...

    def notes(self, kind: str, now_ms: int) -> list[Note]:
        """Notes whose key begins with ``kind``; asked at start."""
        ...

    def forget(self, now_ms: int) -> None:
        """Drop notes that ran out. Called every few seconds."""
        ...

    async def close(self) -> None:
        """Write what waits, answer every call, release what is held. Repeating it does nothing."""
        ...
