"""Which nodes have clients that listen to a user's inbox, as the user's owner knows it.

A node is a *watcher* of a channel from the moment one of its clients subscribes. The owner of
the user's shard sends deliveries to all watchers and to its own hub. A watcher that has nobody
left says so when the next delivery comes. Messages between nodes may get lost: what is not
acknowledged goes out again, and nodes repeat now and then what they watch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from heartcast.app.inbox_channel import DeliversPublications
from heartcast.cluster.post import Post
from heartcast.realtime.log import Publication

DELIVER = "inbox.deliver"
UNWATCH = "inbox.unwatch"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, bytes, int, dict[str, str]]).decode


class Hub(DeliversPublications, Protocol):
    """What is needed of the hub."""

    def is_watched(self, channel: str) -> bool:
        """Whether anyone is subscribed in this process."""
        ...


class Watchers:
    """Sends deliveries to wherever a user's clients are."""

    def __init__(self, hub: Hub, post: Post) -> None:
        self._hub = hub
        self._post = post
        self._nodes: dict[str, set[str]] = {}
        post.on(DELIVER, self._delivered)
        post.on(UNWATCH, self._unwatched)

    def add(self, channel: str, node: str) -> bool:
        """A node watches a channel; False: that was known."""
        nodes = self._nodes.setdefault(channel, set())
        if node in nodes:
            return False
        nodes.add(node)
        return True

    def is_watched(self, channel: str) -> bool:
        """Whether anybody listens, here or elsewhere."""
        return channel in self._nodes or self._hub.is_watched(channel)

    def deliver(self, channel: str, data: bytes, offset: int, tags: dict[str, str]) -> int:
        """Send to all who listen: sessions reached here, and nodes told."""
        reached = self._hub.deliver(channel, Publication(data, offset, tags))
        nodes = self._nodes.get(channel)
        if nodes:
            body = _encode((channel, data, offset, tags))
            for node in nodes:
                self._post.tell(node, DELIVER, body)
            reached += len(nodes)
        return reached

    def keep(self, nodes: Iterable[str], wanted: Callable[[str], bool]) -> None:
        """Forget nodes that are gone, and channels that are not wanted any more."""
        living = frozenset(nodes)
        for channel, watching in list(self._nodes.items()):
            watching &= living
            if not watching or not wanted(channel):
                del self._nodes[channel]

    def _delivered(self, sender: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        channel, data, offset, tags = _decode(body)
        self._hub.deliver(channel, Publication(data, offset, tags))
        # One that is still subscribing counts: its room is there already.
        if not self._hub.is_watched(channel):
            self._post.tell(sender, UNWATCH, channel.encode())

    def _unwatched(self, sender: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        channel = body.decode()
        nodes = self._nodes.get(channel)
        if nodes is not None:
            nodes.discard(sender)
            if not nodes:
                del self._nodes[channel]
