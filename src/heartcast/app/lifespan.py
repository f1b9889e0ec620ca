"""Starting and stopping, written once.

Start: open the stores, fill the views from them, start the parts, then listen; only
then is anybody told. Stop is the reverse: listen no more, answer what was accepted,
let the queued pushes reach their inboxes, send the sessions elsewhere, close the stores.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

from heartcast import __version__
from heartcast.app import heart_stores
from heartcast.app.assemble import assemble
from heartcast.app.cluster import Cluster, open_cluster
from heartcast.app.load_watch import LoadWatch
from heartcast.app.settings import Settings
from heartcast.app.system import LOAD_LOOK_S, System
from heartcast.core.clock import Clock, SystemClock
from heartcast.core.errors import HeartcastError, StoreUnavailable
from heartcast.gateway.server import Server
from heartcast.observability import logs

_SAMPLE_S = 1.0
_REBUILD_PAUSE_S = 1.0
_DRAIN_LOOK_S = 0.02

_log = structlog.get_logger("heartcast")


@dataclass(frozen=True, kw_only=True)
class Listening:
    """What a started server has to say for itself."""

    url: str
    page: str
    """The page worth opening first."""
    data: str
    """Where data is kept, in words."""
    mode: str


def run(settings: Settings, on_ready: Callable[[Listening], None]) -> None:
    """Run a server until SIGINT or SIGTERM.

    Args:
        on_ready: Called once, when it listens.

    Raises:
        SettingsError: it cannot start, and why.
    """
    logs.configure()
    # Its "Started server process" says again, and less, what our own lines say.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    uvloop.run(_Lifespan(settings, on_ready).run())


class _Lifespan:
    def __init__(self, settings: Settings, on_ready: Callable[[Listening], None]) -> None:
        self._settings = settings
        self._on_ready = on_ready
        self._rebuild_wanted = asyncio.Event()
        self._refused: HeartcastError | None = None

    async def run(self) -> None:
        settings, clock, loop = self._settings, SystemClock(), asyncio.get_running_loop()
        cluster = await open_cluster(settings, clock, loop)
        try:
            await self._run_in(cluster, clock)
        finally:
            await cluster.close()

    async def _run_in(self, cluster: Cluster, clock: Clock) -> None:
        settings, loop = self._settings, asyncio.get_running_loop()
        store = await heart_stores.open_store(heart_stores.url_of(settings), settings.hearts, clock)
        try:
            system = assemble(settings, clock, loop, store, self._rebuild_wanted.set, cluster)
        except BaseException:
            await store.close()
            raise
        try:
            await self._run(system)
        finally:
            await system.pushes.stop()
            await system.effects.close()
            await system.streams.close()
            if system.personal is not None:
                await system.personal.close()
            await system.heart_store.close()
            if system.shared_limits is not None:
                await system.shared_limits.close()
            if system.readiness.reason != "starting":
                _log.info("stopped")

    async def _run(self, system: System) -> None:
        if system.personal is not None:
            await system.personal.restore()
        await system.views.rebuild()
        system.realtime.start()
        system.canary.start()
        await system.pushes.open()
        system.pushes.start()
        server = Server(
            system.port,
            system.application,
            on_stopping=system.streams.stop,
            close_sessions=lambda: self._drain(system),
            shares_port=self._settings.cluster.worker > 0,
        )
        async with asyncio.TaskGroup() as tasks:
            if system.admin is not None:
                tasks.create_task(self._serve(system.admin, server.stop))
            housekeeping = [
                tasks.create_task(self._announce(server, system)),
                tasks.create_task(self._sample(system)),
                tasks.create_task(self._watch_load(system)),
                tasks.create_task(self._rebuild(system)),
                tasks.create_task(system.authenticator.run()),
                tasks.create_task(system.effects.run()),
            ]
            await self._serve(server, system.admin.stop if system.admin is not None else _nothing)
            for task in housekeeping:
                task.cancel()
        if self._refused is not None:
            raise self._refused

    async def _serve(self, server: Server, then: Callable[[], None]) -> None:
        """Serve until it is stopped, then stop the other."""
        try:
            await server.serve()
        except HeartcastError as error:
            self._refused = error  # raised later: the group would wrap it
        finally:
            then()

    async def _announce(self, server: Server, system: System) -> None:
        await server.ready.wait()
        if system.admin is not None:
            await system.admin.ready.wait()
        system.cluster.join(self._settings, server.url, system.admin.url if system.admin else "")
        system.readiness.reason = None
        listening = Listening(
            url=server.url,
            page=f"{server.url}/demo" if self._settings.is_open else f"{server.url}/docs",
            data=_data_in_words(self._settings),
            mode=self._settings.mode,
        )
        _log.info("started", version=__version__, url=listening.url, data=listening.data, mode=listening.mode)
        self._on_ready(listening)

    async def _sample(self, system: System) -> None:
        while True:
            await asyncio.sleep(_SAMPLE_S)
            system.panel.sample(system.clock.monotonic_s())

    async def _watch_load(self, system: System) -> None:
        """Forty times a second: how late the loop keeps running decides what is shed."""
        watch = LoadWatch(system.port, system.admission.shedder, system.loop_lag, system.clock)
        system.admission.peek = watch.peek
        while True:
            await asyncio.sleep(LOAD_LOOK_S)
            watch.look()
            system.admission.tend()
            if system.abuse is not None:
                system.abuse.tend(system.clock.monotonic_ns())

    async def _rebuild(self, system: System) -> None:
        while True:
            await self._rebuild_wanted.wait()
            self._rebuild_wanted.clear()
            try:
                await system.views.rebuild()
            except StoreUnavailable as error:
                _log.error("what is hot and for whom could not be rebuilt; trying again", reason=error.detail)
                self._rebuild_wanted.set()
                await asyncio.sleep(_REBUILD_PAUSE_S)

    async def _drain(self, system: System) -> None:
        """After the last answer: pushes into inboxes, then the sessions elsewhere."""
        system.readiness.reason = "stopping"
        await system.cluster.leave()
        system.pushes.refuse()
        deadline_s = system.clock.monotonic_s() + self._settings.http.drain_s
        while system.pushes.queued and system.clock.monotonic_s() < deadline_s:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(_DRAIN_LOOK_S)
        if left := system.pushes.queued:
            fate = "kept in the journal" if system.pushes.is_durable else "lost"
            _log.error("stopped with pushes still queued", pushes=left, fate=fate)
        await system.realtime.stop()


def _nothing() -> None:
    """There is no other server."""


def _data_in_words(settings: Settings) -> str:
    if settings.in_memory:
        said = "in memory only; gone after a restart"
    else:
        synchronous = settings.hearts.sqlite.synchronous.upper()
        said = f"{Path(settings.data_dir).resolve()} (SQLite, synchronous={synchronous})"
    store = heart_stores.url_of(settings)
    if heart_stores.is_server(store):
        said += f"; hearts in {heart_stores.place(store)}"
    if settings.cluster.redis_url:
        said += f"; pushes and channels in {heart_stores.place(settings.cluster.redis_url)}"
    return said
