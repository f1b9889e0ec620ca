"""The client protocol in JSON: commands in, replies and pushes out.

A text message holds one command or more, one per line; replies and pushes leave the
same way. What every client gets alike (a push) is put together from parts that were
encoded once; what one client gets (a reply) is encoded from a struct.

Unknown fields are ignored: newer SDKs offer more than we use. A field that a client
did not ask for is never sent.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from heartcast.wire.envelopes import Refusal

_encode = msgspec.json.Encoder().encode
# What a command's data is when it has none: empty, which no JSON document is.
_NO_DATA = Raw(b"")


class SubscribeRequest(Struct, gc=False):
    channel: str = ""
    token: str = ""
    recover: bool = False
    offset: int = 0
    epoch: str = ""
    data: Raw = _NO_DATA
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    flag: int = 0


class ConnectRequest(Struct, gc=False):
    token: str = ""
    data: Raw = _NO_DATA
    name: str = ""
    version: str = ""


class ChannelRequest(Struct, gc=False):
    channel: str = ""


class PublishRequest(Struct, gc=False):
    channel: str = ""
    data: Raw = _NO_DATA


class StreamPosition(Struct, gc=False):
    offset: int = 0
    epoch: str = ""


class HistoryRequest(Struct, gc=False):
    channel: str = ""
    limit: int = 0
    since: StreamPosition | None = None
    reverse: bool = False


class RpcRequest(Struct, gc=False):
    method: str = ""
    data: Raw = _NO_DATA


class SendRequest(Struct, gc=False):
    data: Raw = _NO_DATA


class TokenRequest(Struct, gc=False):
    token: str = ""
    channel: str = ""


class EmptyRequest(Struct, gc=False):
    pass


class Command(Struct, gc=False):
    """One command; exactly one of the methods is there."""

    id: int = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: ChannelRequest | None = None
    publish: PublishRequest | None = None
    presence: ChannelRequest | None = None
    presence_stats: ChannelRequest | None = None
    history: HistoryRequest | None = None
    ping: EmptyRequest | None = None
    send: SendRequest | None = None
    rpc: RpcRequest | None = None
    refresh: TokenRequest | None = None
    sub_refresh: TokenRequest | None = None


class ConnectResult(Struct, gc=False, omit_defaults=True):
    client: str
    version: str = ""
    expires: bool = False
    ttl: int = 0
    ping: int = 0
    pong: bool = False


class ClientInfo(Struct, gc=False, omit_defaults=True):
    """Who is in a channel."""

    user: str
    client: str


class PublicationView(Struct, gc=False):
    """A publication inside a reply."""

    data: Raw
    offset: int | UnsetType = UNSET
    tags: dict[str, str] | UnsetType = UNSET
    info: Raw | UnsetType = UNSET


class SubscribeResult(Struct, gc=False, omit_defaults=True):
    expires: bool = False
    ttl: int = 0
    recoverable: bool = False
    positioned: bool = False
    epoch: str = ""
    offset: int = 0
    was_recovering: bool = False
    recovered: bool = False
    publications: list[PublicationView] = []


class HistoryResult(Struct, gc=False):
    publications: list[PublicationView]
    offset: int = 0
    epoch: str = ""


class PresenceResult(Struct, gc=False):
    presence: dict[str, ClientInfo]


class PresenceStatsResult(Struct, gc=False):
    num_clients: int
    num_users: int


class RefreshResult(Struct, gc=False, omit_defaults=True):
    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0


class RpcResult(Struct, gc=False):
    data: Raw


class ErrorReply(Struct, gc=False, omit_defaults=True):
    code: int
    message: str
    temporary: bool = False


PONG_COMMAND = b"{}"

decode_command = msgspec.json.Decoder(Command).decode
"""Read one line; raises ``msgspec.DecodeError`` (and its kin ``ValidationError``)."""

encode = _encode


def reply(command_id: int, method: str, result: Struct | None = None) -> bytes:
    """The answer to a command that succeeded."""
    body = b"{}" if result is None else _encode(result)
    return b'{"id":%d,"%s":%s}' % (command_id, method.encode(), body)


def error_reply(command_id: int, error: Refusal) -> bytes:
    """The answer to a command that did not."""
    return b'{"id":%d,"error":%s}' % (
        command_id,
        _encode(ErrorReply(error.code, error.message, error.temporary)),
    )


def push_head(channel: str) -> bytes:
    """What stands before a publication's fields in every push to ``channel``."""
    return b'{"push":{"channel":%s,"pub":{"data":' % _encode(channel)


def push_line(
    head: bytes, data: bytes, offset: int, tags: dict[str, str] | None, info: bytes | None
) -> bytes:
    """A publication as a push.

    Args:
        head: From ``push_head``, made once per channel.
        offset: 0 leaves the field out, so that clients keep their position.
    """
    if not (offset or tags or info):
        return head + data + b"}}}"
    line = head + data
    if offset:
        line += b',"offset":%d' % offset
    if tags:
        line += b',"tags":' + _encode(tags)
    if info:
        line += b',"info":' + info
    return line + b"}}}"


def join_line(channel: str, info: ClientInfo, *, is_leave: bool = False) -> bytes:
    return b'{"push":{"channel":%s,"%s":{"info":%s}}}' % (
        _encode(channel),
        b"leave" if is_leave else b"join",
        _encode(info),
    )


def subscribe_line(channel: str, fields: dict[str, object]) -> bytes:
    """Tells a client that the server has subscribed it.

    Args:
        fields: Of the subscription, as in the answer to a client that asked for it.
    """
    return b'{"push":{"channel":%s,"subscribe":%s}}' % (_encode(channel), _encode(fields))


def unsubscribe_line(channel: str, code: int, reason: str) -> bytes:
    return b'{"push":{"channel":%s,"unsubscribe":{"code":%d,"reason":%s}}}' % (
        _encode(channel),
        code,
        _encode(reason),
    )


def presence_of(members: Iterable[tuple[str, str]]) -> PresenceResult:
    """Members of a channel as (client, user), as a part of a reply."""
    return PresenceResult({client: ClientInfo(user, client) for client, user in members})


def publication_view(
    data: bytes, offset: int, tags: dict[str, str] | None, info: bytes | None
) -> PublicationView:
    """A publication as a part of a reply."""
    return PublicationView(Raw(data), offset or UNSET, tags or UNSET, Raw(info) if info else UNSET)


def is_utf8(data: bytes) -> bool:
    """Whether ``data`` is UTF-8. Plain ASCII, the common case, is one pass in C."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def compact(data: bytes) -> bytes:
    """The JSON document on one line.

    SDKs split messages at newlines, so none may be left between a publisher's tokens.
    Text values never hold a raw newline (JSON escapes it), numbers keep their digits.

    Raises:
        ValueError: it is not JSON in UTF-8 (``msgspec.DecodeError`` is one).
    """
    if not is_utf8(data):
        raise ValueError("data must be UTF-8")
    if b"\n" not in data and b"\r" not in data:
        return data
    return msgspec.json.format(data, indent=-1)
