"""The frames of ``heartcast.v1`` (``v1.proto``), and how a publication looks in them."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from heartcast.wire.protobuf import Field, Message, decode, encode

SUBPROTOCOL = b"heartcast.v1"
"""What a client offers in ``Sec-WebSocket-Protocol``."""

Fields = tuple[Field, ...]


class Position(Message, gc=False):
    """A place in a channel's log: everything up to ``offset`` of this ``epoch``."""

    FIELDS: ClassVar[Fields] = (Field(1, "offset", "uint64"), Field(2, "epoch", "string"))
    offset: int = 0
    epoch: str = ""


class Hello(Message, gc=False):
    """Who the client is; its first frame."""

    FIELDS: ClassVar[Fields] = (Field(1, "token", "string"), Field(2, "user", "string"))
    token: str = ""
    user: str = ""
    """In dev mode, without a token."""


class Subscribe(Message, gc=False):
    FIELDS: ClassVar[Fields] = (
        Field(1, "channel", "string"),
        Field(2, "token", "string"),
        Field(3, "resume", "message", Position),
    )
    channel: str = ""
    token: str = ""
    resume: Position | None = None


class Unsubscribe(Message, gc=False):
    FIELDS: ClassVar[Fields] = (Field(1, "channel", "string"),)
    channel: str = ""


class Publish(Message, gc=False):
    FIELDS: ClassVar[Fields] = (Field(1, "channel", "string"), Field(2, "data", "bytes"))
    channel: str = ""
    data: bytes = b""


class Ack(Message, gc=False):
    """Pushes that the client has."""

    FIELDS: ClassVar[Fields] = (
        Field(1, "through", "message", Position),
        Field(2, "ids", "string", is_repeated=True),
    )
    through: Position | None = None
    """Everything of its inbox up to and including this place."""
    ids: list[str] = msgspec.field(default_factory=list)


class Nak(Message, gc=False):
    """A push that the client cannot take now, or ever."""

    FIELDS: ClassVar[Fields] = (
        Field(1, "id", "string"),
        Field(2, "retry_after_ms", "uint32"),
        Field(3, "reject", "bool"),
        Field(4, "reason", "string"),
    )
    id: str = ""
    retry_after_ms: int = 0
    reject: bool = False
    reason: str = ""


class Pong(Message, gc=False):
    pass


class ClientFrame(Message, gc=False):
    """What a client sends."""

    FIELDS: ClassVar[Fields] = (
        Field(1, "id", "uint64"),
        Field(2, "hello", "message", Hello, oneof="body"),
        Field(3, "subscribe", "message", Subscribe, oneof="body"),
        Field(4, "unsubscribe", "message", Unsubscribe, oneof="body"),
        Field(5, "publish", "message", Publish, oneof="body"),
        Field(6, "ack", "message", Ack, oneof="body"),
        Field(7, "nak", "message", Nak, oneof="body"),
        Field(8, "pong", "message", Pong, oneof="body"),
    )
    id: int = 0
    """Comes back in the reply."""
    hello: Hello | None = None
    subscribe: Subscribe | None = None
    unsubscribe: Unsubscribe | None = None
    publish: Publish | None = None
    ack: Ack | None = None
    nak: Nak | None = None
    pong: Pong | None = None


class Published(Message, gc=False):
    """``Message`` of the schema: one publication."""

    FIELDS: ClassVar[Fields] = (
        Field(1, "offset", "uint64"),
        Field(2, "data", "bytes"),
        Field(3, "id", "string"),
        Field(4, "redelivered", "bool"),
        Field(5, "tags", "map"),
        Field(6, "publisher", "bytes"),
    )
    offset: int = 0
    data: bytes = b""
    id: str = ""
    redelivered: bool = False
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    publisher: bytes = b""


class Error(Message, gc=False):
    FIELDS: ClassVar[Fields] = (
        Field(1, "code", "uint32"),
        Field(2, "message", "string"),
        Field(3, "temporary", "bool"),
    )
    code: int = 0
    message: str = ""
    temporary: bool = False


class Welcome(Message, gc=False):
    FIELDS: ClassVar[Fields] = (
        Field(1, "client", "string"),
        Field(2, "version", "string"),
        Field(3, "ping_s", "uint32"),
        Field(4, "expires_in_s", "uint32"),
    )
    client: str = ""
    version: str = ""
    ping_s: int = 0
    expires_in_s: int = 0


class Subscribed(Message, gc=False):
    FIELDS: ClassVar[Fields] = (
        Field(1, "channel", "string"),
        Field(2, "position", "message", Position),
        Field(3, "was_resuming", "bool"),
        Field(4, "resumed", "bool"),
        Field(5, "messages", "message", Published, is_repeated=True),
        Field(6, "expires_in_s", "uint32"),
    )
    channel: str = ""
    position: Position | None = None
    was_resuming: bool = False
    resumed: bool = False
    messages: list[Published] = msgspec.field(default_factory=list)
    expires_in_s: int = 0


class Done(Message, gc=False):
    pass


class Reply(Message, gc=False):
    FIELDS: ClassVar[Fields] = (
        Field(1, "id", "uint64"),
        Field(2, "error", "message", Error, oneof="result"),
        Field(3, "welcome", "message", Welcome, oneof="result"),
        Field(4, "subscribed", "message", Subscribed, oneof="result"),
        Field(5, "done", "message", Done, oneof="result"),
    )
    id: int = 0
    error: Error | None = None
    welcome: Welcome | None = None
    subscribed: Subscribed | None = None
    done: Done | None = None


class Batch(Message, gc=False):
    """Publications of one channel, oldest first."""

    FIELDS: ClassVar[Fields] = (
        Field(1, "channel", "string"),
        Field(2, "messages", "message", Published, is_repeated=True),
    )
    channel: str = ""
    messages: list[Published] = msgspec.field(default_factory=list)


class Ping(Message, gc=False):
    pass


class Left(Message, gc=False):
    """The server ended a subscription; from code 2500 on, subscribe again."""

    FIELDS: ClassVar[Fields] = (
        Field(1, "channel", "string"),
        Field(2, "code", "uint32"),
        Field(3, "reason", "string"),
    )
    channel: str = ""
    code: int = 0
    reason: str = ""


class ServerFrame(Message, gc=False):
    """What the server sends."""

    FIELDS: ClassVar[Fields] = (
        Field(1, "reply", "message", Reply, oneof="body"),
        Field(2, "batch", "message", Batch, oneof="body"),
        Field(3, "ping", "message", Ping, oneof="body"),
        Field(4, "left", "message", Left, oneof="body"),
        Field(5, "subscribed", "message", Subscribed, oneof="body"),
    )
    reply: Reply | None = None
    batch: Batch | None = None
    ping: Ping | None = None
    left: Left | None = None
    subscribed: Subscribed | None = None


def published(data: bytes, offset: int, tags: dict[str, str] | None, publisher: bytes | None) -> Published:
    """A publication; the tags that belong to the protocol get fields of their own."""
    rest = dict(tags or ())
    return Published(
        offset,
        data,
        rest.pop("id", ""),
        rest.pop("redelivered", "") == "1",
        rest,
        publisher or b"",
    )


def read_client(data: bytes) -> ClientFrame:
    """Raises ``protobuf.Malformed``."""
    return decode(ClientFrame, data)


def read_server(data: bytes) -> ServerFrame:
    """Raises ``protobuf.Malformed``."""
    return decode(ServerFrame, data)


write = encode
