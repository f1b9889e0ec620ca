"""What follows the events of hearts, inside this program and outside of it."""

from __future__ import annotations

from dataclasses import dataclass

from heartcast.api import heart_events
from heartcast.api.route import Route
from heartcast.app.settings import Settings
from heartcast.core.bus import Bus
from heartcast.core.clock import Clock
from heartcast.hearts.model import HeartChanged
from heartcast.hearts.outbox import Feed
from heartcast.hearts.store import HeartStore


@dataclass(frozen=True, kw_only=True)
class Effects:
    """The feed and all that reads it."""

    feed: Feed
    routes: list[Route]

    async def run(self) -> None:
        """Until cancelled."""
        await self.feed.run()


def effects(settings: Settings, clock: Clock, store: HeartStore, bus: Bus[HeartChanged]) -> Effects:
    """Make the feed and what follows it. Nothing runs yet."""
    feed = Feed(store, settings.hearts.outbox, clock)
    bus.follow(feed)
    return Effects(feed=feed, routes=heart_events.routes(feed))
