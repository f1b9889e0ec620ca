"""The channel log in memory: a ring per channel.

The reference adapter. It answers at once. A channel's ring is created by its first
publication or by the first question about it, and forgotten when it was used longest
ago and the bound on channels is reached; every life of a ring has an epoch of its
own, so a client that stood in a forgotten ring is told so.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from random import Random, SystemRandom

from heartcast.core.clock import Clock
from heartcast.realtime.log import Appended, Complete, Gap, Limits, Position, Publication, Since
from heartcast.realtime.once import Once


class _Ring:
    """The publications of one channel, oldest first, each with the time it falls due."""

    __slots__ = ("entries", "epoch", "size", "top", "ttl_s")

    def __init__(self, epoch: str, size: int, ttl_s: float) -> None:
        self.entries: deque[tuple[float, Publication]] = deque()
        self.epoch = epoch
        self.top = 0
        self.size = size
        self.ttl_s = ttl_s

    def append(
        self, data: bytes, tags: dict[str, str] | None, client: bytes | None, now_s: float
    ) -> Position:
        self.top += 1
        self.entries.append((now_s + self.ttl_s, Publication(data, self.top, tags, client)))
        self.trim(now_s)
        return Position(self.top, self.epoch)

    def trim(self, now_s: float) -> None:
        entries = self.entries
        while entries and (len(entries) > self.size or entries[0][0] <= now_s):
            entries.popleft()

    def after(self, offset: int) -> list[Publication]:
        """Publications beyond an offset. Offsets are dense, so this is a slice."""
        skipped = max(0, offset - (self.top - len(self.entries)))
        return [publication for _, publication in list(self.entries)[skipped:]]

    def continues(self, position: Position) -> bool:
        """Whether everything after ``position`` is still here."""
        oldest = self.top - len(self.entries)
        return position.epoch == self.epoch and oldest <= position.offset <= self.top


class MemoryLog:
    """``ChannelLog`` in memory.

    Args:
        limits: History size and TTL of a channel.
        max_channels: Rings kept, >= 1.
    """

    announces = False

    def __init__(
        self, clock: Clock, limits: Limits, *, max_channels: int = 100_000, random: Random | None = None
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._max_channels = max_channels
        self._random = random or SystemRandom()
        self._rings: OrderedDict[str, _Ring] = OrderedDict()
        self._once = Once(clock)

    def __len__(self) -> int:
        return len(self._rings)

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
        known = self._once.known(channel, key)
        if known is not None:
            done(known)
            return
        position = self._ring(channel).append(data, tags, client, self._clock.monotonic_s())
        self._once.note(channel, key, position)
        done(position)

    def since(self, channel: str, position: Position | None, limit: int, done: Since) -> None:
        ring = self._fresh(channel)
        top = Position(ring.top, ring.epoch)
        if position is None:
            done(Complete([], top))
        elif not ring.continues(position) or ring.top - position.offset > limit:
            done(Gap(top))
        else:
            done(Complete(ring.after(position.offset), top))

    def history(self, channel: str, after: Position | None, limit: int, reverse: bool, done: Since) -> None:
        ring = self._fresh(channel)
        top = Position(ring.top, ring.epoch)
        if after is not None and (after.epoch not in ("", ring.epoch) or after.offset > ring.top):
            done(Gap(top))
            return
        done(Complete(_page(ring, after, limit, reverse), top))

    def remove(self, channel: str) -> None:
        """Forget a channel; positions in it become gaps."""
        self._rings.pop(channel, None)

    def _fresh(self, channel: str) -> _Ring:
        ring = self._ring(channel)
        ring.trim(self._clock.monotonic_s())
        return ring

    def _ring(self, channel: str) -> _Ring:
        ring = self._rings.get(channel)
        if ring is None:
            size, ttl_s = self._limits(channel)
            ring = self._rings[channel] = _Ring(f"{self._random.getrandbits(40):010x}", size, ttl_s)
            if len(self._rings) > self._max_channels:
                self._rings.popitem(last=False)
        else:
            self._rings.move_to_end(channel)
        return ring


def _page(ring: _Ring, after: Position | None, limit: int, reverse: bool) -> list[Publication]:
    if limit == 0:
        return []
    if not reverse:
        page = ring.after(after.offset if after is not None else 0)
    else:
        page = ring.after(0)[::-1]
        if after is not None:
            page = [publication for publication in page if publication.offset < after.offset]
    return page if limit < 0 else page[:limit]
