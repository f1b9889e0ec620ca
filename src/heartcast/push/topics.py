"""Topics and their subscribers, and everybody who is known.

A topic is there as long as somebody subscribes to it. A user is *known* from the first
subscription or the first preferences until erased; a broadcast to all goes to those.

Each subscription is a note of its user, so that all that is kept of a user lies together.
Changes are made here at once and returned as notes; whoever writes them undoes the change
when they cannot be written.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from heartcast.core.errors import Overloaded
from heartcast.core.ordered import OrderedKeys
from heartcast.push.journal import Note

SUBSCRIPTIONS = "s:"
KNOWN = "u:"
_NOBODY = OrderedKeys()


class Changed(NamedTuple):
    """Subscriptions that were made or ended by one call."""

    added: list[str]
    """Users who subscribe now and did not before."""
    removed: list[str]
    notes: list[Note]
    """What the journal must be told."""
    met: list[str]
    """Users who were not known before."""


class Topics:
    """Who subscribes to what.

    Args:
        limit: Subscriptions kept, all topics together; about 0.1 KB each.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._topics: dict[str, OrderedKeys] = {}
        self.everybody = OrderedKeys()
        """Every known user."""
        self.subscriptions = 0
        """Subscriptions of all topics together."""

    # ── looking ──────────────────────────────────────────────────────────────

    def subscribers(self, topic: str) -> OrderedKeys:
        """The subscribers of a topic, not to be changed; none when there is no such topic."""
        return self._topics.get(topic, _NOBODY)

    def page(self, after: str, limit: int) -> list[str]:
        """Names of topics greater than ``after``, sorted, at most ``limit``."""
        names = sorted(self._topics)
        start = bisect_right(names, after)
        return names[start : start + limit]

    def of_user(self, user: str) -> list[str]:
        """The topics that a user subscribes to, sorted. Looks at every topic."""
        return sorted(topic for topic, users in self._topics.items() if user in users)

    # ── changing ─────────────────────────────────────────────────────────────

    def change(self, topic: str, add: Sequence[str], remove: Sequence[str]) -> Changed:
        """Let users subscribe, then end subscriptions; what is so already stays.

        Raises:
            Overloaded: there would be more subscriptions than may be; nothing has changed.
        """
        there = self.subscribers(topic)
        new = [user for user in dict.fromkeys(add) if user not in there]
        if self.subscriptions + len(new) > self._limit:
            raise Overloaded("as many subscriptions are kept as may be", retry_after_s=60, code="topics_full")
        met = [user for user in new if self.everybody.add(user)]
        for user in new:
            self._add(topic, user)
        gone = [user for user in dict.fromkeys(remove) if self._remove(topic, user)]
        notes = [Note(KNOWN + user, b"") for user in met]
        notes += [_note(topic, user, is_there=True) for user in new if user not in gone]
        notes += [_note(topic, user, is_there=False) for user in gone]
        return Changed(new, gone, notes, met)

    def undo(self, topic: str, changed: Changed) -> None:
        """The notes of this change could not be written."""
        for user in changed.added:
            self._remove(topic, user)
        for user in changed.removed:
            if user not in changed.added:
                self._add(topic, user)
        for user in changed.met:
            self.everybody.remove(user)

    def meet(self, user: str) -> list[Note]:
        """The user is known from now on."""
        return [Note(KNOWN + user, b"")] if self.everybody.add(user) else []

    def forget_user(self, user: str) -> list[Note]:
        """Forget a user; returns what the journal must forget."""
        topics = self.of_user(user)
        for topic in topics:
            self._remove(topic, user)
        self.everybody.remove(user)
        return [Note(KNOWN + user, None), *(_note(topic, user, is_there=False) for topic in topics)]

    def restore(self, subscriptions: Iterable[Note], known: Iterable[Note]) -> None:
        """Take up what an earlier process kept."""
        for note in known:
            self.everybody.add(note.key.removeprefix(KNOWN))
        for note in subscriptions:
            user, _, topic = note.key.removeprefix(SUBSCRIPTIONS).partition("\0")
            self._add(topic, user)

    def _add(self, topic: str, user: str) -> None:
        users = self._topics.setdefault(topic, OrderedKeys())
        self.subscriptions += users.add(user)

    def _remove(self, topic: str, user: str) -> bool:
        users = self._topics.get(topic)
        if users is None or not users.remove(user):
            return False
        self.subscriptions -= 1
        if not users:
            del self._topics[topic]
        return True


def _note(topic: str, user: str, *, is_there: bool) -> Note:
    return Note(f"{SUBSCRIPTIONS}{user}\0{topic}", b"" if is_there else None)
