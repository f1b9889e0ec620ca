"""From settings to a system: the only place that chooses backends and joins domains.

Domains do not import each other. What one needs of another is handed over here as a
plain callable: hearts get ``publish``, pushes get ``deliver``, realtime gets the inbox
as one of its logs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from heartcast.api import cluster as cluster_routes
from heartcast.api import dev, openapi, operation, pages
from heartcast.api import ranking as ranking_routes
from heartcast.api import realtime as realtime_routes
from heartcast.api import streams as stream_routes
from heartcast.api.admission import Admission
from heartcast.api.app import application
from heartcast.api.auth import Authenticator
from heartcast.api.cors import Origins, cors_headers
from heartcast.api.route import Route
from heartcast.api.track import Tracking
from heartcast.app import guards, instruments
from heartcast.app.admin import admin_server
from heartcast.app.canary import Canary
from heartcast.app.cluster import Cluster
from heartcast.app.effects import effects
from heartcast.app.inbox_channel import deliver_by
from heartcast.app.personal import personal
from heartcast.app.pushes import OneNode, Pushes
from heartcast.app.settings import Settings
from heartcast.app.shared_limits import SharedLimits
from heartcast.app.shared_realtime import follow_everywhere, other_nodes, shared_realtime
from heartcast.app.streams import open_streams
from heartcast.app.switched_off import switched_off
from heartcast.app.system import LOAD_LOOK_S, Readiness, System
from heartcast.app.together import admin_routes, together
from heartcast.app.views import HotView, Views
from heartcast.app.visiting import visiting
from heartcast.backends.fetch import Bounds
from heartcast.backends.post import Poster
from heartcast.core.bus import Bus
from heartcast.core.clock import Clock
from heartcast.core.ids import IdSource
from heartcast.gateway.options import HttpOptions
from heartcast.gateway.port import HttpPort
from heartcast.gateway.sse import StreamGateway
from heartcast.gateway.websocket import WebSocketGateway
from heartcast.hearts.live import NAMESPACE, LiveCounts
from heartcast.hearts.model import HeartChanged
from heartcast.hearts.store import HeartStore
from heartcast.observability.metrics import Metrics
from heartcast.push import file as push_file
from heartcast.push import templates
from heartcast.push.inbox import Inbox
from heartcast.push.inbox.memory import MemoryInbox
from heartcast.push.inbox.sqlite import load_inbox
from heartcast.push.journal import Journal
from heartcast.push.journal.memory import MemoryJournal
from heartcast.push.journal.sqlite import SqliteJournal
from heartcast.push.service import PushService
from heartcast.push.template_store.journal import JournalTemplateStore
from heartcast.push.templates import Templates
from heartcast.ranking.boards import HotBoards
from heartcast.ranking.live import LiveHot
from heartcast.realtime.hub import Hub
from heartcast.realtime.realtime import Realtime
from heartcast.resilience.shedding import LoopLag

_log = structlog.get_logger("heartcast")

_WEBHOOK_ANSWER_BYTES = 4_096
"""Most that is read of what a webhook answers: its status says all that is asked."""
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")


def assemble(
    settings: Settings,
    clock: Clock,
    loop: asyncio.AbstractEventLoop,
    heart_store: HeartStore,
    rebuild_wanted: Callable[[], None],
    cluster: Cluster,
) -> System:
    """Make every part and join them. Nothing runs yet, but files are open.

    Args:
        settings: With a signing key (``app.secret.with_secret``).
        heart_store: Opened by ``app.heart_stores``; whoever opened it closes it.
        rebuild_wanted: Called when a view missed events; the owner of tasks then runs
            ``system.views.rebuild()``.
        cluster: This node among the others, opened and not joined; whoever opened it closes it.

    Raises:
        SettingsError: a file cannot be opened, or a template is wrong.
    """
    ids = IdSource(clock)
    breakers = guards.registry()
    visitors = visiting(settings, clock, ids)
    authenticator = Authenticator(settings.auth, clock, is_open=settings.is_open, devices=visitors.devices)
    realtime = Realtime(
        settings.realtime,
        clock,
        loop,
        ids,
        verify=authenticator.verify,
        mode="dev" if settings.is_open else "prod",
        shared=shared_realtime(settings),
    )
    hub = realtime.hub

    bus: Bus[HeartChanged] = Bus(loop.call_soon)
    hearts = visitors.service(heart_store, bus)
    for gate in hearts.gates or ():
        breakers.add(gate.breaker)
    live_counts = _live_counts(settings, clock, loop, hub, heart_store)
    boards = HotBoards(settings.hot, clock.wall_ms())
    live_hot = LiveHot(
        boards,
        settings.hot,
        publish=hub.publish,
        is_watched=hub.is_watched,
        later=loop.call_later,
        wall_ms=clock.wall_ms,
    )
    hot_view = HotView(boards, live_hot, rebuild_wanted)
    recommending = personal(settings, boards, hot_view, clock, loop, rebuild_wanted)
    rebuilt = [hot_view, *((recommending.view,) if recommending is not None else ())]
    heart_news = follow_everywhere(settings, cluster, loop, bus, [live_counts, *rebuilt])
    effects_ = effects(settings, clock, heart_store, bus)
    views = Views(heart_store.scan, bus.flush, rebuilt)
    hub.seed(NAMESPACE, live_counts.source)
    hub.seed("hot", live_hot.source)

    pushes = _pushes(settings, clock, loop, ids, realtime, cluster)
    hub.use_log("inbox", pushes.log)
    hub.on_send = pushes.on_send

    publications = open_streams(settings, clock, loop)
    canary = Canary(cluster.membership.node, cluster.post, hub, clock.monotonic_s)
    metrics, readiness = Metrics(), Readiness(asks=[cluster.why_not, canary.why_not])
    panel = instruments.panel(hub, hearts)
    routes = [
        *visitors.routes(hearts),
        *visitors.console(hearts, bus, effects_.feed),
        *pushes.routes(hearts.degraded, recommending.compose if recommending is not None else None),
        *effects_.routes,
        *ranking_routes.routes(
            boards, clock.wall_ms, recommending.catalogue.members if recommending is not None else None
        ),
        *(recommending.routes if recommending is not None else ()),
        *realtime_routes.routes(realtime, other_nodes(settings, cluster)),
        *stream_routes.routes(publications),
        *cluster_routes.routes(cluster.membership),
        *operation.routes(metrics, panel, readiness.why_not, lambda: guards.degraded(breakers)),
        *pages.routes(with_demo=settings.is_open),
        *(dev.routes(authenticator) if settings.is_open else ()),
    ]
    routes.append(openapi.route(routes))
    own_routes, routes = admin_routes(routes), together(routes, cluster, metrics)

    options = _http_options(settings)
    origins = Origins(options.allowed_origins)
    shared_limits = (
        SharedLimits(settings, clock, breakers)
        if settings.limits_on and settings.limits.backend == "redis"
        else None
    )
    admission = Admission(
        settings.limits,
        clock,
        limits_on=settings.limits_on,
        shared=shared_limits.budgets if shared_limits is not None else None,
    )
    websockets = WebSocketGateway(realtime)
    tracking = Tracking(hub, hearts, settings.hearts.tracked_per_connection)
    streams = StreamGateway(realtime, lambda origin: cors_headers(origins, origin), tracking)
    port = HttpPort(
        options,
        routes,
        clock=clock,
        identify=authenticator.identify,
        upgrade_websocket=websockets.upgrade,
        open_stream=streams.open,
        admit=admission.shed if settings.limits_on else None,
        limit=admission.limit if settings.limits_on else None,
    )
    effects_.feed.is_stopping = lambda: port.is_draining
    system = System(
        settings=settings,
        clock=clock,
        authenticator=authenticator,
        bus=bus,
        heart_store=heart_store,
        heart_news=heart_news,
        hearts=hearts,
        abuse=visitors.guard,
        effects=effects_,
        live_counts=live_counts,
        boards=boards,
        live_hot=live_hot,
        cluster=cluster,
        canary=canary,
        personal=recommending,
        views=views,
        pushes=pushes,
        streams=publications,
        realtime=realtime,
        websockets=websockets,
        port=port,
        application=application(
            routes,
            authenticator,
            _handler_failed,
            admission if settings.limits_on else None,
            switched_off(settings, routes),
        ),
        metrics=metrics,
        panel=panel,
        admission=admission,
        shared_limits=shared_limits,
        breakers=breakers,
        admin=admin_server(settings, clock, own_routes, authenticator, _handler_failed),
        loop_lag=LoopLag(LOAD_LOOK_S, clock.monotonic_s()),
        readiness=readiness,
    )
    instruments.bind(system)
    return system


def _live_counts(
    settings: Settings, clock: Clock, loop: asyncio.AbstractEventLoop, hub: Hub, store: HeartStore
) -> LiveCounts:
    return LiveCounts(
        publish=hub.publish,
        is_watched=hub.is_watched,
        watched=lambda: [channel for channel in hub.rooms() if channel.startswith(f"{NAMESPACE}:")],
        store=store,
        clock=clock,
        call_later=loop.call_later,
        interval_s=settings.hearts.live_interval_s,
    )


def _pushes(
    settings: Settings,
    clock: Clock,
    loop: asyncio.AbstractEventLoop,
    ids: IdSource,
    realtime: Realtime,
    cluster: Cluster,
) -> Pushes:
    folder = None if settings.in_memory else Path(settings.data_dir) / "templates"
    known = templates.load(folder)
    hub = realtime.hub
    webhooks = settings.push.webhooks
    posting = Poster(
        Bounds(webhooks.timeout_s, _WEBHOOK_ANSWER_BYTES, webhooks.allow_private), per_host=webhooks.in_flight
    )
    if not cluster.is_alone and "push" not in settings.cluster.local:
        # Here, since a server that is alone does without the driver of Redis.
        from heartcast.app.many_nodes import ManyNodes
        from heartcast.app.shard_host import Parts

        parts = Parts(settings.push, clock, loop, ids, realtime.wheel, known, _push_failed, posting)
        return ManyNodes(settings, parts, hub, cluster)
    inbox, journal = _push_stores(settings, loop, clock, ids, known)
    service = PushService(
        settings.push,
        clock=clock,
        ids=ids,
        loop=loop,
        wheel=realtime.wheel,
        templates=known,
        inbox=inbox,
        journal=journal,
        deliver=deliver_by(hub),
        is_watched=hub.is_watched,
        report=_push_failed,
        posting=posting,
    )
    return OneNode(service)


def _push_stores(
    settings: Settings, loop: asyncio.AbstractEventLoop, clock: Clock, ids: IdSource, known: Templates
) -> tuple[Inbox, Journal]:
    max_pushes = settings.push.max_inbox
    if settings.in_memory:
        return MemoryInbox(ids.next, max_pushes), MemoryJournal()
    file = push_file.open_file(Path(settings.data_dir) / push_file.FILE_NAME, loop)
    ids.skip_past(file.last_id())
    journal = SqliteJournal(file, known)
    # Before the inbox: what waits there is rendered with versions that the API made.
    known.use(JournalTemplateStore(journal, clock.wall_ms()))
    inbox = load_inbox(file, templates=known, new_epoch=ids.next, max_pushes=max_pushes)
    return inbox, journal


def _http_options(settings: Settings) -> HttpOptions:
    """In the open mode only loopback's own names are answered: a page elsewhere could
    otherwise let its name resolve to this machine and use the missing credentials."""
    if not settings.is_open or settings.http.allowed_hosts:
        return settings.http
    return msgspec.structs.replace(settings.http, allowed_hosts=(*_LOOPBACK_NAMES, settings.http.host))


def _handler_failed(route: Route, error: BaseException) -> None:
    _log.error("handler failed", method=route.method, path=route.path, exc_info=error)


def _push_failed(what: str, error: BaseException) -> None:
    _log.error(what, exc_info=error)
