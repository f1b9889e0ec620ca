"""Events to servers of others: signed POSTs, in order, each until it is taken.

A webhook is a follower whose effect is elsewhere. Its place is kept after the receiver said
2xx, so what a crash leaves open is posted again: at least once, and in order. The message id
is the cursor of the last event inside. A repetition within this process has the same body and
id; after a crash events may come again in other company, so receivers that must act once
remember the ids of events.

One that does not answer holds its own events up and nobody else's. It is tried for ever,
more and more rarely; what is trimmed in the meantime is counted as missed. 410 switches a
webhook off until somebody switches it on again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from random import Random, SystemRandom

import msgspec
import structlog

from heartcast.backends.exchange import Reply
from heartcast.backends.webhook import key_of, signed
from heartcast.core.clock import Clock, rfc3339
from heartcast.core.errors import Gone, StoreUnavailable, Unavailable
from heartcast.hearts.following import EffectsFile
from heartcast.hearts.model import HeartEvent
from heartcast.hearts.options import EventWebhook, EventWebhookOptions
from heartcast.hearts.outbox import LATEST, Feed, Page, cursor_of
from heartcast.resilience.retry import Backoff

_WAIT_S = 30.0
_REST_S = 1.0

Post = Callable[[str, bytes, Mapping[str, str]], Awaitable[Reply]]
Render = Callable[[list[HeartEvent], str], object]

_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger("heartcast")


class Webhook:
    """One receiver and how far it is.

    Args:
        name: Its place is kept under this name.
        post: Sends one body; raises ``Unavailable`` when there was no answer.
        render: The JSON of events and their epoch, as the feed shows them.
    """

    def __init__(
        self,
        name: str,
        webhook: EventWebhook,
        options: EventWebhookOptions,
        *,
        feed: Feed,
        file: EffectsFile,
        post: Post,
        render: Render,
        clock: Clock,
        random: Random | None = None,
    ) -> None:
        self.name = name
        self.url = webhook.url
        self._keys = [key_of(secret) for secret in webhook.secrets]
        self._options = options
        self._feed = feed
        self._file = file
        self._post = post
        self._render = render
        self._now_ms = clock.wall_ms
        self._backoff = Backoff(first_s=options.retry_first_s, max_s=options.retry_max_s)
        self._random = random or SystemRandom()
        self._changed = asyncio.Event()
        self.cursor = ""
        """Behind the last event that was taken; "" before the first look."""
        self.number = 0
        self.is_disabled = False
        self.delivered = 0
        """Events taken."""
        self.failures = 0
        """Tries since the last success."""
        self.last_error = ""
        self.missed = 0
        """Times that events were trimmed before they were taken."""

    @property
    def lag(self) -> int:
        """Events that it has yet to take."""
        return max(0, self._feed.last - self.number)

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            try:
                self._changed.clear()
                await self._load()
                while not self._changed.is_set():
                    if self.is_disabled:
                        await self._changed.wait()
                    else:
                        await self.step()
            except Gone as gone:
                self.missed += 1
                _log.error("events_missed", follower=self.name, detail=gone.detail)
                await self._oldest()
            except StoreUnavailable:
                await asyncio.sleep(_REST_S)
            except Exception:
                _log.exception("webhook_fault", webhook=self.name)
                await asyncio.sleep(_REST_S)

    async def step(self, wait_s: float = _WAIT_S) -> None:
        """Deliver the next events, if there are any within ``wait_s``.

        Raises:
            Gone: the next event was trimmed.
            StoreUnavailable: the store or the place cannot be read or written now.
        """
        page = await self._next_page(wait_s)
        if page is None or page.cursor == self.cursor:
            return
        if page.events and not await self._deliver(page):
            return
        if not self._changed.is_set():
            await self._file.ask(lambda connection: self._keep(connection, page.epoch, page.number))
            self.cursor, self.number = page.cursor, page.number
            self.delivered += len(page.events)

    async def _next_page(self, wait_s: float) -> Page | None:
        """None: it was told to go elsewhere meanwhile."""
        reading = asyncio.ensure_future(self._feed.read(self.cursor, self._options.max_events, wait_s))
        changing = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((reading, changing), return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else None
        finally:
            reading.cancel()
            changing.cancel()

    async def _deliver(self, page: Page) -> bool:
        """Whether it was taken; not when it was disabled or told to go elsewhere meanwhile."""
        last = page.events[-1]
        message_id = cursor_of(page.epoch, last.number)
        data = {"items": self._render(page.events, page.epoch), "cursor": message_id}
        body = _encode({"type": "hearts.changed", "timestamp": rfc3339(last.at_ms), "data": data})
        while not self._changed.is_set():
            retry_after_s = 0.0
            try:
                headers = signed(message_id, body, self._keys, self._now_ms())
                reply = await self._post(self.url, body, {**headers, "content-type": "application/json"})
            except Unavailable as error:
                self.last_error = error.detail
            else:
                if 200 <= reply.status < 300:
                    self.failures, self.last_error = 0, ""
                    return True
                self.last_error = f"status {reply.status}"
                if reply.status == 410:
                    await self._switch(is_disabled=True)
                    return False
                retry_after_s = min(reply.retry_after_s or 0.0, self._options.longest_wait_s)
            self.failures += 1
            await self._rest(retry_after_s)
        return False

    async def _rest(self, retry_after_s: float) -> None:
        wait_s = self._backoff.wait_s(self.failures, self._random, retry_after_s=retry_after_s)
        try:
            async with asyncio.timeout(wait_s):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def replay(self, after: str) -> None:
        """Go on behind this cursor, forwards or back; a webhook that was off stays off.

        Raises:
            InvalidInput, Gone: as ``Feed.read``.
            StoreUnavailable: nothing changed.
        """
        page = await self._feed.read(after, 1)
        first = page.events[0].number if page.events else page.number + 1
        await self._file.ask(lambda connection: self._keep(connection, page.epoch, first - 1))
        self.cursor, self.number = cursor_of(page.epoch, first - 1), first - 1
        self._changed.set()

    async def enable(self) -> None:
        """Post again, from where it stands.

        Raises:
            StoreUnavailable: nothing changed.
        """
        await self._switch(is_disabled=False)

    async def _switch(self, *, is_disabled: bool) -> None:
        await self._file.ask(
            lambda connection: (
                connection.execute(
                    "INSERT OR REPLACE INTO webhook VALUES (?, ?)", (self.name, is_disabled)
                ).rowcount
            )
        )
        self.is_disabled = is_disabled
        self.failures = 0
        self._changed.set()
        if is_disabled:
            _log.error("webhook_disabled", webhook=self.name, reason="it answered 410")

    async def _load(self) -> None:
        def read(connection: sqlite3.Connection) -> tuple[tuple[str, int] | None, bool]:
            place = connection.execute(
                "SELECT epoch, number FROM place WHERE name = ?", (self._place_name,)
            ).fetchone()
            off = connection.execute(
                "SELECT is_disabled FROM webhook WHERE name = ?", (self.name,)
            ).fetchone()
            return place, bool(off and off[0])

        place, self.is_disabled = await self._file.ask(read)
        if place is None:
            # A new one begins with what happens from now on, and not with all that ever happened.
            page = await self._feed.read(LATEST, 1)
            place = page.epoch, page.number
            await self._file.ask(lambda connection: self._keep(connection, page.epoch, page.number))
        self.cursor, self.number = cursor_of(*place), place[1]

    async def _oldest(self) -> None:
        try:
            await self.replay("")
        except StoreUnavailable:
            await asyncio.sleep(_REST_S)

    @property
    def _place_name(self) -> str:
        return f"webhook:{self.name}"

    def _keep(self, connection: sqlite3.Connection, epoch: str, number: int) -> None:
        connection.execute("INSERT OR REPLACE INTO place VALUES (?, ?, ?)", (self._place_name, epoch, number))
