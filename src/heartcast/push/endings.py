"""The ends that a push does not choose: it dies, gives way to another, or becomes part of one.

A push that ends here keeps, for its trace, which other one stands for it, or leaves a dead
letter. ``Ledger.end`` makes sure that each ends once.
"""

from __future__ import annotations

from collections.abc import Callable

from heartcast.push.dead import DeadLetters
from heartcast.push.journal import Change, Journal
from heartcast.push.ledger import Ledger
from heartcast.push.model import Push, Round, State
from heartcast.push.settling import Settling

Die = Callable[[Push, str, str, int], None]
"""``die(push, reason, detail, now_ms)``: it cannot be delivered; it ends as a dead letter."""


class Endings:
    """Ends pushes for other parts, with the account and the journal."""

    __slots__ = ("_dead", "_journal", "_ledger", "_settling")

    def __init__(self, *, ledger: Ledger, journal: Journal, settling: Settling, dead: DeadLetters) -> None:
        self._ledger = ledger
        self._journal = journal
        self._settling = settling
        self._dead = dead

    def die(self, push: Push, reason: str, detail: str, now_ms: int) -> None:
        """See ``Die``; one that has ended already is left as it is."""
        if self._ledger.living(push.id) is push:
            # First the letter: a crash in between leaves both, and the push dies again.
            is_kept = self._dead.add(push, reason, detail, now_ms)
            self._ledger.end(push, State.DEAD if is_kept else State.FAILED, reason, now_ms)

    def replace(self, older: Push, newer: Push, now_ms: int) -> None:
        """One that is in the inbox gives way to a newer one of its collapse key."""
        older.made_special().rounds.append(
            Round(now_ms, "merge", State.SUPPRESSED.value, "collapsed", 0, newer.id)
        )
        if self._ledger.end(older, State.SUPPRESSED, "collapsed", now_ms):
            # Its user misses nothing: the newer one stands for it.
            self._settling.settle([older], is_lost=False, now_ms=now_ms)

    def absorb(self, push: Push, others: list[Push], payload: bytes, now_ms: int) -> None:
        """A digest: the push has the payload of all from now on, and the others end."""
        self._ledger.resize(push, payload)
        for other in others:
            other.made_special().rounds.append(
                Round(now_ms, "digest", State.SUPPRESSED.value, "merged", 0, push.id)
            )
            self._ledger.end(other, State.SUPPRESSED, "merged", now_ms)
        self._journal.write(Change(changed=[push], ended=others), None)
