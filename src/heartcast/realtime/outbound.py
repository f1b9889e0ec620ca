"""From the hub to the sockets: when to write, and what to do with a slow reader.

**When.** ``Ticker`` runs the fan-out at once when nothing ran lately. After a fan-out
it rests in proportion to how long that took, up to a bound, and whatever is published
meanwhile goes out together. Small fan-outs therefore never wait, and large ones are
written once per rest however many messages there are: the cost per delivery falls
when the load rises.

**Slow readers.** As long as a socket takes what it is given, a session has no queue
here at all. When its transport says that it is full, the session gets a ``Backlog``,
counted in bytes, and the namespace of the message that does not fit says what gives
way. Others are not touched: they share only the encoded bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from heartcast.core.clock import Clock
from heartcast.realtime.options import Overflow

LOW_WATER_BYTES: Final = 16_384
HIGH_WATER_BYTES: Final = 65_536
"""A transport that holds more than this is full. Small, because what it holds can be neither
dropped nor replaced by something newer."""


class Ticker:
    """Runs ``flush`` soon after ``request``, at most once per rest.

    Args:
        rest_ratio: Rest so many times as long as the flush took …
        max_rest_s: … but not longer than this.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        flush: Callable[[], None],
        *,
        rest_ratio: float,
        max_rest_s: float,
    ) -> None:
        self._loop = loop
        self._now_s = clock.monotonic_s
        self._flush = flush
        self._rest_ratio = rest_ratio
        self._max_rest_s = max_rest_s
        self._ready_s = 0.0
        self._is_scheduled = False
        self._is_wanted = False
        self.asked_s = 0.0
        """When the oldest message of the coming flush was published."""
        self.rest_s = 0.0
        """How long the last flush made the next one wait."""

    def request(self) -> None:
        """Something waits to be written."""
        if self._is_wanted:
            return
        self._is_wanted = True
        now_s = self.asked_s = self._now_s()
        if not self._is_scheduled:
            self._schedule(now_s)

    def hurry(self) -> None:
        """Do not wait for the end of the rest: too much is waiting."""
        if self._is_wanted:
            self._loop.call_soon(self._run)

    def _schedule(self, now_s: float) -> None:
        self._is_scheduled = True
        if now_s >= self._ready_s:
            # Not at once: the publisher's own answer goes out before 2,000 writes.
            self._loop.call_soon(self._run)
        else:
            self._loop.call_later(self._ready_s - now_s, self._run)

    def _run(self) -> None:
        if not self._is_wanted:
            return
        self._is_wanted = False
        started_s = self._now_s()
        try:
            self._flush()
        finally:
            # The clock is read in the next turn of the loop: what a loop queues
            # instead of sending at once is sent between the two.
            self._loop.call_soon(self._rest, started_s)

    def _rest(self, started_s: float) -> None:
        now_s = self._now_s()
        self.rest_s = min(self._max_rest_s, (now_s - started_s) * self._rest_ratio)
        self._ready_s = now_s + self.rest_s
        self._is_scheduled = False
        if self._is_wanted:
            self._schedule(now_s)


class Backlog:
    """What waits for one session whose socket is full.

    An entry is a piece of wire bytes and the channel it came from ("" for replies).
    """

    __slots__ = ("_entries", "dropped", "seen_bytes", "size")

    def __init__(self) -> None:
        self._entries: deque[tuple[str, bytes]] = deque()
        self.size = 0
        """Bytes waiting here, the transport's own not counted."""
        self.dropped = 0
        """Pieces that gave way to newer ones."""
        self.seen_bytes = -1
        """What the transport held when the write deadline was last looked at."""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, channel: str, piece: bytes) -> None:
        self._entries.append((channel, piece))
        self.size += len(piece)

    def make_room(self, channel: str, piece: bytes, free_bytes: int, rule: Overflow) -> bool:
        """Let older pieces of ``channel`` give way until ``piece`` fits.

        Args:
            free_bytes: What may still be added here; below 0 when it is over already.

        Returns:
            False when it cannot fit: the session must be closed.
        """
        if rule == "keep_latest":
            free_bytes += self._drop(channel, self.size)
        elif rule == "drop_oldest" and free_bytes < len(piece):
            free_bytes += self._drop(channel, len(piece) - free_bytes)
        return len(piece) <= free_bytes

    def _drop(self, channel: str, wanted_bytes: int) -> int:
        kept: deque[tuple[str, bytes]] = deque()
        freed = 0
        for entry in self._entries:
            if entry[0] == channel and freed < wanted_bytes:
                freed += len(entry[1])
                self.dropped += 1
            else:
                kept.append(entry)
        self._entries = kept
        self.size -= freed
        return freed

    def take(self, wanted_bytes: int) -> bytes:
        """The oldest pieces, joined, until ``wanted_bytes`` are reached."""
        parts: list[bytes] = []
        taken = 0
        while self._entries and taken < wanted_bytes:
            parts.append(self._entries.popleft()[1])
            taken += len(parts[-1])
        self.size -= taken
        return b"".join(parts)
