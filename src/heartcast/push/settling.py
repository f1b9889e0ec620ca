"""Taking pushes that ended on their way out of the place that keeps them.

A push that goes to its user's own channel is in the inbox. One that only calls somebody
has no business there: it stays in the journal until it has ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from heartcast.push.inbox import Inbox
from heartcast.push.journal import Change, Journal
from heartcast.push.model import Push


class Settling:
    """Journal and inbox, seen from the end of a push."""

    __slots__ = ("_inbox", "_journal")

    def __init__(self, inbox: Inbox, journal: Journal) -> None:
        self._inbox = inbox
        self._journal = journal

    def settle(self, pushes: Sequence[Push], *, is_lost: bool, now_ms: int) -> None:
        """These were ``SENT`` and have ended; see ``Inbox.settle``."""
        if outside := [push for push in pushes if not push.offset]:
            self._journal.write(Change(ended=outside), None)
            pushes = [push for push in pushes if push.offset]
        self._inbox.settle(pushes, is_lost=is_lost, now_ms=now_ms)
