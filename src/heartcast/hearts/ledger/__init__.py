"""Where the ledger of credit is kept.

The rules are in ``hearts.credit`` and know no database: they read what a page of events touches,
decide, and write the difference together with the place in the feed. Whoever writes says from
which place it came. If somebody else has moved on from there meanwhile, nothing is written. So any
number of nodes may follow at once, and every event is booked by one of them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple, Protocol

import msgspec

Reason = Literal["award", "cap", "clawback"]


class Place(NamedTuple):
    """How far the feed has been taken."""

    epoch: str
    number: int


class AwardKey(NamedTuple):
    """What is paid once for ever."""

    user_id: str
    target_id: str
    kind: str


class Award(msgspec.Struct, frozen=True):
    """A first heart that was seen."""

    points: int
    """0: the day's cap was reached."""
    at_ms: int
    is_taken_back: bool = False


class Account(msgspec.Struct, frozen=True):
    """What a user has."""

    points: int = 0
    day: int = 0
    """The last UTC day, in days since 1970, on which something was booked."""
    awarded: int = 0
    """Earned on that day; what was taken back counts."""


class Entry(msgspec.Struct, frozen=True):
    """One line of the ledger."""

    number: int
    """Rises with each entry of a user; 0 before it is written."""
    target_id: str
    kind: str
    points: int
    """Of an award >= 0, of a clawback <= 0; 0 when the day's cap was reached."""
    reason: Reason
    at_ms: int
    event: str
    """The event that made it; the cursor behind it."""


class Books(msgspec.Struct):
    """What there is of some users and awards; none of a key or user: it is left out."""

    awards: dict[AwardKey, Award]
    accounts: dict[str, Account]


class Bookings(msgspec.Struct):
    """What a page of events changes."""

    erased: set[str] = msgspec.field(default_factory=set)
    """Users of whom everything goes, before the rest of this is written."""
    awards: dict[AwardKey, Award] = msgspec.field(default_factory=dict)
    accounts: dict[str, Account] = msgspec.field(default_factory=dict)
    entries: list[tuple[str, Entry]] = msgspec.field(default_factory=list)
    """Users and their entries, oldest first."""


class LedgerStore(Protocol):
    """Books and a place.

    Guarantees, each with a contract test of the same number:

    1. **All or nothing.** ``write`` changes books and place together, durable before it returns.
    2. **From one place.** ``write`` changes nothing unless the place is still the one given: of
       any number of writers from one place exactly one is told True.
    3. **Erased is gone.** Of a user in ``erased`` nothing is left but what the same bookings write.
    4. **Newest first.** ``entries`` gives a user's entries in the order written, from the end.

    Every method raises ``StoreUnavailable`` when the ledger cannot answer now; of a ``write`` that
    raised it is not known whether it happened, and ``place`` tells.
    """

    async def place(self) -> Place | None:
        """The place; None: nothing was ever written."""
        ...

    async def read(self, keys: Collection[AwardKey], users: Collection[str]) -> Books:
        """What there is of these."""
        ...

    async def write(self, before: Place | None, after: Place, bookings: Bookings) -> bool:
        """Book, and move the place.

        Returns:
            False: the place is not ``before``, and nothing was changed.
        """
        ...

    async def account(self, user_id: str) -> Account:
        """What a user has; all 0 of somebody unknown."""
        ...

    async def entries(self, user_id: str, before: int, limit: int) -> list[Entry]:
        """A user's entries, newest first, with numbers below ``before``; 0: from the newest."""
        ...

    async def close(self) -> None:
        """Release what is held."""
        ...
