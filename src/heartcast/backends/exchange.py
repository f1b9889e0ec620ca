"""One connection to an HTTP server, and one request with its answer at a time.

``post`` makes these and decides how long they are kept. Bytes that nobody asked for, a
second answer to one request included, end the connection: what it said next could not be
told from an answer.
"""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httptools

from heartcast.core.clock import Clock

_MAX_HEAD_BYTES = 65_536


class Reply(NamedTuple):
    """What a server said."""

    status: int
    """200 to 599."""
    retry_after_s: float | None
    """Seconds that it asked to be left alone; None: it did not ask."""
    body: bytes
    """At most ``Bounds.max_bytes`` of it."""


class Exchange(asyncio.Protocol):
    """One connection; what the parser reports goes into the exchange that is under way."""

    def __init__(self, max_bytes: int, clock: Clock, now_s: float) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._transport: Any = None
        self._parser: Any = None
        self._answer: asyncio.Future[Reply] | None = None
        self._came = 0
        self._body = bytearray()
        self._retry_after = ""
        self._is_framed = False
        self._has_head = False
        self.made_s = self.used_s = now_s
        self.has_answered = False
        """Whether anything came back in this exchange."""
        self.is_lost = False
        self.keeps = False
        """Whether it may be used again."""

    def exchange(self, request: bytes) -> asyncio.Future[Reply]:
        """Send a request; the future gets the answer, or the error that took its place."""
        self._parser = httptools.HttpResponseParser(self)
        self._answer = asyncio.get_running_loop().create_future()
        self._came, self.has_answered, self.keeps = 0, False, False
        self._begin()
        if self.is_lost:
            self._fail(ConnectionResetError("the connection was closed"))
        else:
            self._transport.write(request)
        return self._answer

    def abort(self) -> None:
        """Leave, without a goodbye that nobody might answer."""
        self.is_lost = True
        if self._transport is not None:
            self._transport.abort()
        self._fail(ConnectionAbortedError("posting has ended"))

    def _begin(self) -> None:
        self._body.clear()
        self._retry_after, self._is_framed, self._has_head = "", False, False

    # ── what the transport reports ───────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            # Nobody asked: what it would say next could not be trusted to be an answer.
            self.abort()
            return
        self.has_answered = True
        self._came += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, ValueError) as error:
            self._fail(error)
        if self._came > self._max_bytes + _MAX_HEAD_BYTES:
            self._fail(ValueError("the answer is too long"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if self._has_head and not self._is_framed and exc is None:
            # An answer without a length ends with its connection.
            self._settle()
        self._fail(ConnectionResetError("the answer was cut off" if self.has_answered else "no answer"))

    # ── what the parser reports ──────────────────────────────────────────────

    def on_message_begin(self) -> None:
        if self._answer is None or self._answer.done():
            # A second answer to one request would be taken for the next one's.
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"retry-after":
            self._retry_after = value.decode("latin-1")
        elif lower in (b"content-length", b"transfer-encoding"):
            self._is_framed = True

    def on_headers_complete(self) -> None:
        self._has_head = self._parser.get_status_code() >= 200

    def on_body(self, data: bytes) -> None:
        left = self._max_bytes - len(self._body)
        self._body += data[:left]
        if len(data) > left:
            # Its status says enough; the rest is not worth reading, nor is the connection.
            self._settle()

    def on_message_complete(self) -> None:
        if self._has_head:
            self.keeps = bool(self._parser.should_keep_alive()) and not self.is_lost
            self._settle()
        else:
            # 100 or 103: the answer itself is still to come.
            self._begin()

    def _settle(self) -> None:
        if self._answer is not None and not self._answer.done():
            status = self._parser.get_status_code()
            wait_s = retry_after_s(self._retry_after, self._clock.wall_ms())
            self._answer.set_result(Reply(status, wait_s, bytes(self._body)))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def retry_after_s(value: str, now_ms: int) -> float | None:
    """What a Retry-After says, in seconds from now, >= 0; None: nothing that can be understood."""
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return float(value[:10])
    try:
        at = parsedate_to_datetime(value)
        return max(0.0, at.timestamp() - now_ms / 1000)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
