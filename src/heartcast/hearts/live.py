"""Live counts: what the number beside a heart button should say, now.

Follows the bus and publishes ``{"target_id","count","version"}`` on the target's
channel ``hearts:<target>``. The first change goes out at once; then a target is silent
for an interval, after which the newest count follows if it is still to be told. A
target hearted ten thousand times a second costs a few publications, and the last
count always arrives. Watchers ignore a version that is not greater than their own.

Nobody watches most targets. Their changes stop at one question to the hub, and
whoever subscribes later is seeded from the store.

Only the kind ``heart`` has a channel. A second part for other kinds would be
ambiguous, as a target's id may hold colons itself, and no client shows them live yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache

import msgspec

from heartcast.core.clock import Clock
from heartcast.core.errors import StoreUnavailable
from heartcast.core.names import channel_part, id_of_part
from heartcast.hearts.model import KIND, Count, HeartChanged
from heartcast.hearts.store import MAX_TARGETS, HeartStore

NAMESPACE = "hearts"
_PREFIX = NAMESPACE + ":"
_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=16_384)
def channel_of(target_id: str) -> str:
    """The channel of a target's live count."""
    return _PREFIX + channel_part(target_id)


class LiveCounts:
    """A view of the bus (``core.bus.Subscriber``).

    Args:
        publish: ``publish(channel, data)``, the hub's.
        is_watched: Whether a channel has subscribers now.
        watched: All channels of namespace ``hearts`` that have subscribers; asked only
            when events were lost.
        store: Where counts come from then, and for newcomers.
        clock: Measures the intervals.
        call_later: ``call_later(delay_s, callback)``, the loop's.
        interval_s: Least seconds between two publications of one target, > 0.
    """

    def __init__(
        self,
        *,
        publish: Callable[[str, bytes], object],
        is_watched: Callable[[str], bool],
        watched: Callable[[], Iterable[str]],
        store: HeartStore,
        clock: Clock,
        call_later: Callable[[float, Callable[[], None]], object],
        interval_s: float = 0.2,
    ) -> None:
        self._publish = publish
        self._is_watched = is_watched
        self._watched = watched
        self._store = store
        self._now_s = clock.monotonic_s
        self._call_later = call_later
        self._interval_s = interval_s
        self._silent: dict[str, Count | None] = {}
        """Targets that were told of within the last interval, with what to tell next."""
        self._ends: deque[tuple[float, str]] = deque()
        """When each silence ends, soonest first: all silences are equally long."""
        self.published = 0
        """Counts published."""
        self.coalesced = 0
        """Changes that a later one replaced before it was told."""

    def apply(self, events: list[HeartChanged]) -> None:
        """Take these changes, oldest first."""
        newest: dict[str, HeartChanged] = {}
        for event in events:
            # Not simply the last: what other nodes wrote comes here in whatever order.
            if event.key.kind == KIND and (
                event.key.target_id not in newest or newest[event.key.target_id].version < event.version
            ):
                newest[event.key.target_id] = event
        self.coalesced += len(events) - len(newest)
        for target_id, event in newest.items():
            if self._is_watched(channel_of(target_id)):
                self._tell(Count(target_id, event.count, event.version))

    def mark_stale(self) -> None:
        """Events were lost: read every watched count anew and tell it."""
        targets = [_target_of(channel) for channel in self._watched()]
        for start in range(0, len(targets), MAX_TARGETS):
            self._store.counts(targets[start : start + MAX_TARGETS], KIND, self._tell_all)

    def _tell_all(self, counts: list[Count] | StoreUnavailable) -> None:
        # A store that cannot answer leaves the old numbers; the next change corrects each.
        if isinstance(counts, list):
            for count in counts:
                self._tell(count)

    def _tell(self, count: Count) -> None:
        silent = self._silent
        if count.target_id not in silent:
            self._send(count, self._now_s())
            return
        waiting = silent[count.target_id]
        if waiting is None or waiting.version < count.version:
            self.coalesced += waiting is not None
            silent[count.target_id] = count

    def _send(self, count: Count, now_s: float) -> None:
        self._silent[count.target_id] = None
        self._ends.append((now_s + self._interval_s, count.target_id))
        if len(self._ends) == 1:
            self._call_later(self._interval_s, self._end_silences)
        self.published += 1
        self._publish(channel_of(count.target_id), _encode(count))

    def _end_silences(self) -> None:
        now_s = self._now_s()
        due = []
        ends = self._ends
        # Timers may fire a little early by another clock's reckoning: one tick is near enough.
        while ends and ends[0][0] <= now_s + 0.001:
            due.append(ends.popleft()[1])
        if ends:
            self._call_later(ends[0][0] - now_s, self._end_silences)
        for target_id in due:
            waiting = self._silent.pop(target_id)
            if waiting is not None and self._is_watched(channel_of(target_id)):
                self._send(waiting, now_s)

    def source(self, channel: str, done: Callable[[bytes | None], None]) -> None:
        """The latest count for a channel that has none yet (``hub.seed``).

        Args:
            channel: ``hearts:<target>``.
            done: Called once, at once or later, with the publication's data; None when
                the store cannot answer now.
        """

        def answer(counts: list[Count] | StoreUnavailable) -> None:
            done(_encode(counts[0]) if isinstance(counts, list) else None)

        self._store.counts([_target_of(channel)], KIND, answer)


def _target_of(channel: str) -> str:
    return id_of_part(channel.removeprefix(_PREFIX))
