"""Streams for the outside world: what is published to a topic reaches every group of consumers.

A stream keeps what was published in order. A *group* is a kind of consumer, like
``billing``: each group gets every entry, and within a group each entry goes to one reader.
A reader acknowledges what it has done; what it does not is given to another one after a
while. So each entry is worked off at least once by each group, and consumers tell
repetitions by the entry's id.

Any number of processes may read and write one stream where they share a store. The
in-memory store is the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Entry(NamedTuple):
    """Something that was published, as one group gets it."""

    id: str
    """``<ms>-<n>``: wall milliseconds of its publication, and a count within them."""
    data: bytes
    """JSON."""
    deliveries: int
    """How often this group was given it, this time included; more than 1: again."""


class Group(NamedTuple):
    """Where one group stands."""

    name: str
    pending: int
    """Entries that it was given and has not acknowledged."""
    lag: int | None
    """Entries that it was never given; None: the store cannot tell."""


class StreamStore(Protocol):
    """Streams and the groups that read them.

    Guarantees, each with a contract test of the same number:

    1. **Durable before answered.** What ``publish``, ``read`` and ``ack`` returned survives
       ``kill -9`` (memory: nothing does; Redis: as far as its own persistence goes).
    2. **In order, to all.** Ids only grow. Each group is given every entry that is kept, in
       the order of ids; a new group begins with the oldest.
    3. **To one reader.** An entry that was given to a group is not given to it again before
       ``idle_s`` have passed without an acknowledgement.
    4. **At least once.** After that it is given again, before new ones, with its deliveries counted.
    5. **Acknowledged is done.** It is never given to that group again. Only the first
       acknowledgement of an entry counts.
    6. **Bounded, and nothing unread goes to make room.** In a full stream ``publish`` drops what
       all groups have acknowledged, and if there is none raises ``Overloaded`` (code
       ``stream_full``). Only age (``keep_s``) drops what nobody has read.
    7. **Once per key.** A second ``publish`` with the same key and data gives the first one's id
       and adds nothing; with other data it raises ``InvalidInput`` (``idempotency_key_reused``).
    8. **Forgotten is gone.** A group that was forgotten holds nothing back; under its name a new
       one begins.

    Every call may raise ``StoreUnavailable``; then, of ``publish``, nobody knows whether it
    happened unless it had a key, with which it may be repeated.
    """

    async def publish(self, topic: str, data: bytes, key: str = "") -> str:
        """Add an entry; returns its id. ``key`` "": none."""
        ...

    async def read(self, topic: str, group: str, count: int) -> list[Entry]:
        """Up to ``count`` entries for a reader of this group; the group is made if there is none."""
        ...

    async def ack(self, topic: str, group: str, ids: Sequence[str]) -> int:
        """This group has done these; returns how many it was given and had not acknowledged."""
        ...

    async def look(self, topic: str) -> tuple[int, list[Group]]:
        """How many entries are kept, and where each group stands, by name."""
        ...

    async def forget(self, topic: str, group: str) -> bool:
        """Forget a group; False: there was none."""
        ...

    async def close(self) -> None:
        """Answer what was asked and release what is held."""
        ...
