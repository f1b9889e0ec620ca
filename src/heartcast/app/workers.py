"""Several processes on one port, under one small parent that serves nothing itself.

Each process listens on the same port (SO_REUSEPORT), so the kernel spreads connections over
them, and each is a node of the cluster like any other: they share nothing but Redis. The parent
starts them, starts one that died again, and passes a stop on. A process that cannot even start
the first time ends all of them with its one sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import msgspec
import structlog

from heartcast.app.lifespan import Listening
from heartcast.app.settings import Settings
from heartcast.app.worker import Said
from heartcast.core.errors import SettingsError
from heartcast.observability import logs
from heartcast.resilience.retry import Backoff
from heartcast.resilience.supervisor import Supervisor, Worker

_LAST_PATIENCE_S = 10.0
"""Beyond what a stop may take by its settings; then a process is killed."""

_log = structlog.get_logger("heartcast")


class WorkerDied(Exception):
    """A process ended that was not asked to."""


def run(settings: Settings, count: int, on_ready: Callable[[Listening], None]) -> None:
    """Run so many processes until SIGINT or SIGTERM.

    Args:
        count: How many, >= 1.
        on_ready: Called once, when all of them listen.

    Raises:
        SettingsError: they cannot start, and why; or one did not stop in order.
    """
    if not settings.cluster.redis_url:
        raise SettingsError(
            "--workers starts several processes, which share nothing but Redis: set cluster.redis_url"
        )
    if not hasattr(socket, "SO_REUSEPORT"):
        raise SettingsError("--workers needs SO_REUSEPORT, which this system does not have")
    logs.configure()
    with reserved(settings.http.host, settings.http.port) as port:
        http = msgspec.structs.replace(settings.http, port=port)
        workers = _Workers(msgspec.structs.replace(settings, http=http), count, on_ready)
        asyncio.run(workers.run())
    if workers.refused is not None:
        raise SettingsError(workers.refused)
    if workers.unclean:
        raise SettingsError(f"{workers.unclean} of {count} processes did not stop in order")


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """Keep a port for the processes: bound, so that nobody else gets it, and not listening.

    Raises:
        SettingsError: it cannot be bound.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(address)
            yield held.getsockname()[1]
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}", path="http.port") from error


class _Workers:
    def __init__(self, settings: Settings, count: int, on_ready: Callable[[Listening], None]) -> None:
        self._settings = settings
        self._count = count
        self._on_ready = on_ready
        self._processes: dict[int, Process] = {}
        self._listening: dict[int, Listening] = {}
        self._lives = 0
        self._is_stopping = False
        self._started = asyncio.Event()
        self._ended = asyncio.Event()
        self.refused: str | None = None
        """Why one could not start the first time."""
        self.unclean = 0
        """Processes that did not end as they should when they were asked to."""

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        async with Supervisor(backoff=Backoff(first_s=0.5, max_s=10.0), report=self._report) as supervisor:
            for index in range(1, self._count + 1):
                supervisor.start(f"worker {index}", self._life_of(index))
            await self._started.wait()
            if not self._is_stopping:
                first = self._listening[min(self._listening)]
                self._on_ready(replace(first, data=f"{first.data}; {self._count} processes"))
            await self._ended.wait()

    def _report(self, worker: Worker, error: BaseException) -> None:
        if not self._is_stopping:
            _log.error("a process died; starting it again", worker=worker.name, reason=str(error))

    def _life_of(self, index: int) -> Callable[[Worker], Awaitable[None]]:
        async def live(worker: Worker) -> None:
            self._lives += 1
            try:
                if not self._is_stopping:
                    await self._live(index)
            finally:
                self._lives -= 1
                self._see_end()

        return live

    async def _live(self, index: int) -> None:
        process = await asyncio.create_subprocess_exec(
            # A session of its own: Ctrl-C reaches the parent only, which asks each once.
            sys.executable, "-m", "heartcast.app.worker", stdin=PIPE, stdout=PIPE, start_new_session=True
        )  # fmt: skip
        self._processes[index] = process
        if self._is_stopping:
            process.terminate()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(self._settings_of(index)) + b"\n")
        has_listened, reason = False, ""
        async for line in process.stdout:
            said = msgspec.json.decode(line, type=Said)
            has_listened = has_listened or said.listening is not None
            reason = said.refused or ""
            self._heard(index, said)
        status = await process.wait()
        process.stdin.close()
        del self._processes[index]
        if not self._is_stopping:
            raise WorkerDied(reason or f"it ended with status {status}")
        if status and has_listened:
            self.unclean += 1

    def _settings_of(self, index: int) -> Settings:
        cluster = msgspec.structs.replace(self._settings.cluster, worker=index)
        return msgspec.structs.replace(self._settings, cluster=cluster)

    def _heard(self, index: int, said: Said) -> None:
        if said.listening is not None:
            self._listening[index] = said.listening
            if len(self._listening) == self._count:
                self._started.set()
        elif index not in self._listening and not self._is_stopping:
            # What keeps one from starting keeps all; later it may be an outage that ends.
            self.refused = said.refused
            self._stop()

    def _stop(self) -> None:
        """Ask every process to stop; asked twice, they wait for nothing more."""
        if not self._is_stopping:
            self._is_stopping = True
            settings = self._settings
            patience_s = 2 * settings.http.drain_s + settings.cluster.release_s + settings.realtime.drain_s
            asyncio.get_running_loop().call_later(patience_s + _LAST_PATIENCE_S, self._kill)
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        self._see_end()

    def _see_end(self) -> None:
        if self._is_stopping and not self._lives:
            self._ended.set()
            self._started.set()

    def _kill(self) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
