"""What all HTTP connections of one port share.

The rules by which heads are judged, the table of hot routes, the people to hand connections
to, the counters, and *one* timer: it sweeps over all connections once a second, closes those
that idle or dawdle, and renews the date that stands in every answer.
"""

from __future__ import annotations

import asyncio
import http
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Protocol

from heartcast.api.cors import Origins
from heartcast.api.problems import internal_problem, problem, problem_for
from heartcast.api.route import ANONYMOUS, LATER, Answer, Call, HotHandler, Identity, Route
from heartcast.core.clock import Clock
from heartcast.core.errors import HeartcastError, Unavailable
from heartcast.gateway.head import Head, RawHeaders
from heartcast.gateway.known import KnownHeads
from heartcast.gateway.options import HttpOptions
from heartcast.gateway.origin import OriginGuard
from heartcast.gateway.proxies import TrustedProxies
from heartcast.gateway.starting import Starting
from heartcast.gateway.table import RouteTable

if TYPE_CHECKING:
    from heartcast.gateway.slots import HotCall

SWEEP_S = 1.0

log = logging.getLogger("heartcast.gateway")

Identify = Callable[[RawHeaders, str], Identity]
Admit = Callable[[Route | None, bytes], Answer | None]
Judged = Callable[[Answer | None], None]
LimitClient = Callable[[Route, Call, Judged], Answer | None]
Observe = Callable[[int, int], None]


class UpgradeWebSocket(Protocol):
    """Takes a connection over; the caller never touches the transport again."""

    def __call__(
        self, http_protocol: asyncio.Protocol, transport: asyncio.Transport, path: str, query: bytes,
        headers: RawHeaders, raw_request: bytes, tail: bytes,
    ) -> None: ...  # fmt: skip


class OpenStream(Protocol):
    """Takes a connection over for an event stream."""

    def __call__(
        self, http_protocol: asyncio.Protocol, transport: asyncio.Transport, path: str, query: bytes,
        headers: RawHeaders, peer: str,
    ) -> None: ...  # fmt: skip


class Sender(Protocol):
    """A connection that has something to send."""

    def send_waiting(self) -> None: ...


class Connection(Protocol):
    """What the port asks of each connection."""

    def sweep(self, now_s: float) -> None: ...
    def shutdown(self) -> None: ...
    def abandon(self, answer: Answer) -> None: ...


def nobody(headers: RawHeaders, peer: str) -> Identity:
    """Identify nobody: every caller is anonymous."""
    return ANONYMOUS


class HotRoute:
    """A hot route with what is counted about it."""

    __slots__ = ("handler", "index", "is_public", "route", "statuses")

    def __init__(self, route: Route, index: int) -> None:
        self.route = route
        self.index = index
        """Position in ``HttpPort.routes``; what ``observe`` is called with."""
        self.handler: HotHandler = route.handler  # type: ignore[assignment]  # hot handlers are plain
        self.is_public = route.is_public
        self.statuses: dict[int, int] = {}
        """Answers by status."""


class Rules:
    """What ``head.judge`` needs to know."""

    __slots__ = ("guard", "hot", "max_body_bytes", "origins", "proxies", "streams", "table")

    def __init__(
        self,
        options: HttpOptions,
        hot: dict[tuple[bytes, bytes], HotRoute],
        table: RouteTable,
        *,
        streams: bool,
    ) -> None:
        self.origins = Origins(options.allowed_origins)
        self.guard = OriginGuard(self.origins, options.allowed_hosts)
        self.proxies = TrustedProxies(options.trusted_proxies)
        self.max_body_bytes = options.max_body_bytes
        self.hot = hot
        self.table = table
        self.streams = streams


@dataclass(slots=True)
class Counters:
    """Plain numbers that only grow; read at scrape time."""

    connections: int = 0
    requests_cold: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    """Of hot answers and refusals; the application's own are not counted."""
    failed: int = 0
    """Hot handlers that raised what they should not."""
    lost_answers: int = 0
    """Late answers whose client was gone."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Refusals by their problem's code."""


