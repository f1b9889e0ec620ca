"""Pushes, their states, and how they end."""

from __future__ import annotations

from enum import Enum

import msgspec

from heartcast.push.templates import Template


class State(Enum):
    """Where a push is. The last five are terminal: a push enters exactly one of them, once."""

    QUEUED = "queued"
    """Accepted; waits in its shard."""
    SENT = "sent"
    """In the user's inbox and on its way; not acknowledged yet."""
    DELIVERED = "delivered"
    """A client of the user acknowledged it."""
    SUPPRESSED = "suppressed"
    """A gate held it back for good; the reason says which."""
    EXPIRED = "expired"
    """Its time to live ran out, or the inbox was full, before anyone acknowledged it."""
    CANCELLED = "cancelled"
    """The sender took it back before it left."""
    FAILED = "failed"
    """It could not be rendered or delivered; the reason says why."""

    @property
    def is_terminal(self) -> bool:
        return self not in (State.QUEUED, State.SENT)


# gc=False: two million of these may wait, and a full collection must not visit them.
# Nothing a push refers to refers back, so there is no cycle to be missed.
class Push(msgspec.Struct, gc=False, eq=False):
    """One push to one user, from acceptance until its record is forgotten."""

    id: str
    user: str
    """The user's canonical text."""
    is_numeric: bool
    """Whether the sender wrote the user as a number; answers repeat that type."""
    template: Template
    """The version that was active at acceptance."""
    payload: bytes
    """What the sender gave, as compact JSON; empty once the push was rendered or has ended."""
    accepted_ms: int
    """Wall time of acceptance."""
    changed_ms: int
    """Wall time at which it entered its present state."""
    state: State = State.QUEUED
    reason: str = ""
    """Why it ended as it did; "" when the state says all."""
    offset: int = 0
    """Its place in the user's inbox; 0 before it is there."""
    attempts: int = 0
    """How often it was handed to a session of the user."""
    attempted_ms: int = 0
    """Wall time of the last attempt; 0 before the first."""
    data: bytes | None = None
    """What clients get, once rendered."""

    @property
    def user_id(self) -> int | str:
        """The user in the type that the sender used."""
        return int(self.user) if self.is_numeric else self.user
