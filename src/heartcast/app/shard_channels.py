"""Inbox channels on many nodes: asked here, answered by whoever owns the user's shard.

A subscription asks the owner what waits, and thereby makes this node a watcher of the channel.
Acknowledgements go to the owner; one that gets lost on the way comes again, as its push does.

When a shard has another owner, every node tells that one which of its users it watches. The
new owner sends what they have not acknowledged once more, as redeliveries: whatever the old one
had sent or not, nothing is missing then. Nodes repeat it now and then for words that got lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec

from heartcast.app.inbox_channel import InboxChannels
from heartcast.app.shard_host import Host
from heartcast.app.shard_hosts import ShardHosts
from heartcast.core.errors import StoreUnavailable
from heartcast.core.hashing import shard_of
from heartcast.push.inbox import Kept, Mark, Missing
from heartcast.push.routes.realtime import PREFIX, user_of
from heartcast.realtime.hub import Hub
from heartcast.realtime.log import Appended, Complete, Gap, Position, Publication, Since

ASK = "inbox.ask"
ACK = "inbox.ack"
WATCH = "inbox.watch"
REPEAT_S = 10.0
"""Between two announcements of all that this node watches: a lost one delays deliveries so long."""
_MAX_EARLY = 100_000
"""Channels announced for shards that are still being loaded."""


class Asked(msgspec.Struct, array_like=True):
    """A question about a channel, as it goes to the owner."""

    channel: str
    position: Position | None
    limit: int
    is_history: bool
    reverse: bool = False


class Found(msgspec.Struct, array_like=True):
    """Its answer."""

    top: Position | None
    """None: the shard is not here."""
    publications: list[Publication] | None
    """None: a gap."""


_encode = msgspec.msgpack.Encoder().encode
_asked_in = msgspec.msgpack.Decoder(Asked).decode
_found_in = msgspec.msgpack.Decoder(Found).decode
_ack_in = msgspec.msgpack.Decoder(tuple[str, bytes]).decode
_watch_in = msgspec.msgpack.Decoder(list[str]).decode


class ShardChannels:
    """Implements realtime's ``ChannelLog`` for the channels ``inbox:#<user>`` of all nodes."""

    def __init__(self, hosts: ShardHosts, hub: Hub, loop: asyncio.AbstractEventLoop) -> None:
        self._hosts = hosts
        self._hub = hub
        self._loop = loop
        self._membership = hosts.membership
        self._post = hosts.post
        self._shards = hosts.parts.options.shards
        self._announced: dict[int, str] = {}
        self._early: dict[str, str] = {}
        """Channels that were announced before their shard was loaded, and by which node."""
        self._repeating: asyncio.TimerHandle | None = None
        hosts.on_host = self._hosted
        self._membership.on_change.append(self._changed)
        self._post.on(ASK, self._on_ask)
        self._post.on(ACK, self._on_ack)
        self._post.on(WATCH, self._on_watch)

    # ── as a channel log ─────────────────────────────────────────────────────

    announces = False

    def append(
        self,
        channel: str,
        data: bytes,
        tags: dict[str, str] | None,
        client: bytes | None,
        done: Appended,
        *,
        key: str | None = None,
    ) -> None:
        """Refuses: only a push, with its id and its account, gets into an inbox."""
        done(StoreUnavailable(f"{channel} takes pushes only: use POST /push", code="inbox_takes_pushes"))

    def since(self, channel: str, position: Position | None, limit: int, done: Since) -> None:
        """As ``InboxChannels.since``."""
        self._ask(Asked(channel, position, limit, is_history=False), done)

    def history(self, channel: str, after: Position | None, limit: int, reverse: bool, done: Since) -> None:
        """As ``InboxChannels.history``."""
        self._ask(Asked(channel, after, limit, is_history=True, reverse=reverse), done)

    def _ask(self, asked: Asked, done: Since) -> None:
        shard = self._shard(asked.channel)
        if (host := self._hosts.find(shard)) is not None:
            _answer(host, asked, done)
        elif (owner := self._membership.owner_of(shard)) and owner != self._membership.node:
            self._post.call(owner, ASK, _encode(asked), partial(_answered, done))
        else:
            done(_moving())

    def _on_ask(self, sender: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        asked = _asked_in(body)
        host = self._hosts.find(self._shard(asked.channel))
        if host is None:
            answer(_encode(Found(None, None)))
            return
        host.watchers.add(asked.channel, sender)
        _answer(host, asked, lambda found: answer(_encode(_packed(found))))

    # ── acknowledgements ─────────────────────────────────────────────────────

    def on_send(self, user: str | None, data: bytes) -> None:
        """A connected client sent something."""
        if user is None:
            return
        shard = shard_of(user, self._shards)
        if (host := self._hosts.find(shard)) is not None:
            host.service.on_send(user, data)
        elif owner := self._membership.owner_of(shard):
            self._post.tell(owner, ACK, _encode((user, data)))

    def _on_ack(self, sender: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        user, data = _ack_in(body)
        if (host := self._hosts.find(shard_of(user, self._shards))) is not None:
            host.service.on_send(user, data)

    # ── owners change ────────────────────────────────────────────────────────

    def start(self) -> None:
        """Begin to repeat now and then what is watched here."""
        self._repeating = self._loop.call_later(REPEAT_S, self._repeat)

    def stop(self) -> None:
        """Say nothing more."""
        if self._repeating is not None:
            self._repeating.cancel()
            self._repeating = None

    def _repeat(self) -> None:
        self.start()
        self._announce(self._watched(lambda shard: True))

    def _changed(self) -> None:
        nodes = [node.id for node in self._membership.nodes()]
        self._hosts.watchers.keep(nodes, self._is_ours)
        moved = {
            shard for shard in range(self._shards)
            if (owner := self._membership.owner_of(shard)) and self._announced.get(shard) != owner
        }  # fmt: skip
        if moved:
            for shard in moved:
                self._announced[shard] = self._membership.owner_of(shard) or ""
            self._announce(self._watched(moved.__contains__))

    def _is_ours(self, channel: str) -> bool:
        return self._membership.owner_of(self._shard(channel)) == self._membership.node

    def _watched(self, wanted: Callable[[int], bool]) -> dict[str, list[str]]:
        """Inbox channels with clients here, by the owner of their shard."""
        watched: dict[str, list[str]] = {}
        for channel in self._hub.rooms():
            if channel.startswith(PREFIX) and wanted(shard := self._shard(channel)):
                owner = self._membership.owner_of(shard)
                if owner and owner != self._membership.node:
                    watched.setdefault(owner, []).append(channel)
        return watched

    def _announce(self, watched: dict[str, list[str]]) -> None:
        for owner, channels in watched.items():
            for first in range(0, len(channels), 5_000):
                self._post.tell(owner, WATCH, _encode(channels[first : first + 5_000]))

    def _on_watch(self, sender: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        for channel in _watch_in(body):
            host = self._hosts.find(self._shard(channel))
            if host is not None:
                if host.watchers.add(channel, sender):
                    _send_again(host, channel)
            elif len(self._early) < _MAX_EARLY:
                self._early[channel] = sender

    def _hosted(self, host: Host) -> None:
        for channel, node in list(self._early.items()):
            if self._shard(channel) == host.shard:
                del self._early[channel]
                host.watchers.add(channel, node)
                _send_again(host, channel)
        for channel in list(self._hub.rooms()):
            if channel.startswith(PREFIX) and self._shard(channel) == host.shard:
                _send_again(host, channel)

    def _shard(self, channel: str) -> int:
        return shard_of(user_of(channel), self._shards)


def _answer(host: Host, asked: Asked, done: Since) -> None:
    log = InboxChannels(host.service)
    if asked.is_history:
        log.history(asked.channel, asked.position, asked.limit, asked.reverse, done)
    else:
        log.since(asked.channel, asked.position, asked.limit, done)


def _send_again(host: Host, channel: str) -> None:
    # A mark that no mailbox ever had: its answer is that everything must be made up for.
    host.service.delivery.catch_up(user_of(channel), Mark(0, ""), 1, _ignore)


def _ignore(found: Kept | Missing) -> None:
    """The pushes follow by themselves."""


def _packed(found: Complete | Gap | StoreUnavailable) -> Found:
    if isinstance(found, StoreUnavailable):
        return Found(None, None)
    return Found(found.top, found.publications if isinstance(found, Complete) else None)


def _answered(done: Since, answer: bytes | StoreUnavailable) -> None:
    if isinstance(answer, StoreUnavailable):
        done(answer)
        return
    found = _found_in(answer)
    if found.top is None:
        done(_moving())
    elif found.publications is None:
        done(Gap(found.top))
    else:
        done(Complete(found.publications, found.top))


def _moving() -> StoreUnavailable:
    return StoreUnavailable("the shard of this user goes to another node; try again", code="shard_moving")
