"""Where a channel's recent publications are kept, and how a client catches up.

A position is an *offset* (1, 2, 3, … per channel) within an *epoch*. The epoch names
one life of the log: when the log is lost (a restart of the in-memory one), the epoch
changes, and a client that comes back with an old one is told that it cannot recover,
instead of being handed offsets that mean something else now.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from heartcast.core.errors import StoreUnavailable


class Position(NamedTuple):
    """A place in a channel's log."""

    offset: int
    """Offset of the newest publication at or before this place; 0: before the first."""
    epoch: str


class Publication(NamedTuple):
    """One message of a channel, encoded once."""

    data: bytes
    """The payload as compact JSON."""
    offset: int = 0
    """0: the channel keeps no log, or this is a redelivery, which must not move a client's position."""
    tags: dict[str, str] | None = None
    client: bytes | None = None
    """The publishing client's info as JSON (``{"user":…,"client":…}``); None when a server published."""


class Complete(NamedTuple):
    """Everything after the asked position, nothing missing."""

    publications: list[Publication]
    top: Position


class Gap(NamedTuple):
    """The asked position cannot be continued: another epoch, or trimmed away."""

    top: Position


Since = Callable[[Complete | Gap | StoreUnavailable], None]
Appended = Callable[[Position | StoreUnavailable], None]
Limits = Callable[[str], tuple[int, float]]
"""Gives a channel's history size and history TTL in seconds."""


class ChannelLog(Protocol):
    """The log of all channels of one namespace or more.

    Guarantees, each with a contract test of the same number:

    1. **Dense.** Offsets of one channel within one epoch are 1, 2, 3, … without holes.
    2. **Whole or nothing.** ``since`` answers ``Complete`` only when every publication
       after the asked position is in it; otherwise ``Gap``. Never a part.
    3. **Other life.** A position of another epoch, or beyond the top, is a ``Gap``.
    4. **Bounded.** No channel keeps more than its namespace's history size, nor
       anything older than its history TTL.
    5. **Once answered.** Every callback is called exactly once, at once or on the loop.
    6. **Once appended.** A key that was given before, in the last five minutes, appends
       nothing and answers with the first position.
    """

    announces: bool
    """Whether appending publishes too, as one step; otherwise whoever appends hands the
    publication to the broker."""

    def append(
        self,
        channel: str,
        data: bytes,
        tags: dict[str, str] | None,
        client: bytes | None,
        done: Appended,
        *,
        key: str | None = None,
    ) -> None:
        """Add a publication at the end.

        Args:
            key: Names this publication, so that it can be tried again after a failure that
                left its fate open; None: every call is another one.
        """
        ...

    def since(self, channel: str, position: Position | None, limit: int, done: Since) -> None:
        """What came after ``position``, oldest first.

        Args:
            position: Where the client stands; None: only the top is wanted.
            limit: More than so many missing publications are a ``Gap``.
        """
        ...

    def history(self, channel: str, after: Position | None, limit: int, reverse: bool, done: Since) -> None:
        """A page of the log for the history command: at most ``limit`` publications
        after ``after`` (before it when ``reverse``); limit 0: only the top."""
        ...
