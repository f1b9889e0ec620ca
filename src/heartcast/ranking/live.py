"""Hot lists as they move, for whoever watches.

Events come in thousands per second; eyes follow a few changes. So events only note
that something moved, and a timer compares each watched board with what was published
last: an order or a rounded score that differs goes out, anything else does not. With no
events at all scores still fade, so every few seconds a board is looked at again, watched
or not: whoever subscribes next is handed the last publication, and it must not be old.
A board that nobody ever watched costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from heartcast.ranking.boards import Event, HotBoards
from heartcast.ranking.options import HotOptions

PLACES = 20
"""Places in a publication."""

_PREFIX = "hot:"
# Thousandths: what a list shows. The least change that is worth a publication.
_DIGITS = 3

_encode = msgspec.json.Encoder().encode


class HotItem(msgspec.Struct, frozen=True):
    """An item's place on a board."""

    item_id: str
    score: float
    """Time-decayed hearts: 1.0 is one heart this very moment."""
    rank: int
    """1 is the hottest."""


class HotList(msgspec.Struct, frozen=True):
    """A board, or its best places."""

    board: str
    items: list[HotItem]


def hot_list(
    boards: HotBoards, board: str, limit: int, now_ms: int, among: Sequence[str] | None = None
) -> HotList:
    """The first ``limit`` places (1 to 100) as they are shown.

    Args:
        among: Only these items; None: all.

    Raises:
        KeyError: there is no such board.
    """
    best = boards.top(board, limit, now_ms) if among is None else boards.among(board, among, limit, now_ms)
    return HotList(
        board,
        [HotItem(item_id, round(score, _DIGITS), rank) for rank, (item_id, score) in enumerate(best, 1)],
    )


class LiveHot:
    """Follows hearts for the boards, and publishes what visibly changed.

    Args:
        boards: The boards; this object feeds them.
        options: How often to publish.
        publish: ``publish(channel, data)`` sends JSON to everybody subscribed.
        is_watched: Whether a channel has a subscriber.
        later: Calls a function once after so many seconds (``loop.call_later``).
        wall_ms: The wall clock.
    """

    def __init__(
        self,
        boards: HotBoards,
        options: HotOptions,
        *,
        publish: Callable[[str, bytes], object],
        is_watched: Callable[[str], bool],
        later: Callable[[float, Callable[[], None]], object],
        wall_ms: Callable[[], int],
    ) -> None:
        self._boards = boards
        self._options = options
        self._publish = publish
        self._is_watched = is_watched
        self._later = later
        self._wall_ms = wall_ms
        self._shown: dict[str, HotList] = {}
        # Number of the timer that counts; an earlier one that still fires finds itself
        # outdated. call_later handles need no cancelling this way.
        self._timer = 0
        self._is_moving = False
        self.published = 0
        """Publications sent."""

    def apply(self, events: Sequence[Event]) -> None:
        """Hand events to the boards; a publication follows within ``publish_interval_s``."""
        self._boards.apply(events)
        if not self._is_moving:
            self._is_moving = True
            self._arm(self._options.publish_interval_s)

    def source(self, channel: str, done: Callable[[bytes | None], None]) -> None:
        """The latest value of a ``hot:`` channel, for ``hub.seed``; None for no such board."""
        board = channel.removeprefix(_PREFIX)
        if board not in self._boards:
            done(None)
            return
        now = hot_list(self._boards, board, PLACES, self._wall_ms())
        self._shown.setdefault(board, now)
        if not self._is_moving:
            self._arm(self._options.refresh_interval_s)
        done(_encode(now))

    def flush(self) -> None:
        """Publish what visibly changed: watched boards after events, all that were ever
        shown when it is time to refresh."""
        is_refresh, self._is_moving = not self._is_moving, False
        for board in self._boards.names:
            channel = _PREFIX + board
            if (is_refresh and board in self._shown) or self._is_watched(channel):
                self._show(board, channel)
        if self._shown:
            self._arm(self._options.refresh_interval_s)

    def _show(self, board: str, channel: str) -> None:
        now = hot_list(self._boards, board, PLACES, self._wall_ms())
        if now != self._shown.get(board):
            self._shown[board] = now
            self.published += 1
            self._publish(channel, _encode(now))

    def _arm(self, delay_s: float) -> None:
        self._timer += 1
        number = self._timer

        def fire() -> None:
            if number == self._timer:
                self.flush()

        self._later(delay_s, fire)
