"""Every part of a running heartcast, by name. ``app.assemble`` makes one, ``app.lifespan`` runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from litestar import Litestar

from heartcast.api.admission import Admission
from heartcast.api.auth import Authenticator
from heartcast.app.canary import Canary
from heartcast.app.cluster import Cluster
from heartcast.app.effects import Effects
from heartcast.app.heart_news import HeartNews
from heartcast.app.personal import Personal
from heartcast.app.pushes import Pushes
from heartcast.app.settings import Settings
from heartcast.app.shared_limits import SharedLimits
from heartcast.app.views import Views
from heartcast.core.bus import Bus
from heartcast.core.clock import Clock
from heartcast.gateway.port import HttpPort
from heartcast.gateway.server import Server
from heartcast.gateway.websocket import WebSocketGateway
from heartcast.hearts.abuse import AbuseGuard
from heartcast.hearts.live import LiveCounts
from heartcast.hearts.model import HeartChanged
from heartcast.hearts.service import HeartService
from heartcast.hearts.store import HeartStore
from heartcast.observability.metrics import Metrics
from heartcast.observability.panel import Panel
from heartcast.ranking.boards import HotBoards
from heartcast.ranking.live import LiveHot
from heartcast.realtime.realtime import Realtime
from heartcast.resilience.breaker import Registry
from heartcast.resilience.shedding import LoopLag
from heartcast.streams.streams import Streams

LOAD_LOOK_S = 0.025
"""Seconds between two looks at how late the event loop runs. At three times the capacity a look
that is missed puts another 50 ms of work into the queue."""


@dataclass(kw_only=True)
class Readiness:
    """Whether traffic is wanted, for ``/readyz``."""

    reason: str | None = "starting"
    """One sentence while it is not; None while it is."""
    asks: list[Callable[[], str | None]] = field(default_factory=list)
    """Asked when nothing else is wrong: each says one sentence, or None."""

    def why_not(self) -> str | None:
        """One sentence while traffic is not wanted; None while it is."""
        return self.reason or next((why for ask in self.asks if (why := ask())), None)


@dataclass(frozen=True, kw_only=True)
class System:
    """The parts, assembled and not started."""

    settings: Settings
    clock: Clock
    authenticator: Authenticator
    bus: Bus[HeartChanged]
    heart_store: HeartStore
    heart_news: HeartNews | None
    """What other nodes wrote; None where this node is alone with its hearts."""
    hearts: HeartService
    abuse: AbuseGuard | None
    """None: every heart counts."""
    effects: Effects
    live_counts: LiveCounts
    boards: HotBoards
    live_hot: LiveHot
    cluster: Cluster
    canary: Canary
    personal: Personal | None
    """Recommendations; None where they are off."""
    views: Views
    pushes: Pushes
    streams: Streams
    realtime: Realtime
    websockets: WebSocketGateway
    port: HttpPort
    application: Litestar
    metrics: Metrics
    panel: Panel
    admission: Admission
    shared_limits: SharedLimits | None
    """Budgets in Redis; None where this process counts alone."""
    breakers: Registry
    admin: Server | None
    """Where this process alone is asked how it is; None where the port is its own."""
    loop_lag: LoopLag
    readiness: Readiness
