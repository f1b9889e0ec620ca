"""Hearts, their keys, and what a write did to them."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

KIND = "heart"
"""The kind of a heart when the caller names none."""

HIDDEN = "~"
"""In front of the kind of a heart that only its giver sees (``hearts.shadow``)."""


Cause = Literal["user", "import", "merge", "erase", "delete"]
"""Why a heart came or went: somebody clicked, hearts were loaded from a file or another store,
two targets became one, a person was erased, a target was deleted."""


class HeartKey(NamedTuple):
    """Who hearts what. There is at most one heart per key."""

    target_id: str
    user_id: str
    """The user's canonical text: the integer 12345 and the string "12345" are one user."""
    kind: str = KIND


class Step(NamedTuple):
    """One heart to give or to take back."""

    is_add: bool
    key: HeartKey


class Receipt(NamedTuple):
    """What makes a request one that is done once."""

    name: bytes
    """16 bytes: who asks what with which Idempotency-Key."""
    fingerprint: bytes
    """16 bytes: of what is asked."""
    until_ms: int
    """Wall time until which it is remembered."""


class Heart(NamedTuple):
    """A heart that exists."""

    id: str
    key: HeartKey
    created_ms: int
    """Wall time of the first add, in milliseconds."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What one item of a write did."""

    heart: Heart | None
    """The heart as it is, or as it was when just removed; None: there was nothing to remove."""
    count: int
    """Hearts of this target and kind after this write, >= 0."""
    version: int
    """Membership changes of this target and kind so far, this one included."""
    changed: bool
    """Whether this very write created or removed the heart."""


class Once(msgspec.Struct, frozen=True, gc=False):
    """What a request did that is done once."""

    outcomes: list[Outcome]
    is_repeated: bool
    """Whether it had been done before: these are the outcomes of then, and nothing was changed."""


class Count(msgspec.Struct, frozen=True, gc=False):
    """How many hearts a target has."""

    target_id: str
    count: int
    version: int


class Recount(msgspec.Struct, frozen=True, gc=False):
    """A target's count as it is told, beside its hearts counted one by one at the same moment."""

    target_id: str
    kind: str
    count: int
    version: int
    rows: int

    @property
    def drift(self) -> int:
        """By how much the told count is too high; 0 is the only good answer."""
        return self.count - self.rows


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an event tells: one heart came or went, and why."""

    delta: int
    """+1 or -1."""
    cause: Cause
    target_id: str
    user_id: str
    kind: str
    heart_id: str
    created_ms: int
    """When the heart was made, also when it has just gone."""
    count: int
    """After this change."""
    version: int


class HeartEvent(NamedTuple):
    """A change and its place in the outbox."""

    number: int
    """From 1, in the order of effects, without a gap."""
    at_ms: int
    """Wall time of the commit, by the clock of the process that wrote it."""
    change: Change


class EventPage(NamedTuple):
    """Some events, oldest first."""

    epoch: str
    """Of the numbers: those of another epoch are of another history, such as before a restore."""
    last: int
    """Number of the newest event there is, 0 when there never was one."""
    events: list[HeartEvent]
    """When the first one asked for was trimmed, what comes after the gap."""


class HeartChanged(msgspec.Struct, frozen=True, gc=False):
    """Something a view may follow: one heart came or went."""

    key: HeartKey
    count: int
    version: int
    created_ms: int
    """When the heart was made, also when it has just gone: a decayed view must take
    away exactly what it once added."""
    delta: int
    """+1 or -1."""
