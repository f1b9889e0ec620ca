"""What follows the events of hearts, inside this program and outside of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heartcast.api import heart_credit, heart_events
from heartcast.api.route import Route
from heartcast.app.settings import Settings
from heartcast.core.bus import Bus
from heartcast.core.clock import Clock
from heartcast.core.errors import SettingsError
from heartcast.hearts.auditor import Auditor
from heartcast.hearts.credit import Ledger
from heartcast.hearts.following import FILE_NAME, EffectsFile, Follower
from heartcast.hearts.model import HeartChanged
from heartcast.hearts.outbox import Feed
from heartcast.hearts.store import HeartStore

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

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for part in self.parts:
                tasks.create_task(part())

    async def close(self) -> None:
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
    if not options.credit.is_on:
        return Effects(feed=feed, auditor=auditor, routes=routes, parts=parts)
    if settings.cluster.redis_url:
        raise SettingsError(
            "the ledger is a file of one node; follow GET /api/v1/events instead", path="hearts.credit.is_on"
        )
    file = EffectsFile(None if settings.in_memory else Path(settings.data_dir) / FILE_NAME)
    ledger = Ledger(options.credit, file)
    return Effects(
        feed=feed,
        auditor=auditor,
        routes=[*routes, *heart_credit.routes(ledger, clock.wall_ms)],
        parts=[*parts, Follower("credit", feed, file, ledger.take).run],
        file=file,
    )
