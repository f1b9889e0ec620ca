"""What all subscribers of a run share: the account, and what many of them receive alike.

What comes to many is decoded once: messages are looked up by their bytes, so that the
millionth delivery of a broadcast costs a dictionary look-up and not a parse.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from random import Random
from typing import NamedTuple

from heartcast.loadtest.crowd import Crowd
from heartcast.loadtest.marks import PREFIX, Mark, Marker
from heartcast.loadtest.meter import Meter
from heartcast.loadtest.sockets import Client
from heartcast.loadtest.verdict import Ledger

_CACHED_FRAMES = 4_096
_MARK_START = f'"{PREFIX}'.encode()


class Follower(Client):
    """A client that may come back."""

    __slots__ = ("was_answered",)
    was_answered: bool
    """Whether it ever had its subscription."""

    @staticmethod
    @abstractmethod
    def parse(audience: Audience, payload: bytes) -> list[Heard]:
        """Publications in one message of nothing else.

        Raises:
            ValueError: it is something else, or broken.
        """


class Heard(NamedTuple):
    """One publication out of a message; ``mark`` None: it is damaged."""

    channel: str
    mark: Mark | None
    offset: int
    push_id: str
    is_again: bool
    data: bytes
    cursor: str = ""
    """Where an event stream goes on after it; "": it cannot."""


class Audience:
    """What all subscribers of a run share.

    Args:
        kind: Of its subscribers; all speak alike.
        delivery: Latencies of arrivals, from the intended moment.
        random: Jitter of reconnects.
    """

    def __init__(
        self,
        crowd: Crowd,
        ledger: Ledger,
        marker: Marker,
        *,
        kind: type[Follower],
        delivery: Meter,
        random: Random,
        start_us: int,
    ) -> None:
        self.crowd = crowd
        self.ledger = ledger
        self.marker = marker
        self.delivery = delivery
        self.opening = Meter()
        """From the attempt to connect to the answered subscription."""
        self.start_us = start_us
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._cache: dict[bytes, list[Heard]] = {}
        self._reads: dict[bytes, tuple[int, list[Heard]]] = {}
        self._kind = kind
        self.cached = True
        """Whether frames are the same for many subscribers."""
        self.acknowledges = False
        """Whether pushes are acknowledged."""
        self.is_cumulative = False
        """By the place in the inbox that was reached, and not by their ids."""
        self.reconnects_within_s = (0.1, 1.0)
        """A closed subscriber comes back after a time drawn from this range."""
        self.is_stopping = False
        self.listening = 0
        """Subscribers whose subscription was answered."""
        self.frames = 0
        self.reconnects = 0
        self.closes: dict[str, int] = {}
        """Connections that ended without our doing, by what was said."""
        self.failures: dict[str, int] = {}
        """Attempts to connect or subscribe that failed, by reason."""

    def now_us(self) -> int:
        return self.crowd.now_us()

    def at_s(self, now_us: int) -> float:
        return (now_us - self.start_us) / 1e6

    def read(self, payload: bytes) -> list[Heard]:
        """Publications in a frame of pushes only.

        Raises:
            ValueError: it is something else, or broken.
        """
        known = self._cache.get(payload)
        if known is not None:
            return known
        found = self._kind.parse(self, payload)
        if self.cached:
            if len(self._cache) >= _CACHED_FRAMES:
                self._cache.clear()
            self._cache[payload] = found
        return found

    def known_read(self, data: bytes) -> tuple[int, list[Heard]] | None:
        """(frames, publications) in these bytes of a socket, if another socket had the same."""
        return self._reads.get(data)

    def remember_read(self, data: bytes, found: list[tuple[int, bytes]]) -> None:
        """Keep what a read held, when it was publications only."""
        if not self.cached or len(found) < 2:
            return  # one frame alone is as quickly found by itself
        heard: list[Heard] = []
        for first, payload in found:
            known = self._cache.get(payload) if first in (0x81, 0x82) else None
            if known is None:
                return
            heard += known
        if len(self._reads) >= _CACHED_FRAMES:
            self._reads.clear()
        self._reads[data] = (len(found), heard)

    def judge(
        self,
        channel: str,
        data: bytes,
        offset: int = 0,
        push_id: str = "",
        *,
        is_again: bool = False,
        cursor: str = "",
    ) -> Heard:
        """What a publication says of itself."""
        start = data.find(_MARK_START)
        end = data.find(b'"', start + 1)
        mark = (
            self.marker.read(data[start + 1 : end].decode("utf-8", "replace")) if 0 <= start < end else None
        )
        return Heard(channel, mark, offset, push_id, is_again, data, cursor)

    def fail(self, reason: str) -> None:
        self.failures[reason] = self.failures.get(reason, 0) + 1

    def lost_connection(self, client: Follower, code: int, reason: str) -> None:
        if self.is_stopping:
            return
        said = f"{code} {reason}".strip() if code else reason
        if client.was_answered:
            self.closes[said] = self.closes.get(said, 0) + 1
        else:
            self.fail(said)
        self.bring_back(client)

    def bring_back(self, client: Follower, after_s: float | None = None) -> None:
        """Connect again after a while, with the position it had; None: as long as jitter says."""
        if after_s is None:
            after_s = self._random.uniform(*self.reconnects_within_s)
        self._loop.call_later(after_s, self._reconnect, client)

    def _reconnect(self, client: Follower) -> None:
        if not self.is_stopping and client.state == 0:
            self.reconnects += client.was_answered
            self.crowd.connect(client)
