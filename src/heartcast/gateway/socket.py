"""A WebSocket connection: the frames, the closing handshake, and JSON in them.

It is the session itself: one object per connection, beside the loop's own.
"""

from __future__ import annotations

import asyncio

from heartcast.gateway.centrifugo import Centrifugo
from heartcast.realtime.realtime import Realtime
from heartcast.realtime.room import Room, frames_of
from heartcast.realtime.session import Session
from heartcast.wire.codec import is_utf8
from heartcast.wire.envelopes import Disconnect
from heartcast.wire.frames import (
    CLOSE,
    INVALID_TEXT,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    FrameReader,
    close_code,
    close_frame,
    frame,
)

_PING_FRAME = frame(b"{}")


class WebSocket(Session):
    """One WebSocket and the session on it."""

    __slots__ = ("_ends", "_reader", "engine", "expires_ms", "replies")

    def __init__(self, realtime: Realtime, engine: Centrifugo, transport: asyncio.Transport) -> None:
        super().__init__(realtime.hub, transport)
        self.engine = engine
        self._reader = FrameReader(realtime.options.max_message_bytes)
        self._ends: dict[str, int] | None = None
        self.expires_ms: int | None = None
        self.replies: list[bytes] | None = None
        """Replies of the message being handled; None between messages."""

    # -- called by the event loop ---------------------------------------------------

    def data_received(self, data: bytes) -> None:
        for opcode, payload in self._reader.feed(data):
            if opcode == CLOSE:
                self._closed_by_peer(payload)
                return
            if self.is_closing:
                continue
            if opcode == PING:
                self.send(frame(payload, PONG))
            elif opcode != PONG:
                self._take(opcode, payload)
        if self._reader.error is not None and not self.is_closing:
            self.close(Disconnect(*self._reader.error))

    def eof_received(self) -> bool:
        return False

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT and not is_utf8(payload):
            self.close(Disconnect(INVALID_TEXT, "text must be UTF-8"))
        else:
            self.engine.handle(self, payload)

    def _closed_by_peer(self, payload: bytes) -> None:
        code = close_code(payload)
        if not self.is_closing:
            if code is None or not is_utf8(payload[2:]):
                self.close(Disconnect(PROTOCOL_ERROR, "bad close frame"))
            else:
                self.close(Disconnect(1000 if code == 1005 else code, ""))
        # Both sides have said goodbye, and the client reads no more: no need to wait.
        self.transport.close()

    # -- out ------------------------------------------------------------------------

    def answer(self, reply: bytes) -> None:
        """Send a reply, together with the others of its message while that is handled."""
        if self.replies is not None:
            self.replies.append(reply)
        else:
            self.send_lines([reply])

    def settle(self) -> None:
        if self.replies:
            lines, self.replies[:] = list(self.replies), []
            self.send_lines(lines)

    def send_lines(self, lines: list[bytes]) -> None:
        self.send(frame(b"\n".join(lines)))

    def push_line(self, line: bytes) -> None:
        self.settle()
        self.send(frame(line))

    def push_lines(self, lines: list[bytes]) -> None:
        if lines and self.speaks_frames:
            self.settle()
            self.send(frames_of(lines))
        else:
            super().push_lines(lines)

    def ping(self) -> None:
        self.awaits_pong = True
        self.send(_PING_FRAME)

    def farewell(self, disconnect: Disconnect) -> bytes:
        return close_frame(*disconnect)

    # -- tokens that end ------------------------------------------------------------

    def prolong(self, expires_ms: int | None) -> None:
        self.engine.expire(self, expires_ms)

    def note_end(self, channel: str, ends_ms: int) -> None:
        if self._ends is None:
            self._ends = {}
        self._ends[channel] = ends_ms

    def end_of(self, channel: str) -> int | None:
        """Wall time at which the subscription's token ends, None when it does not."""
        return self._ends.get(channel) if self._ends is not None else None

    def leave(self, room: Room) -> None:
        super().leave(room)
        if self._ends is not None:
            self._ends.pop(room.channel, None)
