"""Where pushes wait for their user.

Each user has a *mailbox*: the pushes that were sent and not yet *settled*
(acknowledged, expired, failed), in the order of their offsets. A *mark* is a place in a
mailbox: an offset within an epoch, which names one life of that mailbox. A mailbox that
was empty for a day is forgotten; the next push begins a new one with a new epoch, so
that an old mark can never be mistaken for a new one.

The in-memory inbox is the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from heartcast.core.errors import StoreUnavailable
from heartcast.push.model import Push


class Mark(NamedTuple):
    """A place in a user's mailbox."""

    offset: int
    """Offset of the newest push at or before this place; 0: before the first."""
    epoch: str


class Kept(NamedTuple):
    """Pushes after the asked mark, oldest first."""

    pushes: list[Push]
    start: Mark
    """The place before the first of them."""
    top: Mark
    """The place of the newest push that the mailbox ever had."""


class Missing(NamedTuple):
    """The asked mark cannot be continued: another epoch, or something after it was lost."""

    top: Mark


Appended = Callable[[list[Push] | StoreUnavailable], None]
Since = Callable[[Kept | Missing], None]


class Inbox(Protocol):
    """The mailboxes of all users.

    Guarantees, each with a contract test of the same number:

    1. **Dense.** The pushes of one user and epoch get the offsets 1, 2, 3, … in the order appended.
    2. **Whole or nothing.** ``since`` with a mark answers ``Kept`` only when every
       unsettled push after the mark is in it and none after it was lost (evicted or
       expired); otherwise ``Missing``.
    3. **Other life.** A mark of another epoch, or beyond the top, is ``Missing``.
    4. **Bounded.** A mailbox never keeps more than the set number of pushes; what an append pushes
       out is handed to ``done``, oldest first.
    5. **Settled is gone.** A settled push is in no later answer; settling it again does nothing.
    6. **Durable before answered.** When ``done`` is called, the pushes, their offsets and the
       epoch survive ``kill -9`` (memory: nothing does, and it says so). A settlement may be
       forgotten by a crash: the push is then sent again.
    7. **Once answered.** Every callback is called exactly once, at once or on the loop, also when the
       inbox is closed with calls still waiting.
    """

    is_durable: bool
    """Whether guarantee 6 means anything here."""

    def append(self, pushes: Sequence[Push], now_ms: int, done: Appended) -> None:
        """Put pushes into their users' mailboxes; sets their offsets.

        Args:
            now_ms: Wall time in milliseconds.
            done: Called with the pushes that fell out of full mailboxes, or with
                ``StoreUnavailable``: then none was put anywhere.
        """
        ...

    def settle(self, pushes: Iterable[Push], *, is_lost: bool, now_ms: int) -> None:
        """Take these out for good.

        Args:
            is_lost: Their users never got them (expired, failed): marks before them become ``Missing``.
        """
        ...

    def since(self, user: str, mark: Mark | None, limit: int, done: Since) -> None:
        """What waits after ``mark``.

        Args:
            mark: None: from the oldest unsettled push, at most ``limit`` of them, never ``Missing``.
            limit: With a mark, more than so many waiting pushes are ``Missing``.
        """
        ...

    def page(self, user: str, after: int, limit: int, done: Since) -> None:
        """At most ``limit`` unsettled pushes with offsets greater than ``after``, never ``Missing``."""
        ...

    def kept(self) -> Iterable[Push]:
        """Everything unsettled, oldest first; asked once, at start."""
        ...

    def forget(self, now_ms: int) -> None:
        """Drop some of the mailboxes that have been empty for a day. Called every few seconds."""
        ...

    async def close(self) -> None:
        """Write what waits, answer every call, release what is held. Repeating it does nothing."""
        ...
