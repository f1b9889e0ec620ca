"""The broker of a single process: what is handed in arrives at once."""

from __future__ import annotations

from heartcast.realtime.broker import Receiver
from heartcast.realtime.log import Publication


class MemoryBroker:
    """``Broker`` inside one process."""

    def __init__(self) -> None:
        self._watched: set[str] = set()
        self._receiver: Receiver | None = None

    def follow(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def watch(self, channel: str) -> None:
        self._watched.add(channel)

    def unwatch(self, channel: str) -> None:
        self._watched.discard(channel)

    def publish(self, channel: str, publication: Publication) -> None:
        if channel in self._watched and self._receiver is not None:
            self._receiver(channel, publication)