class HttpPort:
    """The shared half of the HTTP face.

    Args:
        routes: All routes; those that are hot are answered in the protocol.
        clock: For deadlines and the date.
        identify: Says who calls, or raises ``Unauthenticated``; not asked for public routes.
        upgrade_websocket: Takes over WebSocket handshakes; None answers them 404 as any request.
        open_stream: Takes over ``GET /api/v1/stream``; None leaves it to the application.
        admit: Asked with the route and the body before the caller is known; an answer means no. The
            route is None where nothing is known to answer.
        limit: Asked when the caller is known; an answer means no, ``LATER`` that its third
            argument is called with the answer, or with None for yes. None: nobody is limited.
        observe: Told ``(route index, ns)`` after each hot answer.
    """

    def __init__(
        self, options: HttpOptions, routes: Iterable[Route] = (), *, clock: Clock,
        identify: Identify = nobody,
        upgrade_websocket: UpgradeWebSocket | None = None, open_stream: OpenStream | None = None,
        admit: Admit | None = None, limit: LimitClient | None = None, observe: Observe | None = None,
    ) -> None:  # fmt: skip
        self.options = options
        self.clock = clock
        self.identify = identify
        self.upgrade_websocket = upgrade_websocket
        self.open_stream = open_stream
        self.admit = admit
        self.limit = limit
        self.observe = observe
        routes = list(routes)
        hot_routes = [route for route in routes if route.hot and options.hot_path]
        self.routes = [HotRoute(route, index) for index, route in enumerate(hot_routes)]
        table = {(hot.route.method.encode(), hot.route.path.encode()): hot for hot in self.routes}
        self.starting = Starting()
        self.rules = Rules(options, table, RouteTable(routes), streams=open_stream is not None)
        self.counters = Counters()
        self.connections: set[Connection] = set()
        self.open_answers = 0
        """Answers that somebody waits for and that are not given yet."""
        self.patient = 0
        """Of those, how many are in no hurry: they wait for something to happen."""
        self.given = 0
        """Answers that were open and have been given, refusals for want of room not counted."""
        self.known_heads = KnownHeads(options.max_body_bytes)
        self.is_draining = False
        self._quiet: asyncio.Event | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._status_lines: dict[tuple[int, bytes], bytes] = {}
        self._unsent: list[Sender] = []
        self._renew_date()

    # -- answering ------------------------------------------------------------------------

    def run(self, call: HotCall, hot: HotRoute) -> Answer | None:
        """Judge a hot request and call its handler. Never raises; None: the answer comes later."""
        try:
            if self.admit is not None:
                refusal = self.admit(hot.route, call.body)
                if refusal is not None:
                    self.count_rejection("shed")
                    return refusal
            if not hot.is_public:
                call.identity = self.identify(call.headers, call.peer)
            if self.limit is not None:
                refusal = self.limit(hot.route, call, call.judged)
                if refusal is LATER:
                    call.is_held = True
                    return None
                if refusal is not None:
                    self.count_rejection("rate_limited")
                    return refusal
        except HeartcastError as error:
            return problem_for(error, call.identity)
        except Exception:
            return self._failed(hot)
        return self.handle(call, hot)

    def refusal_of(self, head: Head, body: bytes) -> Answer | None:
        """The refusal of a request for the application, before it costs anything there; None: let it in."""
        if self.admit is None:
            return None
        refusal = self.admit(head.route, body)
        if refusal is not None:
            self.count_rejection("shed")
        return refusal

    def handle(self, call: HotCall, hot: HotRoute) -> Answer | None:
        """Call a hot handler. Never raises; None means that the answer comes later."""
        try:
            return hot.handler(call)
        except HeartcastError as error:
            return problem_for(error, call.identity)
        except Exception:
            return self._failed(hot)

    def _failed(self, hot: HotRoute) -> Answer:
        self.counters.failed += 1
        log.exception("the handler of %s %s failed", hot.route.method, hot.route.path)
        return internal_problem()

    def render(self, head: Head, answer: Answer, *, closes: bool) -> bytes:
        """One answer as it goes over the wire."""
        status, body, headers, content_type = answer
        line = self._status_lines.get((status, content_type)) or self._render_status_line(
            status, content_type
        )
        extra = head.extra
        if not (closes or extra or head.is_head or status in (204, 304)):
            if not headers:
                return b"%bcontent-length: %d\r\n\r\n%b" % (line, len(body), body)
            if len(headers) == 1:
                return b"%bcontent-length: %d\r\n%b: %b\r\n\r\n%b" % (line, len(body), *headers[0], body)
        if headers:
            extra += b"".join([b"%b: %b\r\n" % header for header in headers])
        if closes:
            extra += b"connection: close\r\n"
        if status in (204, 304):
            return b"%b%b\r\n" % (line, extra)
        if head.is_head:
            return b"%bcontent-length: %d\r\n%b\r\n" % (line, len(body), extra)
        return b"%bcontent-length: %d\r\n%b\r\n%b" % (line, len(body), extra, body)

    def _render_status_line(self, status: int, content_type: bytes) -> bytes:
        line = b"HTTP/1.1 %d %b\r\ndate: %b\r\n" % (status, _phrase(status), self.date)
        if content_type:
            line += b"content-type: %b\r\n" % content_type
        self._status_lines[status, content_type] = line
        return line

    def send_soon(self, connection: Sender, loop: asyncio.AbstractEventLoop) -> None:
        """Let a connection send at the end of this turn of the loop, after all others have read.

        A write wakes the process that waits for it. Those of a turn in one go find it awake, which
        is a fifth of all that a heart costs where clients or a proxy live on this machine.
        """
        if not self._unsent:
            loop.call_soon(self._send_all)
        self._unsent.append(connection)

    def _send_all(self) -> None:
        unsent, self._unsent = self._unsent, []
        for connection in unsent:
            connection.send_waiting()

    def count_rejection(self, code: str) -> None:
        rejected = self.counters.rejected
        rejected[code] = rejected.get(code, 0) + 1

    # -- the one timer --------------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to sweep once a second."""

        def tick() -> None:
            self._timer = loop.call_later(SWEEP_S, tick)
            self.sweep()

        self._timer = loop.call_later(SWEEP_S, tick)

    def stop(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def sweep(self) -> None:
        """Renew the date and close what idles or dawdles."""
        self._renew_date()
        for connection in list(self.connections):
            connection.sweep(self.now_s)

    def _renew_date(self) -> None:
        self.now_s = self.clock.monotonic_s()
        """Monotonic seconds at the last sweep: deadlines need no better."""
        self.date = formatdate(self.clock.wall_ms() / 1000, usegmt=True).encode()
        self._status_lines.clear()

    # -- stopping -------------------------------------------------------------------------

    async def drain(self) -> None:
        """Answer what is open and let no connection begin anew; 503 after ``drain_s``."""
        self.is_draining = True
        for connection in list(self.connections):
            connection.shutdown()
        if self.open_answers:
            self._quiet = asyncio.Event()
            try:
                await asyncio.wait_for(self._quiet.wait(), self.options.drain_s)
            except TimeoutError:
                log.warning("stopping: %d answers were not ready in time", self.open_answers)
        unavailable = stopping()
        for connection in list(self.connections):
            connection.abandon(unavailable)

    def hurry(self) -> None:
        """Wait no longer for open answers."""
        if self._quiet is not None:
            self._quiet.set()

    def give(self, answers: int) -> None:
        """That many open answers are given, or their client is gone."""
        self.open_answers -= answers
        if self._quiet is not None and self.open_answers <= 0:
            self._quiet.set()


def stopping() -> Answer:
    """The answer to what a stop cuts off."""
    return problem(Unavailable("the server is stopping; repeat the request elsewhere", code="stopping"))


def _phrase(status: int) -> bytes:
    try:
        return http.HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
