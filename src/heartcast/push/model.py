"""Pushes, their states, and how they end."""

from __future__ import annotations

from enum import Enum


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
