"""Pushes, their states, and how they end."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import msgspec

from heartcast.push.template import Template


class State(Enum):
    """Where a push is. The last six are terminal: a push enters exactly one of them, once."""

    QUEUED = "queued"
    """Accepted; waits in its shard."""
    DEFERRED = "deferred"
    """Accepted; waits for a time: the one its sender named, or the end of quiet hours."""
    SENDING = "sending"
    """Through the gates and on its way into the inbox: it can no longer be called back."""
    SENT = "sent"
    """In the user's inbox; not acknowledged yet."""
    DELIVERED = "delivered"
    """A client of the user acknowledged it."""
    SUPPRESSED = "suppressed"
    """A gate held it back for good; the reason says which."""
    EXPIRED = "expired"
    """Its time to live ran out, or the inbox was full, before anyone acknowledged it."""
    CANCELLED = "cancelled"
    """The sender took it back before it left."""
    FAILED = "failed"
    """It could not be rendered or delivered, and there was no room for its dead letter."""
    DEAD = "dead"
    """It could not be rendered or delivered; it is a dead letter that can be sent again."""

    # Members are looked up for every push that ends; Enum's own hash is written in Python.
    __hash__ = object.__hash__

    @property
    def is_terminal(self) -> bool:
        return self not in _LIVING


_LIVING = frozenset((State.QUEUED, State.DEFERRED, State.SENDING, State.SENT))


BEFORE_US = -1
MAX_ROUNDS = 20
"""Verdicts kept of one push; of more, the oldest go."""


class Priority(Enum):
    """Which pushes of a shard go first. The order of one user's pushes never changes."""

    CRITICAL = "critical"
    """Passes caps and quiet hours, and goes before all others."""
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    __hash__ = object.__hash__


RANKS = {Priority.LOW: 0, Priority.NORMAL: 1, Priority.HIGH: 2, Priority.CRITICAL: 3}


class Round(NamedTuple):
    """One pass through the gates that did not let the push through, in compact form."""

    at_ms: int
    gate: str
    """Which gate spoke; those before it let the push pass."""
    verdict: str
    """``suppressed``, ``expired``, ``deferred`` …"""
    reason: str
    until_ms: int = 0
    """When deferred: until when."""
    other: str = ""
    """Id of the push that this one is a duplicate of, or was merged into; else ""."""


# gc=False and no cycles: as for Push. Only pushes that ask for something special have one.
class Extra(msgspec.Struct, gc=False, eq=False, omit_defaults=True, kw_only=True):
    """What a sender may ask for beside user, template and payload; stored as JSON."""

    due_ms: int = 0
    """Wall time before which it must not leave; 0: at once."""
    ttl_ms: int = 0
    """How long it may wait, counted from acceptance or, if later, from the time asked for; 0:
    the server's own."""
    priority: Priority = Priority.NORMAL
    category: str = ""
    dedupe_key: str = ""
    dedupe_ms: int = 0
    collapse_key: str = ""
    digest_key: str = ""
    digest_ms: int = 0
    """How long the window is that it opens, if it does."""
    locale: str = ""
    """Language tag of its texts; "": the user's, and where there is none, the template's base."""
    broadcast: str = ""
    """Id of the broadcast that it belongs to; "": none."""
    retry_of: str = ""
    """Id of the dead letter that this is another try of."""
    sends_at_ms: int = 0
    """The time that the sender asked for; ``due_ms`` may be later, because of quiet hours."""
    routes: list[str] = []
    """Ways out that it takes at once; empty: realtime."""
    fallback: list[str] = []
    """Ways out that it takes when none of those had an acknowledgement in time."""
    fallback_ms: int = 0
    """How long that is, counted from when it left; 0: the server's own."""
    posted: int = 0
    """How often it was handed to a route other than realtime."""
    rounds: list[Round] = []
    """What gates said so far, and routes after them, oldest first."""

    @property
    def has_routes(self) -> bool:
        """Whether it may leave by another way than realtime."""
        return bool(self.routes or self.fallback)


_PLAIN = Extra()


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
    """What the sender gave, as compact JSON; empty once the push has ended."""
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
    """Wall time of the last attempt; 0 before the first; ``BEFORE_US`` when it was in the inbox when
    this process, or this owner of its shard, took over: nobody knows whether it has been sent."""
    data: bytes | None = None
    """What clients get, once rendered."""
    gated_ms: int = 0
    """Wall time at which all gates let it pass; 0 before."""
    extra: Extra | None = None
    """What its sender asked for beyond the plain; None: nothing."""

    @property
    def user_id(self) -> int | str:
        """The user in the type that the sender used."""
        return int(self.user) if self.is_numeric else self.user

    @property
    def asked(self) -> Extra:
        """Its extras, or those of a plain push; not to be changed."""
        return self.extra or _PLAIN

    @property
    def due_ms(self) -> int:
        """Wall time before which it must not leave; 0: at once."""
        return self.extra.due_ms if self.extra else 0

    def made_special(self) -> Extra:
        """Its own extras, to be changed."""
        if self.extra is None:
            self.extra = Extra()
        return self.extra

    def expires_ms(self, ttl_ms: int) -> int:
        """Wall time after which nobody wants it, where the server's own ttl is ``ttl_ms``."""
        if self.extra is None:
            return self.accepted_ms + ttl_ms
        return max(self.accepted_ms, self.extra.sends_at_ms) + (self.extra.ttl_ms or ttl_ms)
