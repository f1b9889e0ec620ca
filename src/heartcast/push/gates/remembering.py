"""The gates that remember: caps, wishes for few, duplicates, collapses, digests.

Each keeps what it counted in memory and notes it in the journal. Here they are made,
restored and made to forget together.
"""

from __future__ import annotations

from collections.abc import Callable

from heartcast.push.digests import KIND as DIGESTS
from heartcast.push.digests import Absorb, Digests, MayPass
from heartcast.push.gates.cap import KIND as CAPS
from heartcast.push.gates.cap import Caps
from heartcast.push.gates.frequency import KIND as FREQUENCY
from heartcast.push.gates.frequency import Frequencies
from heartcast.push.gates.preference import WishesOf
from heartcast.push.gates.repeats import KIND as KEYS
from heartcast.push.gates.repeats import Collapses, Duplicates
from heartcast.push.journal import Journal, Note
from heartcast.push.model import Push
from heartcast.push.options import PushOptions


class Remembering:
    """All gates with a memory.

    Args:
        note: Given what must be remembered.
        replace: ``replace(older, newer, now_ms)`` ends a push that is in the inbox.
    """

    def __init__(
        self,
        options: PushOptions,
        *,
        wishes_of: WishesOf,
        note: Callable[[Note], None],
        replace: Callable[[Push, Push, int], None],
        may_pass: MayPass,
        absorb: Absorb,
    ) -> None:
        self.caps = Caps(options.cap, options.category_caps, note)
        self.frequencies = Frequencies(wishes_of, note)
        self.duplicates = Duplicates(options.max_dedupe_keys, note)
        self.collapses = Collapses(replace)
        self.digests = Digests(
            options.max_payload_bytes, wishes_of=wishes_of, note=note, may_pass=may_pass, absorb=absorb
        )

    def ended(self, push: Push) -> None:
        """A push with extras ended."""
        self.digests.left(push)
        if push.asked.dedupe_key:
            self.duplicates.ended(push)
        if push.asked.collapse_key:
            self.collapses.ended(push)

    def restore(self, journal: Journal, now_ms: int) -> None:
        """Remember what an earlier process noted."""
        self.caps.restore(journal.notes(CAPS, now_ms))
        self.duplicates.restore(journal.notes(KEYS, now_ms))
        self.frequencies.restore(journal.notes(FREQUENCY, now_ms))
        self.digests.restore(journal.notes(DIGESTS, now_ms))

    def restore_sent(self, push: Push) -> None:
        """A push with extras that an earlier process put into the inbox."""
        if push.asked.collapse_key:
            self.collapses.add(push)

    def forget(self, now_ms: int) -> None:
        """Drop some of what ran out; called every second."""
        self.duplicates.forget(now_ms)
        self.digests.forget(now_ms)
