"""The public's side of hearts: who visitors are, whose hearts count, what holds while the store
is away, and the routes."""

from __future__ import annotations

from dataclasses import dataclass
from random import SystemRandom

from heartcast.api import console, heart_removal, openheart
from heartcast.api import devices as device_routes
from heartcast.api import hearts as heart_routes
from heartcast.api.auth.devices import Devices
from heartcast.api.auth.signing import Signer, signing_keys
from heartcast.api.console import Console
from heartcast.api.cors import Origins
from heartcast.api.cursors import Cursors
from heartcast.api.heart_judging import Judging
from heartcast.api.openheart import OpenHeart
from heartcast.api.route import Route
from heartcast.app.settings import Settings
from heartcast.core.bus import Bus
from heartcast.core.clock import Clock
from heartcast.core.ids import IdSource
from heartcast.hearts.abuse import AbuseGuard
from heartcast.hearts.gate import Gate
from heartcast.hearts.last_known import LastKnown
from heartcast.hearts.model import HeartChanged
from heartcast.hearts.outbox import Feed
from heartcast.hearts.recent import Recent
from heartcast.hearts.service import Gates, HeartService
from heartcast.hearts.store import HeartStore


@dataclass(frozen=True, kw_only=True)
class Visiting:
    """What hearts of the public need."""

    settings: Settings
    clock: Clock
    cursors: Cursors
    guests: Signer
    devices: Devices | None
    """None: visitors who are nobody give no hearts."""
    guard: AbuseGuard | None
    """None: every heart counts."""

    def service(self, store: HeartStore, bus: Bus[HeartChanged]) -> HeartService:
        """The heart service. A store in memory cannot fail and needs no way round it."""
        options, clock = self.settings.hearts, self.clock
        gates = last_known = None
        if store.is_durable:
            dice = SystemRandom()
            reads = Gate("hearts_reads", options.breaker, clock, dice)
            gates = Gates(reads, Gate("hearts_writes", options.breaker, clock, dice))
            last_known = LastKnown(clock)
            bus.follow(last_known)
        return HeartService(
            store,
            clock,
            bus,
            options.kinds,
            undo_window_s=options.undo_window_s,
            has_shadows=self.guard is not None,
            gates=gates,
            last_known=last_known,
        )

    def routes(self, hearts: HeartService) -> list[Route]:
        """The routes of hearts and of visitors."""
        judging = Judging(self.guard, self.clock, self.devices) if self.guard is not None else None
        routes = heart_routes.routes(hearts, self.settings.hearts, cursors=self.cursors, judging=judging)
        routes += heart_removal.routes(hearts, self.cursors)
        if self.settings.hearts.openheart:
            routes += openheart.routes(self._openheart(hearts, judging))
        if self.devices is not None:
            # A browser sends a Secure cookie to loopback over plain http as well, but not every one.
            routes += device_routes.routes(self.devices, is_secure=not self.settings.is_loopback)
        return routes

    def console(self, hearts: HeartService, bus: Bus[HeartChanged], feed: Feed) -> list[Route]:
        """The routes of the operators' console."""
        recent = Recent(self.clock)
        bus.follow(recent)
        return console.routes(Console(hearts, recent, feed.lags, self.guard))

    def _openheart(self, hearts: HeartService, judging: Judging | None) -> OpenHeart:
        return OpenHeart(
            hearts,
            self.settings.hearts.openheart,
            guests=self.guests,
            judging=judging,
            origins=Origins(self.settings.http.allowed_origins),
        )


def visiting(settings: Settings, clock: Clock, ids: IdSource) -> Visiting:
    """Make them from the settings."""
    keys = signing_keys(settings.auth)
    options = settings.hearts
    devices = None
    if options.visitor_kinds:
        devices = Devices(Signer(keys, "visitor"), clock, ids, options.visitor_max_age_s)
    is_judging = settings.limits_on if options.abuse.is_on is None else options.abuse.is_on
    return Visiting(
        settings=settings,
        clock=clock,
        cursors=Cursors(Signer(keys, "cursor")),
        guests=Signer(keys, "guest"),
        devices=devices,
        guard=AbuseGuard(options.abuse) if is_judging else None,
    )
