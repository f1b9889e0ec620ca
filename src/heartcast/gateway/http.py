"""One HTTP connection: hot requests answered on the spot, all others by the application.

uvicorn brings the parser, the request-response cycle of the application and the life of the
connection; this class decides per request who answers. A hot handler is called while the
packet is still in hand: no task, no scope, no timer. Requests for the application are read
to their end first (bodies are bounded) and then run as uvicorn runs them.

When ``max_pipelined`` answers are open, or the client does not read, the connection is not
read either.

Requests whose heads are like one that was judged before, each followed by its whole body, do
not go through the parser again (``gateway.known``).
"""

from __future__ import annotations

import asyncio
import logging

import httptools

from heartcast.gateway.answers import IDLE, IN_BODY, IN_HEAD
from heartcast.gateway.head import HOT, SOCKET, STREAM, Head, RawHeaders, judge, refused
from heartcast.gateway.known import Known
from heartcast.gateway.slots import ColdSlot
from heartcast.gateway.takeover import PIECE_BYTES, Takeover

# Longer heads are not worth remembering: they carry cookies or tokens that change.
_MEMORABLE_BYTES = 2048
# Heads of this connection that were not known, after which it is not asked until the next sweep.
_MAX_MISSES = 16

log = logging.getLogger("heartcast.gateway")


class _StopParsingError(Exception):
    """Raised through the parser: nothing that follows in this connection is a request."""


class HttpProtocol(Takeover):
    """The protocol of one connection. Made by ``server``; see ``HttpPort`` for the arguments."""

    __slots__ = ()

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
            if isinstance(slot, ColdSlot):
                port.patient -= slot.is_patient
                if slot.cycle is not None:
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
        if self._out:
            self._flush()
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
        if self._stage == IDLE and not self._is_deaf and not self._queue and not self._held:
            heads, end = self.port.known_heads, data.find(b"\r\n\r\n") + 4
            known = heads.exact.get(data[:end])
            if known is None and self._misses < _MAX_MISSES and 3 < end <= _MEMORABLE_BYTES:
                known = heads.find_shape(data[:end])
            if self._proxy is not None:
                pass
            elif known is None:
                self._misses += 1
                self._candidate = data[:end] if 4 < end <= _MEMORABLE_BYTES else None
            elif len(data) == end + known[2]:
                self._answer_known(known, data[end:])
                return
            else:
                data = self._take_known(data)
                if not data:
                    return
        self._take(data)

    def _answer_known(self, known: Known, body: bytes) -> None:
        """What nearly every packet is: one request, whose head is known by its bytes."""
        self._since_s = self.port.now_s
        self._is_parsing = True
        if known[0].kind == HOT:
            self._answer_hot(known[0], body, known[1])
        else:
            self._enqueue(known[0], body, known[1])
        self._is_parsing = False
        if self._out and not self._is_flush_due:
            self._send_soon()

    def _take_known(self, data: bytes) -> bytes:
        """Answer the requests at the beginning whose heads are known; returns what is left to be parsed."""
        start, find = 0, self.port.known_heads.find
        self._is_parsing = True
        while not (self._is_closing or self._is_full()):
            end = data.find(b"\r\n\r\n", start) + 4
            known = find(data[start:end]) if end > 3 else None
            if known is None or end + known[2] > len(data):
                break
            head, headers, length = known
            self._end_message(head, data[end : end + length], headers)
            start = end + length
            if start == len(data):
                self._end_packet()
                return b""
        self._is_parsing = False
        return data[start:] if start else data

    def _take(self, data: bytes) -> None:
        """Parse as much as may be parsed now and keep the rest."""
        if self._is_deaf:
            self._keep_tail(data)
            return
        if self._held or self._is_full():
            self._held += data
            self._pause_reading()
            if self._out:
                self._flush()
            return
        self._is_parsing = True
        if len(data) <= PIECE_BYTES:
            self._feed(data, data, 0)
        else:
            self._take_by_pieces(data)
        self._end_packet()

    def _take_by_pieces(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(data), PIECE_BYTES):
            if self._is_full():
                self._held = data[start:]
                self._pause_reading()
                break
            if not self._feed(view[start : start + PIECE_BYTES], data, start):
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
        if self._stage == IN_HEAD:
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
        elif self._is_closing and self._stage == IDLE:
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
        self._stage = IN_HEAD
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
        self._stage = IN_BODY
        self._body = b""
        limit = self.port.options.max_header_bytes
        # Counted only when the pieces so far could add up to too much.
        if self._head_bytes + PIECE_BYTES > limit and self._head_size() > limit:
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
        self._end_message(head, body, head.headers)
        if self._candidate is not None:
            # The packet began with this request: its bytes up to the first empty line are the head.
            if head.is_memorable:
                self.port.known_heads.remember(self._candidate, head)
            self._candidate = None

    def _end_message(self, head: Head, body: bytes, headers: RawHeaders) -> None:
        self._head = None
        self._body = b""
        self._stage = IDLE
        self._continue_due = False
        self._since_s = self.port.now_s
        if head.closes:
            self._is_deaf = self._is_closing = True
        if head.kind == HOT and not self._queue:
            self._answer_hot(head, body, headers)
        elif head.kind in (STREAM, SOCKET):
            self._is_deaf = True
            self._takeover = head
        else:
            self._enqueue(head, body, headers)
