"""One HTTP connection: hot requests answered on the spot, all others by the application.

uvicorn brings the parser, the request-response cycle of the application and the life of the
connection; this class decides per request who answers. A hot handler is called while the
packet is still in hand: no task, no scope, no timer. Requests for the application are read
to their end first (bodies are bounded) and then run as uvicorn runs them.

Open answers stand in one ordered queue. Handlers are *started* in the order of the requests,
too: what comes after an open request for the application waits for it, as it may depend on it.
When ``max_pipelined`` answers are open, or the client does not read, the connection is not
read either.

A head that is byte for byte one that was judged before, followed by exactly its body, does not
go through the parser again (``HttpPort.known_heads``).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import monotonic_ns
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from heartcast.api.route import Answer
from heartcast.gateway.head import CANNED, HOT, SOCKET, STREAM, Head, judge, refused
from heartcast.gateway.port import HttpPort
from heartcast.gateway.slots import CannedSlot, ColdCycle, ColdSlot, HeadAsGet, HotCall, scope_of

# The parser takes at most this much between two looks at the queue, which bounds how far
# one packet full of small requests can overshoot ``max_pipelined``.
_PIECE_BYTES = 8192
# Longer heads are not worth remembering: they carry cookies or tokens that change.
_MEMORABLE_BYTES = 2048
# Heads of this connection that were not known, after which it is not asked until the next sweep.
_MAX_MISSES = 16
# How long a refused client may go on sending before its connection is cut: a reset any earlier
# would throw away the very answer that says why.
_LINGER_S = 2.0

log = logging.getLogger("heartcast.gateway")

_IDLE, _IN_HEAD, _IN_BODY = range(3)


class _StopParsingError(Exception):
    """Raised through the parser: nothing that follows in this connection is a request."""


class HttpProtocol(HttpToolsProtocol):
    """The protocol of one connection. Made by ``server``; see ``HttpPort`` for the arguments."""

    # Slots, although the parent has a __dict__: past 30 keys Python no longer shares them
    # between objects, and look-ups get slower.
    __slots__ = (
        "_body",
        "_candidate",
        "_continue_due",
        "_head",
        "_head_bytes",
        "_held",
        "_is_advancing",
        "_is_closing",
        "_is_deaf",
        "_is_flush_due",
        "_is_forgotten",
        "_is_half_closed",
        "_is_parsing",
        "_lingers_until_s",
        "_misses",
        "_out",
        "_proxy",
        "_queue",
        "_since_s",
        "_stage",
        "_tail",
        "_takeover",
        "peer",
        "port",
    )  # fmt: skip

    def __init__(
        self, port: HttpPort, config: Config, server_state: ServerState, app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, server_state, app_state, loop)
        self.port = port
        self.peer = ""
        self._proxy: str | None = None
        self._queue: deque[HotCall | ColdSlot | CannedSlot] = deque()
        self._out: list[bytes] = []
        self._head: Head | None = None
        self._body: bytes | bytearray = b""
        self._head_bytes = 0
        self._candidate: bytes | None = None
        self._misses = 0
        self._held = b""
        self._tail = b""
        self._takeover: Head | None = None
        self._stage = _IDLE
        self._since_s = port.now_s
        self._lingers_until_s = 0.0
        self._is_deaf = False
        self._is_closing = False
        self._is_half_closed = False
        self._is_parsing = False
        self._is_flush_due = False
        self._is_advancing = False
        self._is_forgotten = False
        self._continue_due = False

    # -- the connection -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # uvicorn lets a parser go on after "Connection: close"; we never want another request.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        port = self.port
        port.counters.connections += 1
        port.connections.add(self)
        self.peer = self.client[0] if self.client else ""
        self._proxy = self.peer if port.rules.proxies.trusts(self.peer) else None
        self._since_s = port.now_s
        if len(port.connections) > port.options.max_connections:
            self._refuse(
                refused(503, "this server has all the connections it can take", "too_many_connections")
            )
            self._end_packet()

    def connection_lost(self, exc: Exception | None) -> None:
        port = self.port
        port.connections.discard(self)
        port.give(len(self._queue))
        for slot in self._queue:
            if isinstance(slot, ColdSlot) and slot.cycle is not None:
                slot.cycle.disconnected = True
                slot.cycle.message_event.set()
        self._queue.clear()
        self._out.clear()
        self._is_deaf = True
        self._held = self._tail = b""
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. It may still read, so open answers are given first."""
        self._is_half_closed = self._is_closing = True
        return bool(self._queue) and self.scheme == "http"

    def pause_writing(self) -> None:
        super().pause_writing()
        self._pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        # Not now: a transport says so from within a write.
        self.loop.call_soon(self._resume_reading)

    # -- bytes in -------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.port.counters.bytes_in += len(data)
        if self._stage == _IDLE and not self._is_deaf and not self._queue and not self._held:
            end = data.find(b"\r\n\r\n") + 4
            head = self.port.known_heads.get(data[:end]) if self._misses < _MAX_MISSES else None
            if head is not None and len(data) == end + head.content_length and self._proxy is None:
                self._answer_known(head, data[end:])
                return
            self._misses += 1
            self._candidate = data[:end] if 4 < end <= _MEMORABLE_BYTES and self._proxy is None else None
        self._take(data)

    def _answer_known(self, head: Head, body: bytes) -> None:
        self._since_s = self.port.now_s
        self._is_parsing = True
        self._answer_hot(head, body)
        self._is_parsing = False
        if self._out:
            self._flush()
        if self._is_closing and not self._queue:
            self.transport.close()

    def _take(self, data: bytes) -> None:
        """Parse as much as may be parsed now and keep the rest."""
        if self._is_deaf:
            self._ignore(data)
            return
        if self._held or self._is_full():
            self._held += data
            self._pause_reading()
            return
        self._is_parsing = True
        if len(data) <= _PIECE_BYTES:
            self._feed(data, data, 0)
        else:
            self._take_by_pieces(data)
        self._end_packet()

    def _take_by_pieces(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(data), _PIECE_BYTES):
            if self._is_full():
                self._held = data[start:]
                self._pause_reading()
                break
            if not self._feed(view[start : start + _PIECE_BYTES], data, start):
                break

    def _is_full(self) -> bool:
        return len(self._queue) >= self.port.options.max_pipelined or self.flow.write_paused

    def _feed(self, piece: memoryview | bytes, data: bytes, start: int) -> bool:
        """Parse one piece. Returns whether to go on with the next one of this packet."""
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._candidate = None
            self._on_upgrade(data[start + int(upgrade.args[0]) :])
            return False
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, Exception) and not isinstance(
                error.__context__, (_StopParsingError, httptools.HttpParserError)
            ):
                log.exception("a connection failed inside the gateway", exc_info=error.__context__)
                self._refuse(refused(500, "the gateway failed on this request; its log says why", "internal"))
            elif not self._is_deaf:
                self._refuse(refused(400, f"the request is malformed: {error}", "malformed_request"))
            return False
        if self._stage == _IN_HEAD:
            self._head_bytes += len(piece)
            if self._head_bytes > self.port.options.max_header_bytes:
                self._refuse_long_head()
                return False
        self._candidate = None
        return True

    def _refuse_long_head(self) -> None:
        limit = self.port.options.max_header_bytes
        self._refuse(
            refused(431, f"request line and headers may have at most {limit} bytes", "header_too_large")
        )

    def _end_packet(self) -> None:
        self._is_parsing = False
        if self._out:
            self._flush()
        if self._queue:
            if self._is_full():
                self._pause_reading()
            return
        if self._takeover is not None:
            self._hand_over()
        elif self._is_closing and self._stage == _IDLE:
            self._close()
        elif self._continue_due:
            self._continue_due = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _pause_reading(self) -> None:
        if not self.transport.is_closing():
            self.flow.pause_reading()

    def _resume_reading(self) -> None:
        """Go on where a full queue or a slow client stopped us."""
        if self._is_forgotten or self.transport.is_closing() or self._is_full():
            return
        held, self._held = self._held, b""
        if not held:
            self.flow.resume_reading()
            return
        loop = self.loop
        self._take(held)
        # Look again: all of it may be taken, or the connection no longer ours.
        loop.call_soon(self._resume_reading)

    # -- parser callbacks -----------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._is_deaf:
            raise _StopParsingError
        self.url = b""
        self.headers = []
        self._stage = _IN_HEAD
        self._head_bytes = 0
        self._since_s = self.port.now_s

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self.parser
        head = self._head = judge(
            self.port.rules, parser.get_method(), self.url, self.headers,
            version=parser.get_http_version(), keeps_alive=parser.should_keep_alive(),
            upgrades=parser.should_upgrade(), proxy=self._proxy,
        )  # fmt: skip
        self._stage = _IN_BODY
        self._body = b""
        limit = self.port.options.max_header_bytes
        # Counted only when the pieces so far could add up to too much.
        if self._head_bytes + _PIECE_BYTES > limit and self._head_size() > limit:
            self._refuse_long_head()
            raise _StopParsingError
        if head.is_fatal:
            self._refuse(head)
            raise _StopParsingError
        if head.expects_continue:
            self._continue_due = True

    def _head_size(self) -> int:
        # Request line and line ends included, as they were sent.
        return len(self.url) + 20 + sum([len(name) + len(value) + 4 for name, value in self.headers])

    def on_body(self, body: bytes) -> None:
        self._continue_due = False
        if not self._body:
            self._body = body
        elif isinstance(self._body, bytes):
            self._body = bytearray(self._body)
            self._body += body
        else:
            self._body += body
        if len(self._body) > self.port.options.max_body_bytes:
            head = self._head
            assert head is not None
            limit = self.port.options.max_body_bytes
            head.canned = None
            head.refuse(413, f"the body may have at most {limit} bytes", "body_too_large", is_fatal=True)
            self._refuse(head)
            raise _StopParsingError

    def on_message_complete(self) -> None:
        head, body = self._head, bytes(self._body)
        assert head is not None
        if self.parser.should_upgrade():
            # What happens with it is decided in _on_upgrade, when its end is known.
            return
        self._end_message(head, body)
        if self._candidate is not None:
            # The packet began with this request: its bytes up to the first empty line are the head.
            if head.is_memorable:
                self.port.remember(self._candidate, head)
            self._candidate = None

    def _end_message(self, head: Head, body: bytes) -> None:
        self._head = None
        self._body = b""
        self._stage = _IDLE
        self._continue_due = False
        self._since_s = self.port.now_s
        if head.closes:
            self._is_deaf = self._is_closing = True
        if head.kind == HOT and not self._queue:
            self._answer_hot(head, body)
        elif head.kind in (STREAM, SOCKET):
            self._is_deaf = True
            self._takeover = head
        else:
            self._enqueue(head, body)

    # -- answers --------------------------------------------------------------------------

    def _answer_hot(self, head: Head, body: bytes) -> None:
        """Call the handler of a request that nothing stands before."""
        call = HotCall(self, head, body)
        answer = self._run(call)
        if answer is None:
            self._open(call)
            return
        self._out.append(self._render(head, answer))
        if self.port.observe is not None:
            call.observe(self.port.observe)

    def _run(self, call: HotCall) -> Answer | None:
        port = self.port
        hot = call.head.hot
        assert hot is not None
        call.is_started = True
        if port.observe is not None:
            call.started_ns = monotonic_ns()
        answer = port.run(call, hot)
        # A store in memory may have answered before it returned.
        return call.answer if answer is None else answer

    def _open(self, slot: HotCall | ColdSlot | CannedSlot) -> None:
        if isinstance(slot, HotCall):
            slot.is_queued = True
        self._queue.append(slot)
        self.port.open_answers += 1

    def _enqueue(self, head: Head, body: bytes) -> None:
        slot: HotCall | ColdSlot | CannedSlot
        if head.kind == HOT:
            slot = HotCall(self, head, body)
        elif head.kind == CANNED:
            assert head.canned is not None
            slot = CannedSlot(head, head.canned)
        else:
            slot = ColdSlot(head, body)
        self._open(slot)
        self._advance()

    def on_late_answer(self) -> None:
        """A hot answer that was open is ready."""
        if not self._queue:
            self.port.counters.lost_answers += 1
            return
        self._advance()
        if not self._is_parsing:
            self._after_answers()

    def _advance(self) -> None:
        """Give every answer whose turn has come, and start what may be started."""
        if self._is_advancing:
            # A handler that we are just starting answered another of our requests.
            return
        self._is_advancing = True
        queue = self._queue
        while queue:
            slot = queue[0]
            if slot.answer is not None:
                queue.popleft()
                self.port.give(1)
                self._out.append(self._render(slot.head, slot.answer))
                if self.port.observe is not None and isinstance(slot, HotCall):
                    slot.observe(self.port.observe)
            elif not self._start_next():
                break
        self._is_advancing = False

    def _start_next(self) -> bool:
        """Start the first request that waits to be started. Returns False when none may be."""
        for place, slot in enumerate(self._queue):
            if isinstance(slot, ColdSlot):
                if place > 0 or slot.is_started:
                    return False
                self._start_cold(slot)
                return True
            if not slot.is_started and isinstance(slot, HotCall):
                slot.answer = self._run(slot)
                return True
        return False

    def _render(self, head: Head, answer: Answer) -> bytes:
        port = self.port
        hot = head.hot
        if hot is not None:
            statuses = hot.statuses
            status = answer.status
            statuses[status] = statuses.get(status, 0) + 1
        if answer is head.canned and answer.status >= 400:
            port.count_rejection(_code_of(answer))
        closes = head.closes or (self._is_closing and not self._queue and self._stage == _IDLE)
        raw = port.render(head, answer, closes=closes)
        port.counters.bytes_out += len(raw)
        return raw

    def _after_answers(self) -> None:
        """Outside of a packet: send what is ready and go on."""
        if self._queue:
            # More of this connection is probably about to be answered by the same commit.
            if self._out and not self._is_flush_due:
                self._is_flush_due = True
                self.loop.call_soon(self._flush_later)
            return
        self._since_s = self.port.now_s
        if self.flow.read_paused or self._held:
            # Not now: we may be inside a store that is handing out answers.
            self.loop.call_soon(self._resume_reading)
        self._end_packet()

    def _flush_later(self) -> None:
        if self._is_forgotten:
            return
        self._is_flush_due = False
        if self._out:
            self._flush()
        if self.flow.read_paused:
            self._resume_reading()

    def _flush(self) -> None:
        out = self._out
        raw = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        if not self.transport.is_closing():
            self.transport.write(raw)

    # -- the application ------------------------------------------------------------------

    def _start_cold(self, slot: ColdSlot) -> None:
        if self._out:
            self._flush()
        slot.is_started = True
        port = self.port
        port.counters.requests_cold += 1
        event = asyncio.Event()
        event.set()
        head = slot.head
        cycle = slot.cycle = ColdCycle(
            scope=scope_of(self, head),  # type: ignore[arg-type]
            transport=self.transport,
            flow=_ReadOnlyFlow(self.flow),  # type: ignore[arg-type]
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[(b"date", port.date), *head.cors],
            message_event=event,
            expect_100_continue=False,
            # While others wait behind it, the connection is closed after the last of them.
            keep_alive=not (head.closes or (self._is_closing and len(self._queue) == 1)),
            on_response=self._on_cold_complete,
        )
        cycle.body = bytearray(slot.body)
        cycle.more_body = False
        self._start_asgi_task(cycle, HeadAsGet(self.app) if head.is_head else self.app)

    def _on_cold_complete(self) -> None:
        if not self._queue or self.transport.is_closing():
            return
        self._queue.popleft()
        self.port.give(1)
        self._advance()
        self._after_answers()

    # -- refusing, closing ----------------------------------------------------------------

    def _refuse(self, head: Head) -> None:
        """Answer now and listen no more."""
        self._head = None
        self._body = b""
        self._stage = _IDLE
        self._continue_due = False
        self._is_deaf = self._is_closing = True
        self._lingers_until_s = self.port.now_s + _LINGER_S
        self._enqueue(head, b"")

    def _ignore(self, data: bytes) -> None:
        if self._takeover is not None:
            self._tail += data
            if len(self._tail) > self.port.options.max_header_bytes:
                self.flow.pause_reading()

    def _close(self) -> None:
        """End the connection so that the last answer arrives."""
        transport = self.transport
        if transport.is_closing():
            return
        if self._lingers_until_s and not self._is_half_closed and transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def shutdown(self) -> None:
        """Finish what is open, then close."""
        self._is_closing = True
        if not self._queue and self._stage != _IN_BODY and self._takeover is None:
            self.transport.close()
        elif self._queue:
            last = self._queue[-1]
            if isinstance(last, ColdSlot) and last.cycle is not None:
                last.cycle.keep_alive = False

    def abandon(self, answer: Answer) -> None:
        """Fail what is still open."""
        self._is_deaf = True
        has_cold = any(isinstance(slot, ColdSlot) for slot in self._queue)
        for place, slot in enumerate(self._queue):
            if isinstance(slot, HotCall) and slot.answer is None:
                self._queue[place] = CannedSlot(slot.head, answer)
        self._advance()
        if self._out:
            self._flush()
        if not has_cold:
            self.transport.close()

    def sweep(self, now_s: float) -> None:
        """Close when idle for too long; refuse who dawdles."""
        self._misses = 0
        options = self.port.options
        waited_s = now_s - self._since_s
        if self.transport.is_closing():
            # Closed, yet it does not take what is still to be sent.
            if waited_s >= options.keep_alive_s:
                self.transport.abort()
        elif self._lingers_until_s:
            if now_s >= self._lingers_until_s and not self._queue:
                self.transport.close()
        elif self._stage == _IDLE:
            if not self._queue and waited_s >= options.keep_alive_s:
                self._since_s = now_s
                self.transport.close()
        elif waited_s >= (options.header_timeout_s if self._stage == _IN_HEAD else options.body_timeout_s):
            if self.flow.read_paused:
                return  # it is us who do not read
            self._refuse(refused(408, "the request did not arrive in time", "request_timeout"))
            self._end_packet()

    # -- handing the connection over ------------------------------------------------------

    def _on_upgrade(self, rest: bytes) -> None:
        head = self._head
        assert head is not None
        if head.kind == CANNED and not head.has_body:
            self._refuse(head)
        elif head.kind == SOCKET and not head.has_body and self.port.upgrade_websocket is not None:
            self._tail = rest
            self._end_message(head, b"")
        else:
            self._serve_plainly(head, rest)

    def _serve_plainly(self, head: Head, rest: bytes) -> None:
        """Serve a request without the upgrade it offers (h2c, as Java's client does on every call)."""
        self.parser = httptools.HttpRequestParser(self)
        lines = [b"%b %b HTTP/1.1\r\n" % (head.method, head.target)]
        lines += [
            b"%b: %b\r\n" % header
            for header in head.headers
            if header[0] not in (b"connection", b"upgrade", b"http2-settings")
        ]
        if head.closes:
            lines.append(b"connection: close\r\n")
        self._stage = _IDLE
        raw = b"".join([*lines, b"\r\n", rest])
        for start in range(0, len(raw), _PIECE_BYTES):
            if not self._feed(raw[start : start + _PIECE_BYTES], raw, start):
                break

    def _hand_over(self) -> None:
        head, tail, transport, port = self._takeover, self._tail, self.transport, self.port
        assert head is not None
        self.connections.discard(self)
        port.connections.discard(self)
        self.flow.resume_reading()
        path = head.path.decode("latin-1")
        if head.kind == STREAM:
            assert port.open_stream is not None
            port.open_stream(self, transport, path, head.query, head.headers, head.peer or self.peer)
        else:
            assert port.upgrade_websocket is not None
            raw = _handshake(head)
            port.upgrade_websocket(self, transport, path, head.query, head.headers, raw, tail)
        if transport.get_protocol() is self:
            # It was refused and closed; we still have to be told that it is lost.
            self._takeover = None
        else:
            self._forget()

    def _forget(self) -> None:
        # uvloop keeps a transport's first protocol alive for as long as the transport.
        self.__dict__.clear()
        for name in HttpProtocol.__slots__:
            setattr(self, name, None)
        self._is_forgotten = True


class _ReadOnlyFlow:
    """A cycle's view of the connection's flow: it may wait for writing, reading is our business."""

    __slots__ = ("_flow",)

    def __init__(self, flow: Any) -> None:
        self._flow = flow

    @property
    def write_paused(self) -> bool:
        return bool(self._flow.write_paused)

    async def drain(self) -> None:
        await self._flow.drain()

    def resume_reading(self) -> None:
        """Nothing: the body is complete, and the queue decides."""


def _handshake(head: Head) -> bytes:
    """The WebSocket handshake in the one form that every parser takes.

    Firefox sends ``Connection: keep-alive, Upgrade``.
    """
    lines = [b"GET %b HTTP/1.1\r\n" % head.target]
    lines += [b"%b: %b\r\n" % h for h in head.headers if h[0] not in (b"connection", b"upgrade")]
    return b"".join([*lines, b"connection: Upgrade\r\nupgrade: websocket\r\n\r\n"])


def _code_of(answer: Answer) -> str:
    """The code in one of our own problems: the last part of its type."""
    return answer.body.partition(b'"code":"')[2].partition(b'"')[0].decode()
