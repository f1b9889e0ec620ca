"""WebSocket sessions that speak ``heartcast.v1``: protobuf frames instead of JSON lines.

Commands are those of the JSON protocol in another form, so they run through the same
engine and keep the same rules; its replies are put into frames on their way out. What
many get alike is encoded once per channel and tick, like the JSON form. Beyond JSON a
client may acknowledge everything up to a position, and say that it cannot take a push
now, or ever.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import UNSET

from heartcast.gateway.socket import WebSocket
from heartcast.realtime.log import Publication
from heartcast.realtime.room import MAX_FRAME_BYTES, Room
from heartcast.wire import codec, v1
from heartcast.wire.codec import Command
from heartcast.wire.envelopes import BAD_COMMAND, BAD_REQUEST
from heartcast.wire.frames import BINARY, frame
from heartcast.wire.protobuf import Malformed

_PING_FRAME = frame(v1.write(v1.ServerFrame(ping=v1.Ping())), BINARY)
_NOT_JSON = BAD_REQUEST._replace(message="bad request: data must be JSON in UTF-8")
_encode = msgspec.json.Encoder().encode


class BinarySocket(WebSocket):
    """One WebSocket that speaks ``heartcast.v1``."""

    __slots__ = ()
    speaks_frames = False

    # -- in --------------------------------------------------------------------------

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode != BINARY:
            self.close(BAD_COMMAND)
            return
        try:
            asked = v1.read_client(payload)
        except Malformed:
            self.close(BAD_COMMAND)
            return
        if asked.pong is not None:
            self.awaits_pong = False
        elif asked.ack is not None or asked.nak is not None:
            self._settle_pushes(asked)
        elif asked.publish is not None and not _is_json(asked.publish.data):
            # In JSON the command would not have been read at all; here only the data is bad.
            self._reply(v1.Reply(asked.id, error=v1.Error(*_NOT_JSON)))
        else:
            self.engine.take(self, _command(asked))

    def _settle_pushes(self, asked: v1.ClientFrame) -> None:
        if not self.hub.is_connected(self):
            self.close(BAD_COMMAND)
            return
        self.hub.on_send(self.user, _encode(_settlement(asked)))
        if asked.id:
            self._reply(v1.Reply(asked.id, done=v1.Done()))

    # -- out -------------------------------------------------------------------------

    def send_lines(self, lines: list[bytes]) -> None:
        for line in lines:
            self._reply(_reply(_read_line(line)))

    def _reply(self, reply: v1.Reply) -> None:
        self.send(frame(v1.write(v1.ServerFrame(reply=reply)), BINARY))

    def push_line(self, line: bytes) -> None:
        self.settle()
        told = _push(_read_push(line).push)
        if told is not None:
            self.send(frame(v1.write(told), BINARY))

    def ping(self) -> None:
        self.awaits_pong = True
        self.send(_PING_FRAME)

    def wire(self, room: Room, publications: list[Publication], piece: bytes) -> bytes:
        known = room.binary
        # By identity: the list of a tick is the same for all its sessions, and never changed.
        if known is None or known[0] is not publications:
            known = room.binary = publications, batches(room.channel, publications)
        return known[1]


def batches(channel: str, publications: Iterable[Publication]) -> bytes:
    """Publications as frames of about ``MAX_FRAME_BYTES`` at most."""
    frames: list[bytes] = []
    some: list[v1.Published] = []
    size = 0
    for publication in publications:
        if some and size + len(publication.data) > MAX_FRAME_BYTES:
            frames.append(_batch(channel, some))
            some, size = [], 0
        some.append(v1.published(*publication))
        size += len(publication.data)
    frames.append(_batch(channel, some))
    return b"".join(frames)


def _batch(channel: str, messages: list[v1.Published]) -> bytes:
    return frame(v1.write(v1.ServerFrame(batch=v1.Batch(channel, messages))), BINARY)


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _command(asked: v1.ClientFrame) -> Command:
    """The command that the frame stands for; without a body it is one that breaks the protocol."""
    made = Command(asked.id)
    if asked.hello is not None:
        data = _encode({"user": asked.hello.user}) if asked.hello.user else b""
        made.connect = codec.ConnectRequest(asked.hello.token, msgspec.Raw(data))
    elif asked.subscribe is not None:
        wanted = asked.subscribe
        made.subscribe = codec.SubscribeRequest(wanted.channel, wanted.token)
        if wanted.resume is not None:
            made.subscribe.recover = True
            made.subscribe.offset, made.subscribe.epoch = wanted.resume.offset, wanted.resume.epoch
    elif asked.unsubscribe is not None:
        made.unsubscribe = codec.ChannelRequest(asked.unsubscribe.channel)
    elif asked.publish is not None:
        made.publish = codec.PublishRequest(asked.publish.channel, msgspec.Raw(asked.publish.data))
    return made


def _settlement(asked: v1.ClientFrame) -> dict[str, object]:
    """What a JSON client would ``send``."""
    if asked.ack is not None:
        through = asked.ack.through
        place = {} if through is None else {"ack_through": {"offset": through.offset, "epoch": through.epoch}}
        return {"ack": asked.ack.ids, **place}
    nak = asked.nak or v1.Nak()
    how = {"reject": True} if nak.reject else {"retry_after_ms": nak.retry_after_ms}
    return {"nak": [{"id": nak.id, "reason": nak.reason, **how}]}


# -- the engine's JSON, read back: replies are few ------------------------------------


class _Line(msgspec.Struct, gc=False):
    id: int = 0
    error: codec.ErrorReply | None = None
    connect: codec.ConnectResult | None = None
    subscribe: codec.SubscribeResult | None = None


class _Ended(msgspec.Struct, gc=False):
    code: int = 0
    reason: str = ""


class _Placed(msgspec.Struct, gc=False):
    epoch: str = ""
    offset: int = 0


class _Push(msgspec.Struct, gc=False):
    channel: str
    unsubscribe: _Ended | None = None
    subscribe: _Placed | None = None


class _PushLine(msgspec.Struct, gc=False):
    push: _Push


_read_line = msgspec.json.Decoder(_Line).decode
_read_push = msgspec.json.Decoder(_PushLine).decode


def _reply(line: _Line) -> v1.Reply:
    if line.error is not None:
        return v1.Reply(line.id, error=v1.Error(line.error.code, line.error.message, line.error.temporary))
    if line.connect is not None:
        made = line.connect
        return v1.Reply(line.id, welcome=v1.Welcome(made.client, made.version, made.ping, made.ttl))
    if line.subscribe is not None:
        return v1.Reply(line.id, subscribed=_subscribed(line.subscribe))
    return v1.Reply(line.id, done=v1.Done())


def _subscribed(made: codec.SubscribeResult) -> v1.Subscribed:
    return v1.Subscribed(
        position=v1.Position(made.offset, made.epoch) if made.positioned else None,
        was_resuming=made.was_recovering,
        resumed=made.recovered,
        messages=[
            v1.published(
                bytes(view.data),
                view.offset if view.offset is not UNSET else 0,
                view.tags if view.tags is not UNSET else None,
                bytes(view.info) if view.info is not UNSET else None,
            )
            for view in made.publications
        ],
        expires_in_s=made.ttl,
    )


def _push(push: _Push) -> v1.ServerFrame | None:
    """None: who comes and goes is not told in this protocol."""
    if push.unsubscribe is not None:
        return v1.ServerFrame(left=v1.Left(push.channel, push.unsubscribe.code, push.unsubscribe.reason))
    if push.subscribe is not None:
        place = push.subscribe
        position = v1.Position(place.offset, place.epoch) if place.epoch else None
        return v1.ServerFrame(subscribed=v1.Subscribed(push.channel, position))
    return None
