"""One connected client, whatever it speaks.

A session knows its user, its channels and its socket. The gateway's faces (WebSocket,
SSE) are its subclasses: they say how a publication looks on the wire. Everything a
session holds is counted: an idle one with a subscription costs a few words, because
a second channel, a backlog and a name are only made when they are needed.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from heartcast.realtime.outbound import HIGH_WATER_BYTES, LOW_WATER_BYTES, Backlog
from heartcast.wire.envelopes import SLOW, Disconnect

if TYPE_CHECKING:
    from heartcast.realtime.hub import Hub
    from heartcast.realtime.log import Publication
    from heartcast.realtime.room import Room

CLOSE_GRACE_S = 2.0
"""A peer that does not finish the closing handshake is cut off after this."""


class Session(ABC):
    """A connection and its subscriptions.

    Attributes:
        serial: Its number in this process; the client id is made of it.
        user: Whose it is; None: nobody's.
        awaits_pong: A ping was sent and not answered yet.
        is_closing: Nothing more is sent or read.
        tracked: Those of its rooms that are no channels to the limit; None: there are none.
    """

    __slots__ = (
        "_more",
        "awaits_pong",
        "backlog",
        "first",
        "hub",
        "is_closing",
        "serial",
        "tracked",
        "transport",
        "user",
    )

    speaks_frames: ClassVar[bool] = True
    """Whether a channel's frames can be written to it as they are."""
    is_stream: ClassVar[bool] = False
    """Whether its channels are fixed when it is opened: an event stream."""

    def __init__(self, hub: Hub, transport: asyncio.Transport) -> None:
        self.hub = hub
        self.transport = transport
        self.serial = hub.enter(self)
        self.user: str | None = None
        self.first: Room | None = None
        self._more: dict[str, Room] | None = None
        self.tracked: set[Room] | None = None
        self.backlog: Backlog | None = None
        self.awaits_pong = False
        self.is_closing = False
        transport.set_write_buffer_limits(HIGH_WATER_BYTES, LOW_WATER_BYTES)

    # -- channels ------------------------------------------------------------

    @property
    def client_id(self) -> str:
        return self.hub.client_id(self.serial)

    def rooms(self) -> Iterator[Room]:
        if self.first is not None:
            yield self.first
        if self._more is not None:
            yield from self._more.values()

    def room(self, channel: str) -> Room | None:
        """The room of a channel this session is in, or is about to be in."""
        if self.first is not None and self.first.channel == channel:
            return self.first
        return self._more.get(channel) if self._more is not None else None

    @property
    def channel_count(self) -> int:
        """Its channels without those it tracks, which have a limit of their own."""
        count = (self.first is not None) + (len(self._more) if self._more is not None else 0)
        return count - (len(self.tracked) if self.tracked is not None else 0)

    @property
    def is_plain(self) -> bool:
        """Whether a channel's bytes can be written to it without looking: one channel, no backlog."""
        return self._more is None and self.backlog is None

    def enter(self, room: Room) -> None:
        if self.first is None:
            self.first = room
        elif self._more is None:
            self._more = {room.channel: room}
        else:
            self._more[room.channel] = room

    def track(self, room: Room) -> None:
        """Enter a room that is no channel to the limit."""
        self.enter(room)
        if self.tracked is None:
            self.tracked = set()
        self.tracked.add(room)

    def leave(self, room: Room) -> None:
        if self.tracked is not None:
            self.tracked.discard(room)
            self.tracked = self.tracked or None
        if self._more is not None:
            if self.first is room:
                self.first = self._more.pop(next(iter(self._more)))
            else:
                self._more.pop(room.channel, None)
            self._more = self._more or None
        elif self.first is room:
            self.first = None

    def prolong(self, expires_ms: int | None) -> None:
        """Its token ends at another time, or never; for faces whose tokens can be renewed."""
        return

    # -- out -----------------------------------------------------------------

    def wire(self, room: Room, publications: list[Publication], piece: bytes) -> bytes:
        """These publications as bytes for this socket; ``piece`` is their WebSocket form."""
        return piece

    @abstractmethod
    def ping(self) -> None:
        """Send whatever keeps this kind of connection alive."""

    @abstractmethod
    def push_line(self, line: bytes) -> None:
        """Send a push that is no publication (someone joined, an unsubscribe)."""

    def push_lines(self, lines: list[bytes]) -> None:
        """Send several pushes that are no publications."""
        for line in lines:
            self.push_line(line)

    @abstractmethod
    def farewell(self, disconnect: Disconnect) -> bytes:
        """Last bytes before the socket is closed."""

    def settle(self) -> None:
        """Write out replies that wait for the end of their message: a push is about to follow."""
        return

    def send(self, piece: bytes) -> None:
        """Send bytes to this client alone."""
        if self.backlog is not None:
            self.put("", piece)
        elif not self.is_closing:
            self.write(piece)

    def write(self, piece: bytes) -> None:
        try:
            self.transport.write(piece)
        except Exception:
            # A transport that is already gone may raise; its connection_lost cleans up.
            self.hub.failed_writes += 1

    def put(self, channel: str, piece: bytes) -> None:
        """Keep bytes for a socket that is full, or give up on it."""
        backlog = self.backlog
        if backlog is None or self.is_closing:
            return
        options = self.hub.options_of(channel)
        free_bytes = options.queue_bytes - backlog.size - self.transport.get_write_buffer_size()
        before = backlog.dropped
        if backlog.make_room(channel, piece, free_bytes, options.overflow if channel else "disconnect"):
            backlog.add(channel, piece)
            self.hub.dropped += backlog.dropped - before
        else:
            self.hub.slow_disconnects += 1
            self.close(SLOW)

    # -- called by the event loop ---------------------------------------------

    def pause_writing(self) -> None:
        if self.backlog is None and not self.is_closing:
            self.backlog = Backlog()
            self.hub.slowed(self)

    def resume_writing(self) -> None:
        backlog = self.backlog
        if backlog is None:
            return
        while backlog.size and self.transport.get_write_buffer_size() <= HIGH_WATER_BYTES:
            self.write(backlog.take(HIGH_WATER_BYTES))
        if not backlog.size and self.transport.get_write_buffer_size() <= HIGH_WATER_BYTES:
            self.backlog = None
            self.hub.recovered_pace(self)

    def check_progress(self, backlog: Backlog) -> bool:
        """Close it if its socket took nothing since the last look; whether to look again."""
        if self.backlog is not backlog or self.is_closing:
            return False
        waiting = self.transport.get_write_buffer_size() + backlog.size
        if backlog.seen_bytes == self.transport.get_write_buffer_size() and waiting:
            self.hub.slow_disconnects += 1
            self.close(SLOW)
            return False
        backlog.seen_bytes = self.transport.get_write_buffer_size()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closing = True
        self.backlog = None
        self.hub.exit(self)

    def close(self, disconnect: Disconnect) -> None:
        """Say goodbye and close. The peer has ``CLOSE_GRACE_S`` to take leave."""
        if self.is_closing:
            return
        self.is_closing = True
        self.backlog = None
        self.hub.closed_with(disconnect.code)
        self.hub.leave_all(self)
        self.write(self.farewell(disconnect))
        # Not closed at once: bytes of the client still on their way would make the
        # kernel answer with a reset, and the client would never read the close code.
        self.hub.after(CLOSE_GRACE_S, self.cut)

    def cut(self) -> None:
        """Close the socket; what it did not take in time is given up."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()
