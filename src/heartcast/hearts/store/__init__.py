"""Where hearts are kept.

A store remembers *who* hearted *what*; the count of a target is never a number of
its own but the size of that memory, kept beside it. A count therefore changes only
as the outcome of a membership row appearing or disappearing, and the two can be
compared at any time.

The in-memory store is the reference: where a docstring and it disagree, one of them
has a bug. Each other file in this folder adapts one technology.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from heartcast.core.errors import InvalidInput, StoreUnavailable
from heartcast.hearts.model import (
    Cause,
    Count,
    EventPage,
    Heart,
    HeartKey,
    Once,
    Outcome,
    Receipt,
    Recount,
    Step,
)

Done = Callable[[list[Outcome] | StoreUnavailable], None]
OnceDone = Callable[[Once | InvalidInput | StoreUnavailable], None]
CountsDone = Callable[[list[Count] | StoreUnavailable], None]
HeartedDone = Callable[[list[bool] | StoreUnavailable], None]

MAX_KEYS = 500
"""Keys in one call of ``add`` or ``remove``."""
MAX_TARGETS = 1000
"""Targets in one call of ``counts``."""


def nothing() -> None:
    """The default of ``scan``'s ``on_begin``."""


class HeartStore(Protocol):
    """Membership and counts of hearts.

    Guarantees, each with a contract test of the same number:

    1. **Set, not toggle.** Adding a key twice leaves one heart, with the id and
       time of the first.
    2. **Exact outcome.** Of any number of concurrent adds of one key exactly one
       is told ``changed``; of concurrent removes exactly one.
    3. **Count after.** The count in an outcome includes that very write. Counts
       of one target seen by one caller never go back unless a remove came between.
    4. **Durable before answered.** When ``done`` is called, the write survives
       ``kill -9`` of this process (memory store: nothing does, and it says so).
    5. **Batches are not transactions.** Items take effect in order, each alone;
       the outcomes come in the order asked.
    6. **Never negative.** No sequence of calls makes a count fall below zero.
    7. **Versions.** A target's version is the number of membership changes so far,
       written with them: it survives restarts and is the same on every node.
    8. **Once answered.** ``done`` is called exactly once, also when the store is
       closed with calls still waiting.
    9. **Scans are of one moment.** ``scan`` calls ``on_begin`` once, and gives exactly
       the hearts as they were then: with every change that was answered before, and
       with none that is answered after.
    10. **Recounts are of one moment.** Count, version and rows of a ``Recount`` belong together,
        whatever is written meanwhile.
    11. **Repair compares first.** ``repair`` changes nothing unless count and version are still
        the ones seen; then count and rows are equal, and a count that changed has a new version.
    12. **Nothing is out of sight.** ``kinds`` names every kind that a heart ever had, and walking
        ``targets`` to the end names every target and kind that had one before the walk began.
    13. **An event per effect.** A store that keeps events writes one for every change, with it
        or not at all: what is answered as changed has exactly one, what a crash undid has none.
    14. **Events in order.** Numbers start at 1 and have no gap; their order is the order of
        effects. Whoever has seen a number never finds a lower one that was not there before.
    15. **Trimmed from the oldest.** ``trim_events`` takes events away from the front only, and
        numbers go on from where they were, also after a restart.
    16. **Once per receipt.** What is asked again with a receipt of the same name is not done
        again: the answer is that of the first time, whatever happened since. The receipt is
        written with the effect, or not at all.
    17. **One request per receipt.** A receipt of the same name and another fingerprint is
        answered with ``InvalidInput``, and changes nothing.
    18. **Receipts end.** One whose ``until_ms`` has passed is as if it had never been.
    19. **Recalling does nothing.** ``recall`` tells what ``once`` would repeat, and leaves no trace.
    20. **Walks miss nothing that stays.** Going through ``walk`` from "" gives every heart that is
        there all the while once, and none that is not there at the time of its page.
    """

    is_durable: bool
    """Whether guarantee 4 means anything here."""
    keeps_events: bool
    """Whether changes write events (guarantees 13 to 15)."""

    def add(self, keys: Sequence[HeartKey], now_ms: int, done: Done) -> None:
        """Remember that these users hearted these targets.

        Plain, not a coroutine: the hot path calls it without making a task.
        ``hearts.store.awaiting.Awaiting`` gives the awaitable form.

        Args:
            keys: 1 to 500 keys; the same key may occur twice.
            now_ms: Wall time in milliseconds; becomes ``Heart.created_ms`` of new ones.
            done: Called exactly once on the loop, at once or after the commit, with
                one outcome per key in order, or with ``StoreUnavailable``: then
                nothing was written, or it is not known whether it was, and the same
                call may be repeated.
        """
        ...

    def load(
        self, keys: Sequence[HeartKey], times_ms: Sequence[int], done: Done, cause: Cause = "import"
    ) -> None:
        """``add`` for imports: each key with a time of its own.

        Ids are made now, in the order given, so lists show imported hearts in that order.
        """
        ...

    def remove(self, keys: Sequence[HeartKey], now_ms: int, done: Done, cause: Cause = "user") -> None:
        """Forget these hearts. Arguments and ``done`` as in ``add``."""
        ...

    def once(self, receipt: Receipt, steps: Sequence[Step], now_ms: int, done: OnceDone) -> None:
        """Give and take back these hearts, all of them or none, if that was not done before.

        Args:
            receipt: Says what "before" means.
            steps: 1 to 1,000, taken in order.
            done: As in ``add``; ``InvalidInput`` has the code ``idempotency_key_reused``.
        """
        ...

    async def recall(self, receipt: Receipt, now_ms: int) -> Once | None:
        """What was done under this receipt; None: nothing yet, or it is over.

        Raises:
            InvalidInput: code ``idempotency_key_reused``, as ``once`` would answer.
            StoreUnavailable: the store cannot answer now.
        """
        ...

    def counts(self, target_ids: Sequence[str], kind: str, done: CountsDone) -> None:
        """Counts and versions in the order asked; a target nobody hearted counts 0."""
        ...

    def hearted(self, user_id: str, target_ids: Sequence[str], kind: str, done: HeartedDone) -> None:
        """Whether this user hearts each of these targets, in the order asked."""
        ...

    async def find(self, heart_id: str) -> Heart | None:
        """The heart with this id, or None."""
        ...

    async def page(
        self, *, target_id: str | None, user_id: str | None, kind: str, after: str, limit: int
    ) -> list[Heart]:
        """Hearts of a target, of a user, or of both, oldest id first.

        Args:
            target_id: Only of this target; None for any. One of the two must be given.
            user_id: Only of this user; None for any.
            kind: Only of this kind.
            after: Only ids greater than this; "" from the start.
            limit: At most so many, 1 to 200.

        Raises:
            StoreUnavailable: the store cannot answer now.
        """
        ...

    def scan(self, on_begin: Callable[[], None] = nothing) -> AsyncIterator[list[Heart]]:
        """Every heart once, in batches, in no set order; for rebuilding views.

        Args:
            on_begin: Called on the loop, before the first batch, at the moment that is
                scanned. What it raises ends the scan.

        Raises:
            StoreUnavailable: the store cannot be read now, or not to its end.
        """
        ...

    async def walk(self, after: str, limit: int) -> list[Heart]:
        """The next hearts of all, in order of ids; not of one moment, and holding nothing.

        Args:
            after: Only ids greater than this; "" from the start.
            limit: At most so many, 1 to 2,000; fewer only at the end.

        Raises:
            StoreUnavailable: as all methods below.
        """
        ...

    async def kinds(self) -> list[str]:
        """Every kind there is, in no set order.

        Raises:
            StoreUnavailable: as all methods below.
        """
        ...

    async def targets(self, after: str, limit: int) -> tuple[list[tuple[str, str]], str]:
        """The next targets of all, each with its kind; for walking through them.

        Args:
            after: Where the page before ended; "" from the start.
            limit: About so many, 1 to 1,000; a page may be shorter or empty without being the last.

        Returns:
            (target, kind) pairs, some perhaps twice, and where to go on; "" at the end.
        """
        ...

    async def recount(self, target_ids: Sequence[str], kind: str) -> list[Recount]:
        """Count these targets' hearts one by one, in the order asked. At most 1,000 targets."""
        ...

    async def repair(self, target_id: str, kind: str, seen_count: int, seen_version: int) -> Count | None:
        """Make a target's count what its rows say, if nobody changed it since it was seen.

        Returns:
            The count as it is now; None: it is not as it was seen, and was left alone.
        """
        ...

    async def events(self, after: int, limit: int) -> EventPage:
        """The next events.

        Args:
            after: Only greater numbers, >= 0.
            limit: At most so many, 1 to 1,000. A page may be shorter without being the last:
                more is there while its last number is below ``EventPage.last``.
        """
        ...

    async def trim_events(self, before_ms: int, up_to: int) -> int:
        """Drop the oldest events, as far as they were written before ``before_ms``.

        Args:
            up_to: The greatest number that may go.

        Returns:
            How many went; some more may stay until later, since they are kept in blocks.
        """
        ...

    async def close(self) -> None:
        """Write what waits, answer every call, release what is held. Repeating it does nothing."""
        ...
