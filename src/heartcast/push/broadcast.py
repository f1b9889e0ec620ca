"""One broadcast: what is sent to whom, how far it got, and how its pushes ended.

It is kept as three notes, because they change at different times and with different
writes: what it is (``b:d``), how far it got (``b:c``, written together with the pushes that
were accepted), and how pushes ended (``b:e``, written together with their ends). None of
them is ever written with a value that another write must confirm first.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from heartcast.push.journal import Note
from heartcast.push.model import Extra, State

WHAT, REACHED, ENDED = "b:d", "b:c", "b:e"
ENDS = tuple(state for state in State if state.is_terminal)


class Status(Enum):
    """Where a broadcast is."""

    SCHEDULED = "scheduled"
    """Waits for its time."""
    RUNNING = "running"
    """Pushes are being accepted, one per user."""
    PAUSED = "paused"
    """No further pushes are accepted; those that were go on."""
    DONE = "done"
    """Everybody has a push; some may still wait for their users."""
    CANCELLED = "cancelled"
    """No further pushes are accepted, and those that wait in shards end as cancelled."""
    FAILED = "failed"
    """It cannot go on; the reason says why."""


class What(msgspec.Struct, gc=False):
    """What is sent to whom; changes only when somebody says so."""

    id: str
    topic: str
    """"": everybody who is known."""
    template: str
    """``name@version``: one version for all."""
    payload: bytes
    """Compact JSON."""
    extra: Extra
    """What each push is given."""
    per_s: float
    """Most pushes accepted in a second; 0: as many as there is room for."""
    due_ms: int
    """Wall time before which it does not begin; 0: at once."""
    made_ms: int
    status: Status
    reason: str = ""
    """Why it failed."""
    changed_ms: int = 0
    """Wall time at which it entered its status."""


class Reached(msgspec.Struct, gc=False, array_like=True):
    """How far it got."""

    cursor: str = ""
    """The user served last; all up to it have their push."""
    accepted: int = 0


class Pace:
    """How many pushes a rate allows now.

    Args:
        per_s: Most pushes in a second; 0: any number.
    """

    __slots__ = ("credit", "credited_s", "per_s")

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s
        self.credit = 1.0
        """Pushes that are allowed now."""
        self.credited_s = 0.0
        """Monotonic time of the last credit; 0.0: it begins anew."""

    def earn(self, now_s: float, share: float = 1.0) -> None:
        """Allow more: at most what a second brings, so that nothing is caught up.

        Args:
            share: How much of the rate is for whoever asks, 0 to 1.
        """
        if self.per_s:
            per_s = self.per_s * share
            since_s = now_s - self.credited_s if self.credited_s else 0.0
            self.credit = min(max(1.0, per_s), self.credit + since_s * per_s)
        self.credited_s = now_s


class Broadcast:
    """A broadcast at work."""

    __slots__ = ("ended", "is_writing", "pace", "payload", "reached", "what")

    def __init__(self, what: What) -> None:
        self.what = what
        self.reached = Reached()
        self.ended = dict.fromkeys(ENDS, 0)
        """Its pushes that ended, by state."""
        self.payload: dict[str, Any] = msgspec.json.decode(what.payload)
        self.is_writing = False
        """Whether a page of its pushes is on its way into the journal."""
        self.pace = Pace(what.per_s)

    @property
    def waiting(self) -> int:
        """Its pushes that were accepted and have not ended."""
        return self.reached.accepted - sum(self.ended.values())

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come of it."""
        return self.what.status in (Status.DONE, Status.CANCELLED, Status.FAILED) and not self.waiting

    def extra(self) -> Extra:
        """What its next push is given: of its own, as it will be changed."""
        return msgspec.structs.replace(self.what.extra, broadcast=self.what.id, rounds=[])

    def what_note(self) -> Note:
        return Note(f"{WHAT}{self.what.id}", _encode(self.what))

    def reached_note(self, reached: Reached) -> Note:
        return Note(f"{REACHED}{self.what.id}", _encode(reached))

    def ended_note(self) -> Note:
        return Note(f"{ENDED}{self.what.id}", _encode([self.ended[state] for state in ENDS]))

    def gone_notes(self) -> list[Note]:
        """What takes it away."""
        return [Note(kind + self.what.id, None) for kind in (WHAT, REACHED, ENDED)]


_encode = msgspec.json.Encoder().encode
what_in = msgspec.json.Decoder(What).decode
_reached = msgspec.json.Decoder(Reached).decode
_ended = msgspec.json.Decoder(list[int]).decode


def restored(what: Note, reached: bytes | None, ended: bytes | None) -> Broadcast:
    """A broadcast from its notes; None: that one was never written."""
    broadcast = Broadcast(what_in(what.value or b""))
    if reached is not None:
        broadcast.reached = _reached(reached)
    if ended is not None:
        broadcast.ended = dict(zip(ENDS, _ended(ended), strict=True))
    return broadcast
