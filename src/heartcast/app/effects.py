"""What follows the events of hearts, inside this program and outside of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heartcast.api import heart_audit, heart_credit, heart_events, heart_webhooks
from heartcast.api.route import Route
from heartcast.app.settings import Settings
from heartcast.backends.fetch import Bounds
from heartcast.backends.post import Poster, check_url
from heartcast.core.bus import Bus
from heartcast.core.clock import Clock
from heartcast.core.errors import InvalidInput, SettingsError
from heartcast.hearts.audit import Audit
from heartcast.hearts.auditor import Auditor
from heartcast.hearts.credit import Ledger
from heartcast.hearts.following import FILE_NAME, EffectsFile, Follower
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
    poster: Poster | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for part in self.parts:
                tasks.create_task(part())

    async def close(self) -> None:
        if self.poster is not None:
            self.poster.close()
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
    if file is not None and options.credit.is_on:
        ledger = Ledger(options.credit, file)
        routes += heart_credit.routes(ledger, clock.wall_ms)
        parts.append(Follower("credit", feed, file, ledger.take).run)
    if file is not None and options.audit.is_on:
        audit = Audit(file)
        routes += heart_audit.routes(audit)
        parts.append(Follower("audit", feed, file, audit.take).run)
    if file is not None and options.webhooks.endpoints:
        bounds = Bounds(options.webhooks.timeout_s, _MAX_REPLY_BYTES, options.webhooks.allow_private)
        poster = Poster(bounds, clock=clock)
        webhooks = _webhooks(options.webhooks, feed, file, poster, clock)
        routes += heart_webhooks.routes(webhooks)
        parts += [webhook.run for webhook in webhooks.values()]
    return Effects(feed=feed, auditor=auditor, routes=routes, parts=parts, file=file, poster=poster)


def _file(settings: Settings) -> EffectsFile | None:
    options = settings.hearts
    wanted = {
        "hearts.credit.is_on": options.credit.is_on,
        "hearts.audit.is_on": options.audit.is_on,
        "hearts.webhooks": bool(options.webhooks.endpoints),
    }
    for path, is_on in wanted.items():
        if is_on and settings.cluster.redis_url:
            raise SettingsError(
                "its state is a file of one node; follow GET /api/v1/events instead", path=path
            )
    if not any(wanted.values()):
        return None
    return EffectsFile(None if settings.in_memory else Path(settings.data_dir) / FILE_NAME)


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
