"""The process's one listening socket, hosted by uvicorn.

uvicorn brings accepting, TLS and the life of the application's tasks. Three things are done
differently. Failing to listen is an error with one plain sentence instead of a log line and an
exit. A signal asks for a stop and is not raised again afterwards, so that Ctrl-C drains and
exits 0. And stopping has an order: accept nothing new, give the open answers, close the
sessions, then let uvicorn end what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Literal

import uvicorn

from heartcast.core.errors import SettingsError
from heartcast.gateway.http import HttpProtocol
from heartcast.gateway.options import HttpOptions
from heartcast.gateway.port import HttpPort

log = logging.getLogger("heartcast.gateway")

# What is left when the port has drained had its time already.
_LAST_GRACE_S = 1


def _no_words() -> None:
    """The default of ``on_stopping``."""


async def _nothing() -> None:
    """The default of ``close_sessions``."""


class Server(uvicorn.Server):
    """Listens, and stops in order.

    Args:
        port: The HTTP face; its options say where to listen.
        app: The ASGI application for everything that is not hot.
        on_stopping: Called once when it stops, before open answers are waited for: whoever holds
            some back on purpose gives them now.
        close_sessions: Awaited once while stopping, after open answers were given: closes
            WebSockets and streams with a reason their clients understand.
        lifespan: Whether the application wants ASGI's lifespan events.
        takes_signals: Whether SIGINT and SIGTERM stop this server; a second one cuts the wait.
        tunes_collector: Whether to freeze what exists at start and let the garbage collector run
            rarely; for the process as a whole.
        shares_port: Whether other processes listen on the same port (SO_REUSEPORT).

    Raises:
        SettingsError: the certificate or its key cannot be read or do not fit.
    """

    def __init__(
        self, port: HttpPort, app: Any, *, on_stopping: Callable[[], None] = _no_words,
        close_sessions: Callable[[], Awaitable[None]] = _nothing,
        lifespan: Literal["on", "off"] = "off", takes_signals: bool = True, tunes_collector: bool = True,
        shares_port: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(_uvicorn_config(port.options, app, lifespan))
        self.port = port
        self.addresses: list[tuple[str, int]] = []
        """Where it listens, once started; the real port when 0 was asked for."""
        self.ready = asyncio.Event()
        """Set when it listens."""
        self.servers: list[Any] = []
        self._on_stopping = on_stopping
        self._close_sessions = close_sessions
        self._takes_signals = takes_signals
        self._tunes_collector = tunes_collector
        self._shares_port = shares_port
        self._stop = asyncio.Event()

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it, like ``http://127.0.0.1:8080``."""
        host, port = self.addresses[0]
        if host in ("0.0.0.0", "::"):  # noqa: S104 -- compared, not bound
            host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
        scheme = "https" if self.config.is_ssl else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def stop(self) -> None:
        """Stop in order; called again, without waiting any longer."""
        if self.should_exit:
            self.force_exit = True
            self.port.hurry()
        self.should_exit = True
        self._stop.set()

    # -- what uvicorn calls ---------------------------------------------------------------

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen.

        Raises:
            SettingsError: host and port cannot be listened on.
        """
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise SettingsError("the application failed to start; its log says why")
        loop = asyncio.get_running_loop()
        options = self.port.options
        try:
            server = await loop.create_server(
                self._make_protocol,
                options.host,
                options.port,
                ssl=self.config.ssl,
                backlog=options.backlog,
                reuse_port=self._shares_port or None,
            )
        except (OSError, UnicodeError) as error:
            await self.lifespan.shutdown()
            raise _bind_error(options, error) from error
        self.servers = [server]
        self.addresses = [sock.getsockname()[:2] for sock in server.sockets]
        self.port.start(loop)
        if self._tunes_collector:
            # Measured: p99 13 -> 3 ms and 5 % more requests. What start-up made stays for ever,
            # so looking at it again and again finds nothing.
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 50, 1000)
        self.started = True
        self.ready.set()

    def _make_protocol(self) -> HttpProtocol:
        return HttpProtocol(self.port, self.config, self.server_state, self.lifespan.state)

    async def main_loop(self) -> None:
        """Wait for the stop; uvicorn would look for it ten times a second."""
        await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop in order: accept nothing, give open answers, close sessions, end the rest."""
        for server in self.servers:
            server.close()
        self._on_stopping()
        await self.port.drain()
        await self._close_sessions()
        self.port.stop()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if not self._takes_signals or threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def _uvicorn_config(options: HttpOptions, app: Any, lifespan: Literal["on", "off"]) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        http=HttpProtocol,
        ws="none",
        interface="asgi3",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=options.backlog,
        timeout_graceful_shutdown=_LAST_GRACE_S,
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
    )
    try:
        config.load()
    except ssl.SSLError as error:
        raise SettingsError(
            f"{options.tls_cert} and its key cannot be used: {error.reason or 'not in PEM'}",
            path="http.tls_cert",
        ) from error
    except OSError as error:
        name = error.filename or options.tls_cert
        raise SettingsError(f"cannot read {name}: {error.strerror}", path="http.tls_cert") from error
    return config


def _bind_error(options: HttpOptions, error: Exception) -> SettingsError:
    where = f"{options.host}:{options.port}"
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return SettingsError(f"the host {options.host!r} cannot be resolved", path="http.host")
    if number == errno.EADDRINUSE:
        return SettingsError(
            f"{where} is already in use; stop the other program or choose another port", path="http.port"
        )
    if number in (errno.EACCES, errno.EPERM):
        return SettingsError(
            f"no permission to listen on {where}; ports below 1024 are reserved", path="http.port"
        )
    if number == errno.EADDRNOTAVAIL:
        return SettingsError(f"{options.host} is not an address of this machine", path="http.host")
    return SettingsError(f"cannot listen on {where}: {error}", path="http.host")
