"""Streams in memory: the reference. Lost with the process."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Sequence

from heartcast.core.clock import Clock
from heartcast.streams import Entry, Group
from heartcast.streams.entry_id import FIRST, EntryId, next_id, parse
from heartcast.streams.options import StreamOptions
from heartcast.streams.refusals import fingerprint, key_reused, stream_full, streams_full

MAX_KEYS = 100_000
"""Idempotency-Keys remembered; one more, and the oldest is forgotten."""


class _Given:
    """An entry that a group was given."""

    __slots__ = ("at_ms", "deliveries")

    def __init__(self, at_ms: int, deliveries: int) -> None:
        self.at_ms = at_ms
        self.deliveries = deliveries


class _Group:
    """One group: the last entry that it was given, and those that it has not acknowledged."""

    __slots__ = ("last", "pending")

    def __init__(self) -> None:
        self.last = FIRST
        self.pending: dict[EntryId, _Given] = {}


class _Stream:
    """One stream. ``ids`` is sorted; entries only go at its front."""

    __slots__ = ("data", "groups", "ids", "last")

    def __init__(self) -> None:
        self.ids: list[EntryId] = []
        self.data: dict[EntryId, bytes] = {}
        self.last = FIRST
        self.groups: dict[str, _Group] = {}

    def drop_before(self, floor: EntryId) -> None:
        """Let go what has a lesser id."""
        count = bisect_left(self.ids, floor)
        for id_ in self.ids[:count]:
            del self.data[id_]
            for group in self.groups.values():
                group.pending.pop(id_, None)
        del self.ids[:count]

    def drop_done(self) -> None:
        """Let go what every group has acknowledged; nothing where there is no group."""
        if self.groups:
            self.drop_before(
                min(
                    min(group.pending, default=EntryId(group.last.ms, group.last.n + 1))
                    for group in self.groups.values()
                )
            )


class MemoryStreamStore:
    """Implements ``StreamStore``."""

    def __init__(self, options: StreamOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._idle_ms = round(options.idle_s * 1000)
        self._keep_ms = round(options.keep_s * 1000)
        self._keep_keys_ms = round(options.keep_keys_s * 1000)
        self._streams: dict[str, _Stream] = {}
        self._keys: OrderedDict[tuple[str, str], tuple[str, str, int]] = OrderedDict()
        """(fingerprint, id, until when) by topic and key."""

    async def publish(self, topic: str, data: bytes, key: str = "") -> str:
        now_ms = self._clock.wall_ms()
        if key and (known := self._keys.get((topic, key))) and now_ms < known[2]:
            if known[0] != fingerprint(data):
                raise key_reused()
            return known[1]
        stream = self._stream(topic)
        stream.drop_before(EntryId(now_ms - self._keep_ms, 0))
        if len(stream.ids) >= self._options.max_entries:
            stream.drop_done()
        if len(stream.ids) >= self._options.max_entries:
            raise stream_full(topic)
        stream.last = id_ = next_id(stream.last, now_ms)
        stream.ids.append(id_)
        stream.data[id_] = data
        if key:
            self._keys[topic, key] = (fingerprint(data), str(id_), now_ms + self._keep_keys_ms)
            if len(self._keys) > MAX_KEYS:
                self._keys.popitem(last=False)
        return str(id_)

    async def read(self, topic: str, group: str, count: int) -> list[Entry]:
        now_ms = self._clock.wall_ms()
        stream = self._stream(topic)
        reader = stream.groups.setdefault(group, _Group())
        again = [
            id_ for id_, given in sorted(reader.pending.items()) if given.at_ms + self._idle_ms <= now_ms
        ]  # fmt: skip
        for id_ in again[:count]:
            given = reader.pending[id_]
            given.at_ms, given.deliveries = now_ms, given.deliveries + 1
        start = bisect_right(stream.ids, reader.last)
        new = stream.ids[start : start + count - len(again[:count])]
        for id_ in new:
            reader.pending[id_] = _Given(now_ms, 1)
            reader.last = id_
        return [
            Entry(str(id_), stream.data[id_], reader.pending[id_].deliveries)
            for id_ in (*again[:count], *new)
        ]

    async def ack(self, topic: str, group: str, ids: Sequence[str]) -> int:
        stream = self._streams.get(topic)
        reader = stream.groups.get(group) if stream else None
        wanted = [parse(id_) for id_ in ids]
        if reader is None:
            return 0
        return sum(reader.pending.pop(id_, None) is not None for id_ in wanted)

    async def look(self, topic: str) -> tuple[int, list[Group]]:
        stream = self._streams.get(topic)
        if stream is None:
            return 0, []
        groups = [
            Group(name, len(group.pending), len(stream.ids) - bisect_right(stream.ids, group.last))
            for name, group in sorted(stream.groups.items())
        ]
        return len(stream.ids), groups

    async def forget(self, topic: str, group: str) -> bool:
        stream = self._streams.get(topic)
        return stream is not None and stream.groups.pop(group, None) is not None

    async def close(self) -> None:
        """Nothing is held."""

    def _stream(self, topic: str) -> _Stream:
        stream = self._streams.get(topic)
        if stream is None:
            if len(self._streams) >= self._options.max_streams:
                raise streams_full()
            stream = self._streams[topic] = _Stream()
        return stream
