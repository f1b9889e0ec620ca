"""What belongs to no shard: kept once for all nodes, and known to each of them.

Template versions, webhook endpoints and what broadcasts say are about everybody's users, so no
owner of a shard can keep them. They are notes of the *commons*: every node has a copy, asks
for what is new a few times a second, and changes a note only from the state that it knows.
Who is second is told so, and then knows what the first one wrote. ``memory`` is the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from heartcast.core.errors import HeartcastError
from heartcast.push.journal import Note

Done = Callable[[HeartcastError | None], None]
Told = Callable[[Note], None]


class Commons(Protocol):
    """Notes of all nodes, as one of them sees them.

    Guarantees, each with a contract test of the same number:

    1. **Durable before answered.** When ``done`` of a write is told None, a node that starts
       later is told the notes (memory: as long as the shelf is there).
    2. **From what is known.** A write is done if each of its keys is kept as this node knows it;
       else all of it is refused with ``Conflict`` (code ``changed_meanwhile``), and by then this
       node knows what is kept.
    3. **Whole or nothing.** Of a refused write no note is kept.
    4. **Told in order.** ``follow`` tells what is known, in the order in which it was written;
       later every change once, this node's own just before its ``done``.
    5. **Caught up.** When ``done`` of a ``sync`` is told None, everything that was answered at any
       node before the call has been told here.
    6. **Gone is told.** A note that was taken away is told with the value None, also to a node
       that did not ask for long.
    7. **Runs out.** A note is not given after its ``until_ms``, and its key may be written anew.
    8. **Once answered.** Every ``done`` is called exactly once, within a bounded time, those of
       writes in the order of the calls.
    """

    def follow(self, kind: str, told: Told) -> None:
        """Tell every note whose key begins with ``kind``, now and whenever one changes."""
        ...

    def notes(self, kind: str, now_ms: int) -> list[Note]:
        """What this node knows, in the order in which it was written."""
        ...

    def write(self, notes: Sequence[Note], done: Done) -> None:
        """Keep notes, or take those without a value away.

        A write that is answered with ``StoreUnavailable`` may have been done all the same; then
        it is told later.
        """
        ...

    def sync(self, done: Done) -> None:
        """Ask for what is new."""
        ...

    def forget(self, now_ms: int) -> None:
        """Drop what ran out from this node's copy. Called every minute or so."""
        ...
