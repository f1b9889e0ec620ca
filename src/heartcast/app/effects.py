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
from heartcast.hearts.credit import Ledger
from heartcast.hearts.following import FILE_NAME, EffectsFile, Follower
from heartcast.hearts.model import HeartChanged
from heartcast.hearts.outbox import Feed
from heartcast.hearts.store import HeartStore


@dataclass(frozen=True, kw_only=True)
class Effects:
    """The feed and all that reads it."""

    feed: Feed
    routes: list[Route]
    parts: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)
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
    if not options.credit.is_on:
        return Effects(feed=feed, routes=heart_events.routes(feed), parts=[feed.run])
    if settings.cluster.redis_url:
        raise SettingsError(
            "the ledger is a file of one node; follow GET /api/v1/events instead", path="hearts.credit.is_on"
        )
    file = EffectsFile(None if settings.in_memory else Path(settings.data_dir) / FILE_NAME)
    ledger = Ledger(options.credit, file)
    return Effects(
        feed=feed,
        routes=[*heart_events.routes(feed), *heart_credit.routes(ledger, clock.wall_ms)],
        parts=[feed.run, Follower("credit", feed, file, ledger.take).run],
        file=file,
    )
