"""The push domain as the program runs it: one service, or one for each shard of many nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from heartcast.api import push as push_routes
from heartcast.api.push_composed import Compose
from heartcast.api.route import Route
from heartcast.app.inbox_channel import InboxChannels
from heartcast.core.quantiles import Histogram
from heartcast.push.model import State
from heartcast.push.routes import RouteHealth
from heartcast.push.service import PushService
from heartcast.realtime.log import ChannelLog


class Pushes(Protocol):
    """What the rest of the program needs of the push domain."""

    log: ChannelLog
    """The inboxes, as realtime asks for them."""
    is_durable: bool
    """Whether what waits is still there after the process."""
    ended: Mapping[State, int]
    """Pushes that ended in this process, by state."""
    latency: Histogram
    """Microseconds from accepted to handed to a connected client."""
    route_ends: Mapping[tuple[str, str], int]
    """Pushes that ended on other routes, by kind of route and ``success`` or ``failed``."""
    post_latency: Histogram
    """Microseconds from accepted to taken by a webhook."""

    def on_send(self, user: str | None, data: bytes) -> None:
        """A connected client sent something."""
        ...

    @property
    def queued(self) -> int:
        """Pushes that wait in shards."""
        ...

    @property
    def accepted(self) -> int:
        """Pushes taken since the start."""
        ...

    @property
    def refused(self) -> int:
        """Pushes answered with 503."""
        ...

    def services(self) -> list[PushService]:
        """The services that work here now."""
        ...

    def route_health(self) -> list[RouteHealth]:
        """Every way out of this process."""
        ...

    def routes(self, degraded: Callable[[], list[str]], compose: Compose | None = None) -> list[Route]:
        """The routes of the domain; as ``api.push.routes``."""
        ...

    async def open(self) -> None:
        """Take up what must be known before the first request; before ``start``.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        ...

    def start(self) -> None: ...

    def refuse(self) -> None:
        """Accept nothing more: first step of a stop."""
        ...

    async def stop(self) -> None: ...


class OneNode:
    """All shards in one service."""

    def __init__(self, service: PushService) -> None:
        self.service = service
        self.log: ChannelLog = InboxChannels(service)
        self.on_send = service.on_send
        self.is_durable = service.journal.is_durable
        self.ended: Mapping[State, int] = service.ledger.ended
        self.latency = service.delivery.latency
        self.route_ends: Mapping[tuple[str, str], int] = service.outgoing.ends
        self.post_latency = service.posts.latency
        self.start = service.start
        self.refuse = service.refuse
        self.stop = service.stop

    async def open(self) -> None:
        """Everything was read when it was made."""

    @property
    def queued(self) -> int:
        return self.service.queued

    @property
    def accepted(self) -> int:
        return self.service.ledger.accepted

    @property
    def refused(self) -> int:
        return self.service.refused

    def services(self) -> list[PushService]:
        return [self.service]

    def route_health(self) -> list[RouteHealth]:
        return self.service.route_health()

    def routes(self, degraded: Callable[[], list[str]], compose: Compose | None = None) -> list[Route]:
        return push_routes.routes(self.service, degraded, compose)
