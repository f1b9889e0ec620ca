"""Server-sent events: channels for everything that can read a web page.

``GET /api/v1/stream?channel=feed:a&channel=hearts:post_1`` answers with a standard
event stream. Every publication is one ``message`` event::

    id: feed%3Aa:17:5c1e0f92ab
    data: {"channel":"feed:a","data":{…},"offset":17}

The id is a cursor over all channels of the stream that have a history, so that one
``Last-Event-ID`` continues each of them; it only comes with publications that move it.
A channel that cannot be continued says so by a ``gap`` event, and the stream goes on
from its newest publication. ``subscribed`` comes once, when all channels are open, and
``close`` before the server ends the stream.

``?target=post_1&target=post_2`` watches counts of targets, hundreds on one stream (``api.track``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from urllib.parse import parse_qs, quote, unquote

import msgspec

from heartcast.api.problems import problem
from heartcast.api.track import Tracked, Tracking
from heartcast.core.errors import (
    Forbidden,
    HeartcastError,
    InvalidInput,
    NotFound,
    Overloaded,
    StoreUnavailable,
    Unauthenticated,
    Unavailable,
)
from heartcast.core.names import user_text
from heartcast.hearts.live import channel_of
from heartcast.realtime.log import Position, Publication
from heartcast.realtime.namespaces import is_channel_name, may_subscribe
from heartcast.realtime.realtime import Claims, Realtime
from heartcast.realtime.recovery import Joined
from heartcast.realtime.room import Room
from heartcast.realtime.session import Session
from heartcast.wire.codec import encode
from heartcast.wire.envelopes import CONNECTION_EXPIRED, SERVER_ERROR, Disconnect, Refusal

Headers = list[tuple[bytes, bytes]]
Values = dict[str, list[str]]
Cors = Callable[[bytes | None], tuple[tuple[bytes, bytes], ...]]
"""Headers that let a page of this origin read the answer."""

RETRY_MS = 2_000
_HEARTBEAT = b":\n\n"
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache, no-transform\r\nx-accel-buffering: no\r\nconnection: close\r\n"
)


def no_cors(origin: bytes | None) -> tuple[tuple[bytes, bytes], ...]:
    return ()


# -- the cursor --------------------------------------------------------------------


def cursor_of(positions: dict[str, Position]) -> str:
    """All positions as one event id: ``channel:offset:epoch``, joined by commas."""
    return ",".join(
        f"{quote(channel, safe='')}:{position.offset}:{position.epoch}"
        for channel, position in positions.items()
    )


def positions_in(cursor: str) -> dict[str, Position]:
    """What ``cursor_of`` wrote; parts that are something else are left out."""
    positions: dict[str, Position] = {}
    for part in cursor.split(","):
        channel, _, rest = part.partition(":")
        offset, mark, epoch = rest.partition(":")
        if mark and offset.isascii() and offset.isdigit() and len(offset) < 20:
            positions[unquote(channel)] = Position(int(offset), epoch)
    return positions


# -- events -------------------------------------------------------------------------


class _Message(msgspec.Struct, gc=False):
    channel: str
    data: msgspec.Raw
    offset: int | msgspec.UnsetType = msgspec.UNSET
    tags: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


def _event(data: bytes, *, name: str = "", event_id: str = "") -> bytes:
    head = f"id: {event_id}\n" if event_id else ""
    head += f"event: {name}\n" if name else ""
    return head.encode() + b"data: " + data + b"\n\n"


class Stream(Session):
    """One event stream and the session on it.

    Attributes:
        positions: Where the client stands in each channel with a history.
    """

    __slots__ = ("_opening", "positions")
    speaks_frames = False
    is_stream = True

    def __init__(self, realtime: Realtime, transport: asyncio.Transport, opening: int) -> None:
        super().__init__(realtime.hub, transport)
        self.positions: dict[str, Position] = {}
        self._opening = opening

    def data_received(self, data: bytes) -> None:
        """A reader of a stream has nothing to say."""

    def eof_received(self) -> bool:
        return False

    def wire(self, room: Room, publications: list[Publication], piece: bytes) -> bytes:
        if room.channel in self.positions:
            return self._messages(room.channel, publications)
        known = room.events
        # By identity: the list of a tick is the same for all its sessions, and never changed.
        if known is None or known[0] is not publications:
            known = room.events = publications, self._messages(room.channel, publications)
        return known[1]

    def _messages(self, channel: str, publications: list[Publication]) -> bytes:
        return b"".join([self._message(channel, publication) for publication in publications])

    def _message(self, channel: str, publication: Publication) -> bytes:
        data, offset, tags, _ = publication
        event_id = ""
        position = self.positions.get(channel)
        if offset and position is not None:
            self.positions[channel] = Position(offset, position.epoch)
            event_id = cursor_of(self.positions)
        message = _Message(channel, msgspec.Raw(data), offset or msgspec.UNSET, tags or msgspec.UNSET)
        return _event(encode(message), event_id=event_id)

    def opened(self, channel: str, answer: Joined | Refusal, *, keeps_position: bool, asked: bool) -> None:
        """A channel's subscription was answered."""
        if isinstance(answer, Refusal):
            self.close(SERVER_ERROR)
            return
        pieces: list[bytes] = []
        if answer.position is not None and keeps_position:
            self.positions[channel] = answer.position
            if asked and not answer.recovered:
                where = {"channel": channel, "offset": answer.position.offset, "epoch": answer.position.epoch}
                pieces.append(_event(encode(where), name="gap", event_id=cursor_of(self.positions)))
        pieces.extend(self._message(channel, publication) for publication in answer.publications)
        self._opened(pieces)

    def tracked_from_now(self, answer: Tracked | StoreUnavailable) -> None:
        """The counts of what it tracks."""
        if isinstance(answer, StoreUnavailable):
            self.close(SERVER_ERROR)
            return
        counts = [(channel_of(count.target_id), encode(count)) for count in answer.counts]
        self._opened([self._message(channel, Publication(data, 0)) for channel, data in counts])

    def _opened(self, pieces: list[bytes]) -> None:
        self._opening -= 1
        if not self._opening:
            channels = {"channels": [room.channel for room in self.rooms()]}
            pieces.append(_event(encode(channels), name="subscribed", event_id=cursor_of(self.positions)))
        self.send(b"".join(pieces))

    def ping(self) -> None:
        # Nothing answers: a reader that is gone shows as a full or a reset socket.
        self.send(_HEARTBEAT)

    def push_line(self, line: bytes) -> None:
        """Who joins and leaves is not told on a stream; nobody asked for it."""

    def farewell(self, disconnect: Disconnect) -> bytes:
        return _event(encode({"code": disconnect.code, "reason": disconnect.reason}), name="close")


