"""Streams as the rest of the program sees them: readers may wait, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from heartcast.core.clock import Clock
from heartcast.core.errors import Overloaded
from heartcast.streams import Entry, Group, StreamStore
from heartcast.streams.options import StreamOptions

LOOK_S = 0.5
"""How often a waiting reader looks again: for what other processes published, and for what
others did not acknowledge. What is published here wakes it at once."""


class Streams:
    """Publishes, and lets readers wait. ``close`` it at the end.

    Args:
        store: Closed with this.
    """

    def __init__(self, store: StreamStore, options: StreamOptions, clock: Clock) -> None:
        self.options = options
        self._store = store
        self._clock = clock
        self._arrivals: dict[str, list[asyncio.Event]] = {}
        self._is_stopping = False
        self.waiting = 0
        """Readers that wait."""
        self.published = 0
        """Entries that were published here."""
        self.delivered = 0
        """Entries that readers were given here, each time counted."""

    async def publish(self, topic: str, data: bytes, key: str = "") -> str:
        """Add an entry; returns its id. Raises as ``StreamStore.publish``."""
        id_ = await self._store.publish(topic, data, key)
        self.published += 1
        for arrival in self._arrivals.get(topic, ()):
            arrival.set()
        return id_

    async def read(self, topic: str, group: str, count: int, wait_s: float) -> list[Entry]:
        """Up to ``count`` entries; when there is none, waits up to ``wait_s`` for one.

        Raises:
            Overloaded: too many readers wait (code ``too_many_readers``); of the store, too.
        """
        deadline_s = self._clock.monotonic_s() + wait_s
        with self._watching(topic) as arrival:
            while True:
                # Before the look: what is published during it is not missed.
                arrival.clear()
                entries = await self._store.read(topic, group, count)
                left_s = deadline_s - self._clock.monotonic_s()
                if entries or left_s <= 0 or self._is_stopping:
                    self.delivered += len(entries)
                    return entries
                await self._wait(arrival, min(left_s, LOOK_S))

    async def ack(self, topic: str, group: str, ids: Sequence[str]) -> int:
        """This group has done these. As ``StreamStore.ack``."""
        return await self._store.ack(topic, group, ids)

    async def look(self, topic: str) -> tuple[int, list[Group]]:
        """As ``StreamStore.look``."""
        return await self._store.look(topic)

    async def forget(self, topic: str, group: str) -> bool:
        """As ``StreamStore.forget``."""
        return await self._store.forget(topic, group)

    def stop(self) -> None:
        """Answer every waiting reader soon, with nothing."""
        self._is_stopping = True
        for arrivals in self._arrivals.values():
            for arrival in arrivals:
                arrival.set()

    async def close(self) -> None:
        self.stop()
        await self._store.close()

    @contextlib.contextmanager
    def _watching(self, topic: str) -> Iterator[asyncio.Event]:
        arrival = asyncio.Event()
        self._arrivals.setdefault(topic, []).append(arrival)
        try:
            yield arrival
        finally:
            self._arrivals[topic].remove(arrival)
            if not self._arrivals[topic]:
                del self._arrivals[topic]

    async def _wait(self, arrival: asyncio.Event, longest_s: float) -> None:
        if self.waiting >= self.options.max_waiting:
            raise Overloaded("too many readers wait for streams", retry_after_s=1, code="too_many_readers")
        self.waiting += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(longest_s):
                    await arrival.wait()
        finally:
            self.waiting -= 1
