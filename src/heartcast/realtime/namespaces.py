"""Which namespace a channel belongs to, and who may do what there.

``news:42`` belongs to namespace ``news``; ``inbox:#u456`` belongs to ``inbox`` and,
by its ``#``, to the user ``u456``. A channel without a colon has no namespace and
therefore does not exist.
"""

from __future__ import annotations

from typing import Literal

from heartcast.core.names import channel_part
from heartcast.realtime.log import Limits
from heartcast.realtime.options import Access, NamespaceOptions, RealtimeOptions

MAX_CHANNEL_BYTES = 1024
Mode = Literal["dev", "prod"]


def is_channel_name(channel: str) -> bool:
    """Whether this can be a channel: printable ASCII, 1 to 1024 characters.

    An id of 200 bytes may take 600 once it is percent-encoded.
    """
    return 0 < len(channel) <= MAX_CHANNEL_BYTES and channel.isascii() and channel.isprintable()


def namespace_of(channel: str) -> str:
    """The part before the first colon, "" when there is none."""
    head, colon, _ = channel.partition(":")
    return head if colon else ""


def history_limits(options: RealtimeOptions) -> Limits:
    """Gives the history size and TTL of a channel; nothing is kept of unknown namespaces."""
    limits = {
        name: (namespace.history_size, namespace.history_ttl_s)
        for name, namespace in options.all_namespaces().items()
    }
    return lambda channel: limits.get(namespace_of(channel), (0, 1.0))


def inbox_channel(user: str) -> str:
    """The personal channel of a user."""
    return f"inbox:#{channel_part(user)}"


def owner_part(channel: str) -> str | None:
    """The encoded user a channel belongs to, None when it is nobody's own."""
    _, mark, owner = channel.partition("#")
    return owner if mark else None


def _allows(access: Access, channel: str, user: str | None) -> bool:
    match access:
        case "anyone":
            return True
        case "users":
            return user is not None
        case "owner":
            return user is not None and owner_part(channel) == channel_part(user)
        case "token" | "nobody":
            return False


def may_subscribe(options: NamespaceOptions, channel: str, user: str | None, mode: Mode) -> bool:
    """Whether this user may subscribe without a subscription token.

    A channel with an owner is its owner's whatever the namespace says, in dev mode too.
    """
    if owner_part(channel) is not None:
        return options.subscribe != "nobody" and _allows("owner", channel, user)
    if options.subscribe == "owner":
        return False
    return mode == "dev" or _allows(options.subscribe, channel, user)


def may_publish(options: NamespaceOptions, channel: str, user: str | None, mode: Mode) -> bool:
    """Whether a client of this user may publish."""
    if mode == "dev" and options.dev_publish and owner_part(channel) is None:
        return True
    if owner_part(channel) is not None and not _allows("owner", channel, user):
        return False
    return _allows(options.publish, channel, user)
