"""What people would like next, as of their last heart.

The model behind ``recommend``: everybody's recent history (``Histories``), which items go
together (``Together``), and who hearted an item lately (``Fans``). A batch of events is a few
dozen array operations, and the next request sees it; nothing is refitted.

A history fades by *events*, not by hours: the newest counts 1, the one ``half_life_events``
before it half. Strengths are then the same numbers for everybody and do not change while
nobody does anything.

Bounded: ``max_users`` and ``max_items`` as they come; who comes later is counted in
``untracked`` and is served what is hot. Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from heartcast.ranking.best import best
from heartcast.ranking.fans import Fans
from heartcast.ranking.grid import MOST_ITEMS, Grid
from heartcast.ranking.histories import Histories
from heartcast.ranking.interactions import Floats, Ints
from heartcast.ranking.nearness import Indices, Nearness, Strengths
from heartcast.ranking.numbers import Numbers
from heartcast.ranking.options import TasteOptions
from heartcast.ranking.people import People, fade
from heartcast.ranking.together import Together

# Confidences are gathered as whole millionths among other integers.
_SURE_UNITS = 1_000_000

Event = tuple[str, str, float]
"""User id, item id, confidence in (0, 1]; below 0: taken back."""
Known = tuple[str, str, int, float]
"""User id, item id, wall time in milliseconds, confidence in (0, 1]."""


class Suggestion(NamedTuple):
    """An item somebody might like."""

    item_id: str
    score: float
    because: tuple[tuple[str, int], ...] = ()
    """The items of the history that led to it, strongest first, each with how many of its latest
    fans have both; only where it was asked for."""


class Neighbour(NamedTuple):
    """Somebody with a similar history."""

    user_id: str
    similarity: float
    """Shrunk cosine of the fading histories, 0 to 1."""


class Taste:
    """Histories, co-occurrence, and what follows from them. Not for sharing between threads."""

    def __init__(self, options: TasteOptions) -> None:
        self._options = options
        self._users = Numbers(options.max_users)
        self._items = Numbers(options.max_items)
        nearness = self._nearness = Nearness(options.reach, options.half_gap)
        self._histories = Histories(options.history, nearness)
        self._fans = Fans(options.fans)
        self._together: Grid | Together = Grid(options.shrink, nearness)
        self._people = People(options, self._histories, self._fans)
        self._fade = fade(options.history, options.half_life_events)
        self.untracked = 0
        """Events of users or items beyond the bounds."""

    @property
    def users(self) -> int:
        return len(self._users)

    @property
    def items(self) -> int:
        return len(self._items)

    def apply(self, events: Iterable[Event]) -> None:
        """Take events in order: the larger the batch, the less each costs. Repeating one moves
        its item to the front of the history."""
        for batch in _rounds(events):
            added = [event for event in batch if event[2] > 0]
            if added:
                self._add(added)
            for user_id, item_id, confidence in batch:
                if confidence < 0:
                    self._remove(user_id, item_id)

    def load(self, hearts: Sequence[Known]) -> None:
        """Start from what is known, in any order, at once.

        What was known of these users before is replaced; half a million a second.
        """
        self.load_numbered([self.number(hearts)])

    def number(self, hearts: Sequence[Known]) -> Ints:
        """Part of all that is known in 32 bytes each, to be gathered for ``load_numbered``: many
        hearts as tuples would take five times as much."""
        rows = np.empty((4, len(hearts)), dtype=np.int64)
        rows[0] = [-1 if (u := self._user(heart[0])) is None else u for heart in hearts]
        rows[1] = [-1 if (i := self._item(heart[1])) is None else i for heart in hearts]
        rows[2] = [heart[2] for heart in hearts]
        rows[3] = [heart[3] * _SURE_UNITS for heart in hearts]
        return rows

    def load_numbered(self, parts: Sequence[Ints]) -> None:
        """``load`` what ``number`` of this same object returned."""
        if not parts:
            return
        users, items, times, sure = np.concatenate(parts, axis=1)
        tracked = (users >= 0) & (items >= 0)
        self.untracked += int((~tracked).sum())
        order = np.lexsort((times, users))
        order = order[tracked[order]]
        # Of a pair that stands twice the newest counts: unique() takes the first, so look from behind.
        _, last = np.unique((users[order] * self._options.max_items + items[order])[::-1], return_index=True)
        order = order[np.sort(len(order) - 1 - last)]
        users, items, sure = users[order], items[order], sure[order]
        ends = np.searchsorted(users, users, side="right")
        from_end = ends - 1 - np.arange(len(users))
        kept = from_end < self._options.history
        users, items, sure, from_end = users[kept], items[kept], sure[kept], from_end[kept]
        histories = self._histories
        histories.items[users] = -1
        histories.sure[users] = 0
        histories.items[users, self._options.history - 1 - from_end] = items
        histories.sure[users, self._options.history - 1 - from_end] = sure / _SURE_UNITS
        self._fans.greet(items.astype(np.int32), users)
        self.rebuild()

    def has(self, user_id: str) -> set[str]:
        """The items of a user's history."""
        user = self._users.find(user_id)
        if user is None:
            return set()
        return {self._items.ids[item] for item in self._histories.of(user)}

    def alike(self, item_ids: Sequence[str]) -> Floats:
        """How alike given items are, 0 to 1: float64[n, n], 1 on the diagonal. Items that are
        not known are like nothing."""
        known = [place for place, item_id in enumerate(item_ids) if item_id in self._items]
        items = np.array([self._items[item_ids[place]] for place in known], dtype=np.int64)
        table = np.eye(len(item_ids))
        if not known:
            return table
        table[np.ix_(known, known)] += self._together.between(items)
        return table

    def because(self, user_id: str, item_id: str) -> tuple[tuple[str, int], ...]:
        """Which newest items of a user speak for an item, strongest first, at most three,
        each with how many people have both."""
        user, item = self._users.find(user_id), self._items.find(item_id)
        if user is None or item is None:
            return ()
        history, strengths, _ = self._recent(user)
        return self._because(history, strengths, item)

    def because_for(self, item_ids: Sequence[str], item_id: str) -> tuple[tuple[str, int], ...]:
        """The same for a session's items, oldest first."""
        item = self._items.find(item_id)
        history, strengths, _ = self._session(item_ids)
        return () if item is None else self._because(history, strengths, item)

    def recommend(
        self, user_id: str, count: int, is_allowed: Sequence[str] | None = None, explain: bool = False
    ) -> list[Suggestion]:
        """What goes with a user's newest items, best first; empty for users without history.

        Args:
            user_id: Anybody.
            count: Suggestions at most, >= 1.
            is_allowed: Only these items; None for all.
            explain: Say which items of the history led to each.
        """
        user = self._users.find(user_id)
        if user is None:
            return []
        history, strengths, everything = self._recent(user)
        return self._suggest(history, strengths, everything, count, is_allowed, explain)

    def recommend_for(self, item_ids: Sequence[str], count: int, explain: bool = False) -> list[Suggestion]:
        """The same for a visitor of whom only this history is known, oldest first."""
        history, strengths, everything = self._session(item_ids)
        if not len(history):
            return []
        return self._suggest(history, strengths, everything, count, None, explain)

    def scores(self, user_id: str, item_ids: Sequence[str]) -> Floats:
        """How well given items go with a user's newest ones: float64[len(item_ids)], NaN for
        items or users that are not known."""
        scores = np.full(len(item_ids), np.nan)
        user = self._users.find(user_id)
        if user is None:
            return scores
        history, strengths, _ = self._recent(user)
        every = self._together.score(history, strengths, len(self._items))
        for place, item_id in enumerate(item_ids):
            item = self._items.find(item_id)
            if item is not None:
                scores[place] = every[item]
        return scores

    def similar(self, item_id: str, count: int) -> list[Suggestion]:
        """The items that go with one item, best first; empty for unknown items."""
        item = self._items.find(item_id)
        if item is None:
            return []
        partners, alike = self._together.similar(item)
        order = best(alike.astype(np.float64), np.empty(0, dtype=np.int32), count)
        return [Suggestion(self._items.ids[partners[place]], float(alike[place])) for place in order]

    def neighbours(self, user_id: str, count: int) -> list[Neighbour]:
        """The people most like a user, most similar first; empty for unknown users."""
        user = self._users.find(user_id)
        if user is None:
            return []
        found, alike = self._people.like(user, self.users, self.items)
        return [
            Neighbour(self._users.ids[other], float(similarity))
            for other, similarity in zip(found[:count].tolist(), alike.tolist(), strict=False)
        ]

    def recommend_by_people(
        self, user_id: str, count: int, is_allowed: Sequence[str] | None = None
    ) -> list[Suggestion]:
        """What the most similar people have, best first; empty for users without history.

        Args:
            is_allowed: Only these items; None for all.
        """
        user = self._users.find(user_id)
        if user is None:
            return []
        scores = self._people.scores(user, self.users, self.items)
        scores = self._only(scores, is_allowed)
        return [
            Suggestion(self._items.ids[item], float(scores[item]))
            for item in best(scores, self._histories.of(user), count)
        ]

    def settle(self) -> None:
        """Let events count for what goes together. Due every 100 ms or so while there are any;
        a user's own newest items need no settling."""
        self._together.settle()

    def rebuild(self) -> None:
        """Count afresh what goes together, from the histories as they are."""
        self._together.rebuild(self._histories.items[: len(self._users)], len(self._items))

    def _add(self, events: Sequence[Event]) -> None:
        """Take events of different people."""
        users = [self._user(event[0]) for event in events]
        items = [self._item(event[1]) for event in events]
        tracked = [n for n in range(len(events)) if users[n] is not None and items[n] is not None]
        self.untracked += len(events) - len(tracked)
        if not tracked:
            return
        people = np.array([users[n] for n in tracked], dtype=np.int64)
        hearted = np.array([items[n] for n in tracked], dtype=np.int32)
        sure = np.array([min(events[n][2], 1.0) for n in tracked], dtype=np.float32)
        pairs, is_new = self._histories.put(people, hearted, sure)
        self._together.note(pairs)
        self._together.holders.count(hearted[is_new], 1)
        self._fans.greet(hearted[is_new], people[is_new])

    def _remove(self, user_id: str, item_id: str) -> None:
        user, item = self._users.find(user_id), self._items.find(item_id)
        pairs = None if user is None or item is None else self._histories.take(user, item)
        if pairs is None:
            return
        assert user is not None
        assert item is not None
        self._together.note(pairs)
        self._together.holders.count(np.array([item], dtype=np.int32), -1)
        self._fans.leave(item, user)

    def _user(self, user_id: str) -> int | None:
        user = self._users.take(user_id)
        if user is not None:
            self._histories.grow(user + 1)
        return user

    def _item(self, item_id: str) -> int | None:
        item = self._items.take(item_id)
        if item is not None:
            if item == MOST_ITEMS and isinstance(self._together, Grid):
                self._leave(self._together)
            self._together.grow(item + 1)
            self._fans.grow(item + 1)
        return item

    def _leave(self, grid: Grid) -> None:
        """There is one item too many for a number for every pair."""
        self._together = Together(self._options.partners, self._options.shrink, self._nearness)
        self._together.take_over(grid, MOST_ITEMS)

    def _recent(self, user: int) -> tuple[Indices, Strengths, Indices]:
        """The newest items, their strengths, and all items of a user's history."""
        looked_at = self._options.looked_at
        newest = self._histories.items[user, -looked_at:]
        taken = newest >= 0
        strengths = self._fade[-looked_at:] * self._histories.sure[user, -looked_at:]
        return newest[taken], strengths[taken], self._histories.of(user)

    def _session(self, item_ids: Sequence[str]) -> tuple[Indices, Strengths, Indices]:
        """``_recent`` of somebody who has only these items, oldest first."""
        named = dict.fromkeys(reversed(item_ids))
        newest = [self._items[item_id] for item_id in named if item_id in self._items]
        everything = np.array(newest[::-1], dtype=np.int32)
        history = everything[-self._options.looked_at :]
        return history, self._fade[len(self._fade) - len(history) :], everything

    def _suggest(
        self,
        history: Indices,
        strengths: Strengths,
        excluded: Indices,
        count: int,
        is_allowed: Sequence[str] | None,
        explain: bool,
    ) -> list[Suggestion]:
        scores = self._only(self._together.score(history, strengths, len(self._items)), is_allowed)
        found = best(scores, excluded, count)
        reasons = [self._because(history, strengths, item) if explain else () for item in found]
        return [
            Suggestion(self._items.ids[item], float(scores[item]), because)
            for item, because in zip(found, reasons, strict=True)
        ]

    def _only(self, scores: Floats, is_allowed: Sequence[str] | None) -> Floats:
        if is_allowed is None:
            return scores
        allowed = [self._items[item_id] for item_id in is_allowed if item_id in self._items]
        kept = np.zeros_like(scores)
        kept[allowed] = scores[allowed]
        return kept

    def _because(self, history: Indices, strengths: Strengths, item: int) -> tuple[tuple[str, int], ...]:
        parts = strengths * self._together.toward(history, item)
        order = np.argsort(-parts, kind="stable")[:3]
        strongest = history[order[parts[order] > 0]]
        reasons = strongest.tolist()
        shared = self._fans.shared(item, reasons)
        return tuple((self._items.ids[one], fans) for one, fans in zip(reasons, shared, strict=True))


def _rounds(events: Iterable[Event]) -> list[list[Event]]:
    """The events in lists in which nobody stands twice, each person's in order."""
    rounds: list[list[Event]] = []
    seen: dict[str, int] = {}
    for event in events:
        place = seen[event[0]] = seen.get(event[0], -1) + 1
        if place == len(rounds):
            rounds.append([])
        rounds[place].append(event)
    return rounds