# -- the request --------------------------------------------------------------------


class StreamGateway:
    """Turns ``GET /api/v1/stream`` into sessions.

    Args:
        cors: Headers for a page's origin.
        tracking: Who tracks what; None: there are no counts here.
    """

    def __init__(self, realtime: Realtime, cors: Cors = no_cors, tracking: Tracking | None = None) -> None:
        self._realtime = realtime
        self._tracking = tracking
        self._hub = realtime.hub
        self._cors = cors

    def open(
        self,
        http_protocol: object,
        transport: asyncio.Transport,
        path: str,
        query: bytes,
        headers: Headers,
        peer: str,
    ) -> None:
        """Answer the request and keep the connection.

        Args:
            headers: Names in lower case.
        """
        fields = dict(reversed(headers))
        cors = b"".join(b"%s: %s\r\n" % header for header in self._cors(fields.get(b"origin")))
        try:
            self._open(transport, _values(query), fields, cors)
        except HeartcastError as error:
            transport.write(_refusal(error, cors))
            transport.close()

    def _open(
        self,
        transport: asyncio.Transport,
        values: Values,
        fields: dict[bytes, bytes],
        cors: bytes,
    ) -> None:
        if self._realtime.is_stopping:
            raise Unavailable("the server is stopping")
        if self._hub.connections >= self._realtime.options.max_connections:
            raise Overloaded("no more connections")
        channels = self._channels(values)
        claims = self._claims(values, fields)
        user = claims.user if claims is not None else self._dev_user(values)
        self._check_access(channels, user, claims)
        targets = self._targets(values, user)
        session = Stream(self._realtime, transport, len(channels) + bool(targets))
        transport.set_protocol(session)  # type: ignore[arg-type]  # the loop asks for its methods only
        transport.write(_HEAD + cors + b"\r\nretry: %d\n\n" % RETRY_MS)
        self._hub.connected(session, user)
        self._expire(session, claims)
        self._join(session, channels, _last_event_id(values, fields))
        if targets and self._tracking is not None:
            self._tracking.start(session, targets, session.tracked_from_now)

    def _join(self, session: Stream, channels: list[str], cursor: str) -> None:
        known = positions_in(cursor)
        # All of them before the first event: its id must not forget the others.
        session.positions = {name: known[name] for name in channels if name in known and self._keeps(name)}
        for channel in channels:
            position = session.positions.get(channel)
            opened = partial(
                session.opened,
                channel,
                keeps_position=self._keeps(channel),
                asked=position is not None,
            )
            self._hub.join(session, channel, position, opened)

    def _keeps(self, channel: str) -> bool:
        """Whether a stream can be continued in this channel; a cache only ever has its latest."""
        options = self._hub.options_of(channel)
        return options.recovery == "stream" or options.delivery == "assured"

    def _channels(self, values: Values) -> list[str]:
        channels = list(dict.fromkeys(values.get("channel", ())))
        if not channels and not values.get("target"):
            raise InvalidInput("name at least one channel: ?channel=…", pointer="/channel")
        limit = self._realtime.options.max_channels_per_connection
        if len(channels) > limit:
            raise InvalidInput(f"at most {limit} channels in one stream", pointer="/channel")
        for channel in channels:
            if not is_channel_name(channel):
                raise InvalidInput("a channel is printable ASCII, at most 1024", code="invalid_channel")
            if not self._hub.has_namespace(channel):
                raise NotFound(f"no namespace for channel {channel[:80]!r}", code="unknown_channel")
        return channels

    def _targets(self, values: Values, user: str | None) -> list[str]:
        targets = list(dict.fromkeys(values.get("target", ())))
        if not targets:
            return targets
        if self._tracking is None:
            raise InvalidInput("there are no counts to watch here", pointer="/target")
        self._tracking.check(targets, user, self._realtime.mode, "/target")
        return targets

    def _claims(self, values: Values, fields: dict[bytes, bytes]) -> Claims | None:
        token = next(iter(values.get("token", ())), "")
        scheme, _, credentials = fields.get(b"authorization", b"").partition(b" ")
        if not token and scheme.lower() == b"bearer":
            token = credentials.decode("latin-1").strip()
        return self._realtime.verify(token) if token else None

    def _dev_user(self, values: Values) -> str | None:
        if self._realtime.mode == "dev":
            named = next(iter(values.get("user", ())), None)
            return user_text(named, "/user") if named is not None else None
        if not self._realtime.options.allow_anonymous:
            raise Unauthenticated("a token is required")
        return None

    def _check_access(self, channels: list[str], user: str | None, claims: Claims | None) -> None:
        granted = claims.channel if claims is not None else None
        for channel in channels:
            options = self._hub.options_of(channel)
            if channel != granted and not may_subscribe(options, channel, user, self._realtime.mode):
                raise Forbidden(f"this caller may not read channel {channel!r}", code="channel_forbidden")

    def _expire(self, session: Stream, claims: Claims | None) -> None:
        if claims is not None and claims.expires_ms is not None:
            left_s = max(0.0, (claims.expires_ms - self._realtime.clock.wall_ms()) / 1000)
            self._hub.after(left_s, lambda: session.close(CONNECTION_EXPIRED))


def _refusal(error: HeartcastError, cors: bytes) -> bytes:
    status, body, headers, content_type = problem(error)
    extra = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n%s%sconnection: close\r\n\r\n%s" % (
        status,
        HTTPStatus(status).phrase.encode(),
        content_type,
        len(body),
        extra,
        cors,
        body,
    )


def _values(query: bytes) -> Values:
    try:
        return parse_qs(query.decode("ascii"), errors="strict", max_num_fields=1_000)
    except ValueError as error:
        raise InvalidInput("the query must be percent-encoded UTF-8") from error


def _last_event_id(values: Values, fields: dict[bytes, bytes]) -> str:
    # A page that opens a new EventSource cannot set the header: it may say it in the query.
    header = fields.get(b"last-event-id")
    if header is not None:
        return header.decode("latin-1")
    return next(iter(values.get("last_event_id", ())), "")
