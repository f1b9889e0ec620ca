"""Where ranking keeps what cannot be found out again: feedback, strategies, what items are.

Hearts are in the heart store; this is the rest. Feedback is a log that is read once, at start,
to fill the models anew; they are views of it and never stored themselves, so they cannot
disagree with it. *Documents* are small JSON values on named shelves.

The in-memory store is the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from heartcast.core.errors import StoreUnavailable
from heartcast.ranking.feedback import Feedback

MAX_EVENTS = 1000
"""Events in one call of ``append``."""


class Document(NamedTuple):
    """A value on a shelf."""

    shelf: str
    key: str
    value: bytes | None
    """JSON; None takes the document away."""


Appended = Callable[[list[bool] | StoreUnavailable], None]
"""Told which of the events were new, in order, or that nothing was written."""
Put = Callable[[StoreUnavailable | None], None]


class RankingStore(Protocol):
    """Feedback and documents.

    Guarantees, each with a contract test of the same number:

    1. **Once.** An event whose id is in the log already is not added again and is told so, also
       within one call and after a restart.
    2. **Durable before answered.** When a callback is called without an error, what it is about
       survives ``kill -9`` (memory: nothing does, and it says so).
    3. **In order.** ``feedback`` gives every event that was not forgotten, in the order in which
       they were appended.
    4. **Bounded.** After ``forget`` no event is older than its time, and there are at most as many
       as it says; the oldest go first.
    5. **Last document wins.** ``documents`` gives the last value of every key of a shelf, by key.
       Documents of one call are put together or not at all.
    6. **Once answered, in order.** Every callback is called exactly once, at once or on the loop, in
       the order of the calls, also when the store is closed with calls still waiting.
    """

    is_durable: bool
    """Whether guarantee 2 means anything here."""

    position: int
    """Place in the log of the newest event that was answered; 0 before the first."""

    def append(self, events: Sequence[Feedback], done: Appended) -> None:
        """Add events, 1 to 1,000, at the end of the log."""
        ...

    def put(self, documents: Sequence[Document], done: Put) -> None:
        """Put documents on their shelves, or take them away."""
        ...

    def feedback(self, until: int | None = None) -> Iterator[list[Feedback]]:
        """The log in pieces of some thousands; asked at start and for rebuilding, may be
        called on any thread.

        Args:
            until: A ``position``: nothing that came after it; None: to the end.

        Raises:
            StoreUnavailable: it cannot be read, or not to its end.
        """
        ...

    def documents(self, shelf: str) -> dict[str, bytes]:
        """Everything on a shelf, ordered by key; asked at start.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        ...

    def forget(self, before_ms: int, most: int) -> None:
        """Drop events that happened before this wall time, and the oldest beyond ``most``. Soon, not now."""
        ...

    async def close(self) -> None:
        """Write what waits, answer every call, release what is held. Repeating it does nothing."""
        ...
