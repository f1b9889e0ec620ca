"""A scan of one moment, in a store that has no snapshots.

The scan walks through all hearts by id. Meanwhile every change that is answered is
noted: what came is left out, what went is given all the same if the walk had not
reached it. Since replies come in the order of the commands, "had not reached it" is
exact. Changes made by other processes meanwhile may or may not be seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from heartcast.hearts.model import Heart, Outcome


class Walk:
    """One scan under way."""

    __slots__ = ("_came", "_went", "reached")

    def __init__(self) -> None:
        self._came: set[str] = set()
        self._went: dict[str, Heart] = {}
        self.reached = ""
        """The last id the walk has seen."""

    def note(self, outcomes: Sequence[Outcome], *, is_add: bool) -> None:
        """Changes that were just answered."""
        for outcome in outcomes:
            heart = outcome.heart
            if not outcome.changed or heart is None:
                continue
            if is_add:
                self._came.add(heart.id)
            elif heart.id > self.reached and heart.id not in self._came:
                self._went[heart.id] = heart

    def keep(self, hearts: list[Heart]) -> list[Heart]:
        """A page's hearts that were there when the scan began."""
        return [heart for heart in hearts if heart.id not in self._came]

    def rest(self) -> list[Heart]:
        """At the end: hearts that went before the walk reached them."""
        return list(self._went.values())
