"""The broker of a single process: what is handed in arrives at once."""

from __future__ import annotations

from heartcast.core.clock import Clock
from heartcast.realtime.broker import Receiver, Sent, Watched
from heartcast.realtime.log import Position, Publication
from heartcast.realtime.once import Once


class MemoryBroker:
    """``Broker`` inside one process."""

    def __init__(self, clock: Clock) -> None:
        self._watched: set[str] = set()
        self._receiver: Receiver | None = None
        self._once = Once(clock)

    def follow(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def watch(self, channel: str, done: Watched) -> None:
        self._watched.add(channel)
        done(None)

    def unwatch(self, channel: str) -> None:
        self._watched.discard(channel)

    def publish(self, channel: str, publication: Publication, done: Sent, *, key: str | None = None) -> None:
        if self._once.known(channel, key) is None:
            self._once.note(channel, key, Position(publication.offset, ""))
            if channel in self._watched and self._receiver is not None:
                self._receiver.arrived(channel, publication)
        done(None)

    def announce(self, channel: str, line: bytes) -> None:
        if channel in self._watched and self._receiver is not None:
            self._receiver.announced(channel, line)
