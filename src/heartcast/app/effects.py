"""What follows the events of hearts, inside this program and outside of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heartcast.api import heart_audit, heart_credit, heart_events, heart_webhooks
from heartcast.api.route import Route
from heartcast.app import heart_stores
from heartcast.app.settings import Settings
from heartcast.backends.fetch import Bounds
from heartcast.backends.post import Poster, check_url
from heartcast.core.bus import Bus
from heartcast.core.clock import Clock
from heartcast.core.errors import InvalidInput, SettingsError
from heartcast.hearts.audit import Audit
from heartcast.hearts.auditor import Auditor
from heartcast.hearts.credit import Ledger
from heartcast.hearts.following import FILE_NAME, EffectsFile, FileTaker, Follower
from heartcast.hearts.ledger import LedgerStore
from heartcast.hearts.ledger.sqlite import SqliteLedger, has_books
from heartcast.hearts.model import HeartChanged, HeartEvent
from heartcast.hearts.options import EventWebhookOptions
from heartcast.hearts.outbox import Feed
from heartcast.hearts.store import HeartStore
from heartcast.hearts.webhooks import Webhook

_MAX_REPLY_BYTES = 16_384
"""Of what a receiver says; nobody reads more than its status."""

Part = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, kw_only=True)
class Effects:
    """The feed and all that reads it, and the auditor."""

    feed: Feed
    auditor: Auditor
    routes: list[Route]
    parts: list[Part] = field(default_factory=list)
    """What runs until it is cancelled."""
    file: EffectsFile | None = None
    books: LedgerStore | None = None
    poster: Poster | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for part in self.parts:
                tasks.create_task(part())

    async def close(self) -> None:
        if self.poster is not None:
            self.poster.close()
        if self.books is not None:
            await self.books.close()
        if self.file is not None:
            await self.file.close()


def effects(settings: Settings, clock: Clock, store: HeartStore, bus: Bus[HeartChanged]) -> Effects:
    """Make the feed and what follows it. Nothing runs yet.

    Raises:
        SettingsError: something follows that cannot: without events, or on many nodes.
    """
    options = settings.hearts
    feed = Feed(store, options.outbox, clock)
    bus.follow(feed)
    auditor = Auditor(store, options.auditor)
    parts: list[Part] = [feed.run, *([auditor.run] if options.auditor.is_on else [])]
    routes = heart_events.routes(feed)
    file = _file(settings)
    poster: Poster | None = None
    books = _books(settings, file) if options.credit.is_on else None
    if books is not None:
        ledger = Ledger(options.credit, books)
        routes += heart_credit.routes(ledger, clock.wall_ms)
        parts.append(Follower("credit", feed, ledger).run)
    if file is not None and options.audit.is_on:
        audit = Audit(file)
        routes += heart_audit.routes(audit)
        parts.append(Follower("audit", feed, FileTaker("audit", file, audit.take)).run)
    if file is not None and options.webhooks.endpoints:
        bounds = Bounds(options.webhooks.timeout_s, _MAX_REPLY_BYTES, options.webhooks.allow_private)
        poster = Poster(bounds, clock=clock)
        webhooks = _webhooks(options.webhooks, feed, file, poster, clock)
        routes += heart_webhooks.routes(webhooks)
        parts += [webhook.run for webhook in webhooks.values()]
    return Effects(
        feed=feed, auditor=auditor, routes=routes, parts=parts, file=file, books=books, poster=poster
    )


def _file(settings: Settings) -> EffectsFile | None:
    options, is_shared = settings.hearts, _is_shared(settings)
    wanted = {
        "credit": options.credit.is_on and not is_shared,
        "audit": options.audit.is_on,
        "webhooks": bool(options.webhooks.endpoints),
    }
    for name, is_on in wanted.items():
        if is_on and is_shared and name not in settings.cluster.local:
            raise SettingsError(
                "its state is a file of one node; follow GET /api/v1/events instead, or let exactly one "
                f'node have it: there, cluster.local = ["{name}"]',
                path=f"hearts.{name}",
            )
    if not any(wanted.values()):
        return None
    return EffectsFile(_path(settings))


def _path(settings: Settings) -> Path | None:
    return None if settings.in_memory else Path(settings.data_dir) / FILE_NAME


def _is_shared(settings: Settings) -> bool:
    """Whether other nodes give hearts to the same store."""
    return bool(settings.cluster.redis_url) and heart_stores.is_server(heart_stores.url_of(settings))


def _books(settings: Settings, file: EffectsFile | None) -> LedgerStore:
    if not _is_shared(settings):
        assert file is not None
        return SqliteLedger(file)
    path = _path(settings)
    if path is not None and has_books(path):
        raise SettingsError(
            f"{path} has a ledger of this node alone, and nodes that share hearts share their ledger; "
            "move the file away to begin one",
            path="hearts.credit",
        )
    options, url = settings.hearts, heart_stores.url_of(settings)
    if heart_stores.is_migrated(url):
        from heartcast.hearts.ledger.postgres import PostgresLedger

        return PostgresLedger(url, options.postgres.timeout_s)
    from heartcast.hearts.ledger.redis import RedisLedger

    return RedisLedger(url, options.redis)


def _webhooks(
    options: EventWebhookOptions, feed: Feed, file: EffectsFile, poster: Poster, clock: Clock
) -> dict[str, Webhook]:
    webhooks = {}
    for name, endpoint in options.endpoints.items():
        path = f"hearts.webhooks.endpoints.{name}"
        try:
            check_url(endpoint.url, options.allow_private)
            webhooks[name] = Webhook(
                name, endpoint, options,
                feed=feed, file=file, post=poster.post, render=_rendered, clock=clock,
            )  # fmt: skip
        except InvalidInput as error:
            raise SettingsError(error.detail, path=path) from error
    return webhooks


def _rendered(events: list[HeartEvent], epoch: str) -> object:
    return [heart_events.shown(event, epoch) for event in events]
