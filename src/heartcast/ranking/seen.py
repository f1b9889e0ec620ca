"""What somebody was shown and what they waved away, so that a list does not insist.

An item shown ``tired_after`` times without a click rests until ``rest_s`` after its last showing; a
click ends the count. A dismissed item does not come back. Both are remembered per user within
bounds: of people and of their showings the longest unmoved go first, of dismissals the oldest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from heartcast.ranking.feedback import Feedback, Kind

_MAX_SHOWN = 200
"""Items shown lately, per user: a few pages of a list."""
_MAX_DISMISSED = 1000


class _Memory:
    __slots__ = ("dismissed", "shown")

    def __init__(self) -> None:
        # Item: (times shown since the last click, wall time of the last showing).
        self.shown: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self.dismissed: dict[str, None] = {}


class Seen:
    """Per user, what not to show.

    Args:
        max_users: People remembered, >= 1: up to 30 KB each, a few hundred bytes as a rule.
        tired_after: Showings without a click after which an item rests, >= 1.
        rest_s: Seconds of rest after the last showing, >= 0.
    """

    def __init__(self, max_users: int, tired_after: int, rest_s: float) -> None:
        self._max_users = max_users
        self._tired_after = tired_after
        self._rest_ms = rest_s * 1000
        self._users: OrderedDict[str, _Memory] = OrderedDict()

    def __len__(self) -> int:
        return len(self._users)

    def apply(self, events: Iterable[Feedback]) -> None:
        """Take events, oldest first."""
        for event in events:
            if event.kind is Kind.EXPOSURE:
                self._showed(self._memory(event.user_id).shown, event)
            elif event.kind is Kind.CLICK:
                self._memory(event.user_id).shown.pop(event.item_id, None)
            elif event.kind is Kind.DISMISSAL:
                dismissed = self._memory(event.user_id).dismissed
                dismissed[event.item_id] = None
                if len(dismissed) > _MAX_DISMISSED:
                    del dismissed[next(iter(dismissed))]

    def hides(self, user_id: str, now_ms: int) -> set[str]:
        """The items not to show this user now."""
        memory = self._users.get(user_id)
        if memory is None:
            return set()
        tired = {
            item_id
            for item_id, (times, last_ms) in memory.shown.items()
            if times >= self._tired_after and now_ms - last_ms < self._rest_ms
        }
        return tired.union(memory.dismissed)

    def _showed(self, shown: OrderedDict[str, tuple[int, int]], event: Feedback) -> None:
        times, last_ms = shown.get(event.item_id, (0, event.at_ms))
        # After its rest an item starts afresh.
        if event.at_ms - last_ms >= self._rest_ms:
            times = 0
        shown[event.item_id] = (times + 1, max(last_ms, event.at_ms))
        shown.move_to_end(event.item_id)
        if len(shown) > _MAX_SHOWN:
            shown.popitem(last=False)

    def _memory(self, user_id: str) -> _Memory:
        memory = self._users.get(user_id)
        if memory is None:
            memory = self._users[user_id] = _Memory()
            if len(self._users) > self._max_users:
                self._users.popitem(last=False)
        else:
            self._users.move_to_end(user_id)
        return memory
