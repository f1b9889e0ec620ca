"""Hearts that were written at other nodes, for the views of this one.

Every node tells the others what its bus carried, once per turn of the loop and in one
message. Messages may be lost; nothing else is. So each has a number, and every two
seconds a node says which number comes next: whoever finds that one is missing has its
views rebuilt from the store, as when its own bus overflows. What was lost is therefore
shown again within seconds, also when it was the last heart of the night.

A view that is rebuilt while a message is on its way may count its hearts twice until
the next rebuild: fine for what is hot, and counts come from the store with versions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from heartcast.core.bus import Bus
from heartcast.hearts.model import HeartChanged

SUBJECT = "hearts"
SAY_S = 2.0
"""How long a lost last message goes unnoticed at most."""
_MAX_EVENTS = 1_000
"""In one message: about 100 KB."""


class News(msgspec.Struct, array_like=True, gc=False):
    """A message between nodes."""

    number: int
    """This message's; of one without events, the next one's."""
    events: list[HeartChanged]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(News).decode


class Tells(Protocol):
    """What is needed of ``cluster.post.Post``."""

    def tell_all(self, subject: str, body: bytes) -> None: ...


class HeartNews:
    """A view of this node's bus (``core.bus.Subscriber``) that tells the others.

    Args:
        post: Reaches the other nodes; ``took`` is to be its handler of ``SUBJECT``.
        elsewhere: A bus with the same views, for what others tell.
        later: Calls back after so many seconds.
        living: The ids of all nodes.
    """

    def __init__(
        self,
        post: Tells,
        elsewhere: Bus[HeartChanged],
        later: Callable[[float, Callable[[], None]], object],
        living: Callable[[], set[str]],
    ) -> None:
        self._post = post
        self._elsewhere = elsewhere
        self._later = later
        self._living = living
        self._number = 1
        self._next: dict[str, int] = {}
        """The number that each other node's next message has."""
        self.told = 0
        """Hearts that others were told of."""
        self.heard = 0
        """Hearts that others told of."""
        self.gaps = 0
        """Times that messages of another node were missing, and the views were rebuilt."""

    def apply(self, events: list[HeartChanged]) -> None:
        for start in range(0, len(events), _MAX_EVENTS):
            some = events[start : start + _MAX_EVENTS]
            self._post.tell_all(SUBJECT, _encode(News(self._number, some)))
            self._number += 1
            self.told += len(some)

    def mark_stale(self) -> None:
        """Events were lost here: the others miss a number, and know it."""
        self._number += 1

    def say(self) -> None:
        """Say which number comes next, now and from now on."""
        self._post.tell_all(SUBJECT, _encode(News(self._number, [])))
        self._next = {node: number for node, number in self._next.items() if node in self._living()}
        self._later(SAY_S, self.say)

    def took(self, sender: str, body: bytes, answer: object) -> None:
        """Take a message of another node."""
        news = _decode(body)
        # Whoever spoke before we listened has told things that our views may not have.
        if news.number != self._next.get(sender, 1):
            self.gaps += 1
            self._elsewhere.mark_stale()
        self._next[sender] = news.number + (1 if news.events else 0)
        self.heard += len(news.events)
        for event in news.events:
            self._elsewhere.publish(event)
