"""A channel that somebody is subscribed to: its members and what waits to be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from heartcast.realtime.broker import Broker
from heartcast.realtime.log import ChannelLog, Publication
from heartcast.realtime.options import NamespaceOptions
from heartcast.realtime.session import Session
from heartcast.wire.codec import push_head, push_line
from heartcast.wire.frames import frame

Source = Callable[[str, Callable[[bytes | None], None]], None]
"""Supplies the latest value of a cache channel that has none: ``source(channel, done)``."""

MAX_FRAME_BYTES = 65_536
"""Publications of a tick are joined into frames of about this size: larger ones make clients that
bound their messages hang up."""


class Namespace:
    """A namespace and what is bound to it."""

    __slots__ = ("broker", "log", "name", "options", "source")

    def __init__(self, name: str, options: NamespaceOptions, log: ChannelLog | None, broker: Broker) -> None:
        self.name = name
        self.options = options
        self.log = log
        self.broker = broker
        self.source: Source | None = None


class Room:
    """A channel that somebody is subscribed to.

    Attributes:
        plain: Members that take the channel's bytes as they are.
        others: Members with several channels, a backlog, or another wire form.
        joining: Sessions whose log answer is on its way, with what arrived meanwhile.
        pending: Published and not yet written.
        tellings: Members that asked to be told who joins and leaves.
        binary: The publications that are being written and their frames of the binary
            protocol, made by the first session that needs them.
        events: The same as server-sent events without a cursor.
    """

    __slots__ = (
        "binary",
        "channel",
        "events",
        "head",
        "joining",
        "namespace",
        "others",
        "pending",
        "plain",
        "tellings",
        "version",
    )

    def __init__(self, channel: str, namespace: Namespace) -> None:
        self.channel = channel
        self.namespace = namespace
        self.head = push_head(channel)
        self.plain: set[Session] = set()
        self.others: set[Session] = set()
        self.joining: dict[Session, list[Publication]] | None = None
        self.pending: list[Publication] = []
        self.tellings: set[Session] | None = None
        self.binary: tuple[list[Publication], bytes] | None = None
        self.events: tuple[list[Publication], bytes] | None = None
        self.version = -1

    @property
    def options(self) -> NamespaceOptions:
        return self.namespace.options

    def __len__(self) -> int:
        return len(self.plain) + len(self.others) + (len(self.joining) if self.joining else 0)

    def members(self) -> Iterator[Session]:
        yield from self.plain
        yield from self.others

    def place(self, session: Session) -> None:
        """Put a member where its writes are cheapest."""
        if session.is_plain and session.speaks_frames:
            self.others.discard(session)
            self.plain.add(session)
        else:
            self.plain.discard(session)
            self.others.add(session)

    def lines(self, publications: list[Publication]) -> list[bytes]:
        head = self.head
        return [push_line(head, data, offset, tags, info) for data, offset, tags, info in publications]


def frames_of(lines: list[bytes]) -> bytes:
    """Lines as WebSocket text: one frame, or as few as ``MAX_FRAME_BYTES`` allows."""
    if len(lines) == 1:
        return frame(lines[0])
    frames: list[bytes] = []
    batch: list[bytes] = []
    size = 0
    for line in lines:
        if batch and size + len(line) > MAX_FRAME_BYTES:
            frames.append(frame(b"\n".join(batch)))
            batch, size = [], 0
        batch.append(line)
        size += len(line) + 1
    frames.append(frame(b"\n".join(batch)))
    return frames[0] if len(frames) == 1 else b"".join(frames)
