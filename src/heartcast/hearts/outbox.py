"""The feed: every change of every heart, in order, for programs that keep their own place.

A consumer stores the cursor of what it has taken in together with its own effect, in one
transaction of its own. Whatever dies then, on either side, it goes on where it stands:
nothing is missed and nothing happens twice.

A cursor is the number of the last event taken, with the epoch of the numbers in front. It
never grows old by itself. It is refused, and never silently moved, when events behind it
were trimmed or when the numbers are of another history (a restored backup, another store).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import NamedTuple

import structlog

from heartcast.core.clock import Clock
from heartcast.core.errors import Gone, InvalidInput, NotFound, Overloaded, StoreUnavailable
from heartcast.hearts.model import HIDDEN, HeartChanged, HeartEvent
from heartcast.hearts.options import OutboxOptions
from heartcast.hearts.store import HeartStore

MAX_EVENTS = 1_000
"""In one page."""
MAX_WAIT_S = 30.0
LATEST = "latest"
"""As a cursor: only what happens from now on."""

_MAX_WAITERS = 256
_LOOK_S = 0.25
"""Between two looks for events that other nodes wrote, while somebody waits."""
_TRIM_S = 60.0
_CURSOR = re.compile(r"([0-9a-f]{16})-([0-9]{1,18})")

_log = structlog.get_logger("heartcast")


class Page(NamedTuple):
    """Some events, oldest first. May have none, or fewer than asked for, and not be the last."""

    events: list[HeartEvent]
    epoch: str
    number: int
    """Of the last event that was looked at: where the next page begins."""
    last: int
    """Number of the newest event there is."""

    @property
    def cursor(self) -> str:
        """Where the next page begins."""
        return cursor_of(self.epoch, self.number)


def cursor_of(epoch: str, number: int) -> str:
    """The cursor of a consumer that has taken everything up to ``number``."""
    return f"{epoch}-{number}"


class Feed:
    """Pages of events, and waiting for the next one.

    Follows the bus only to wake those who wait sooner; what it gives is what the store has.
    """

    def __init__(self, store: HeartStore, options: OutboxOptions, clock: Clock) -> None:
        self._store = store
        self._retention_ms = options.retention_s * 1000
        self._now_ms = clock.wall_ms
        self._news = asyncio.Event()
        self._waiting = 0
        self.is_stopping: Callable[[], bool] = lambda: False
        """Says that nobody may wait any longer."""
        self._holds: dict[str, Callable[[], int]] = {}
        self.last = 0
        """Number of the newest event that was seen."""
        self.trimmed = 0
        """Events dropped because their time was over."""

    def hold(self, name: str, number: Callable[[], int]) -> None:
        """Let nothing be trimmed that ``name`` has not taken yet.

        Args:
            number: Says what it has taken.
        """
        self._holds[name] = number

    def lags(self) -> dict[str, int]:
        """Events that each follower inside this program has yet to take."""
        return {name: max(0, self.last - number()) for name, number in self._holds.items()}

    def apply(self, events: list[HeartChanged]) -> None:
        """Something changed: wake who waits."""
        if self._waiting:
            self._wake()

    def mark_stale(self) -> None:
        """As ``apply``: what happened is read from the store anyway."""
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def read(self, after: str, limit: int, wait_s: float = 0.0) -> Page:
        """The next events.

        Args:
            after: A cursor; "" for the oldest event that is kept, ``latest`` for none of those there are.
            limit: 1 to 1,000.
            wait_s: How long to wait for the first event when there is none, 0 to 30.

        Raises:
            InvalidInput: this is no cursor.
            Gone: code ``events_gone``; events behind the cursor are not kept any more, or it is of another
                history.
            NotFound: this store keeps no events.
            Overloaded: too many wait already.
            StoreUnavailable: the store cannot answer now.
        """
        news = self._news
        page = await self._page(after, limit)
        if page.number < page.last or page.events or wait_s <= 0 or self.is_stopping():
            return page
        if self._waiting >= _MAX_WAITERS:
            raise Overloaded("too many wait for events; ask again without waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout(wait_s):
                while page.number == page.last and not page.events and not self.is_stopping():
                    await news.wait()
                    news = self._news
                    page = await self._page(page.cursor, limit)
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1
        return page

    async def _page(self, after: str, limit: int) -> Page:
        if not self._store.keeps_events:
            raise NotFound("events are not kept; set hearts.outbox.is_on", code="events_off")
        epoch, number = _parsed(after)
        found_epoch, last, events = await self._store.events(number, limit)
        self.last = max(self.last, last)
        if after == LATEST:
            return Page([], found_epoch, last, last)
        if epoch:
            _check(epoch == found_epoch and number <= last, "this cursor is of another history of events")
            reaches = events[0].number if events else last + 1
            _check(reaches == number + 1, "events behind this cursor are no longer kept")
        newest = events[-1].number if events else max(number, last)
        # What only its giver sees is nobody's event.
        counted = [event for event in events if not event.change.kind.startswith(HIDDEN)]
        return Page(counted, found_epoch, newest, last)

    async def run(self) -> None:
        """Look for events of other nodes while somebody waits, and trim. Ends when cancelled."""
        trim_in_s = 0.0
        while True:
            try:
                if self._waiting:
                    await self._look()
                if self.is_stopping():
                    self._wake()
                if trim_in_s <= 0:
                    trim_in_s = _TRIM_S
                    await self.trim()
            except StoreUnavailable:
                # Its own log says so; the next turn is soon enough.
                pass
            except Exception:
                _log.exception("events_fault")
            await asyncio.sleep(_LOOK_S)
            trim_in_s -= _LOOK_S

    async def _look(self) -> None:
        seen = self.last
        last = (await self._store.events(seen, 1)).last
        if last > seen:
            self.last = last
            self._wake()

    async def trim(self) -> None:
        """Drop events whose time is over and that nobody in this program waits for.

        Raises:
            StoreUnavailable: the store cannot do it now.
        """
        if not self._store.keeps_events:
            return
        before_ms = int(self._now_ms() - self._retention_ms)
        up_to = min((number() for number in self._holds.values()), default=(1 << 62))
        self.trimmed += await self._store.trim_events(before_ms, up_to)
        self.last = max(self.last, (await self._store.events(self.last, 1)).last)


def _parsed(after: str) -> tuple[str, int]:
    if after in ("", LATEST):
        return "", 0
    match = _CURSOR.fullmatch(after)
    if match is None:
        raise InvalidInput('must be a cursor of this feed, "latest", or left out', code="invalid_cursor")
    return match[1], int(match[2])


def _check(is_good: bool, problem: str) -> None:
    if not is_good:
        raise Gone(
            f"{problem}; take stock of the hearts there are, then go on without a cursor", code="events_gone"
        )
