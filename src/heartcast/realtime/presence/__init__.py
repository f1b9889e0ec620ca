"""Who is in a channel, in all processes together.

Whoever is subscribed counts, as many times as there are subscriptions; the same user
on three devices is three clients and one user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from heartcast.core.errors import StoreUnavailable

MAX_PAGE = 1_000
"""Members in an answer. Whoever wants to know how many there are asks for the counts."""


class Member(NamedTuple):
    """One subscription."""

    client: str
    user: str
    """"" for nobody's."""


class Counts(NamedTuple):
    """How many are there."""

    clients: int
    users: int
    """Different users; all without one count as one."""


Members = Callable[[str], Iterable[Member]]
"""Everyone who is in a channel in this process."""
Counted = Callable[[Counts | StoreUnavailable], None]
Paged = Callable[[list[Member] | StoreUnavailable], None]


class Presence(Protocol):
    """Counts who comes and goes.

    Guarantees, each with a contract test of the same number:

    1. **Counted at once.** Whoever entered through this process is in its next answers,
       whoever left is not; other processes follow within a second while nothing fails.
    2. **Cheap to ask.** Counting costs the same for ten members and for a million, and a
       page never looks at more than ``MAX_PAGE`` members or so.
    3. **Nobody stays for ever.** Members of a process that died are gone within a minute.
    4. **Once answered.** Every callback is called exactly once, at once or on the loop.
    """

    def enter(self, channel: str, member: Member) -> None: ...

    def leave(self, channel: str, member: Member) -> None: ...

    def count(self, channel: str, done: Counted) -> None: ...

    def page(self, channel: str, done: Paged) -> None:
        """Members, at most about ``MAX_PAGE`` of them, in no order."""
        ...
