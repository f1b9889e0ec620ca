import json

from heartcast.core.clock import SystemClock
from heartcast.core.ids import IdSource
from heartcast.hearts.live import LiveCounts
from heartcast.hearts.model import HeartChanged, HeartKey
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.testing import ManualClock


class Room:
    """A hub and a loop of which a test moves the time."""

    def __init__(self, *watched: str) -> None:
        self.watched = set(watched)
        self.said: list[tuple[str, int, int]] = []
        self.clock = ManualClock()
        self.store = MemoryHeartStore(IdSource(SystemClock()))
        self._timers: list[tuple[float, object]] = []
        self.live = LiveCounts(
            publish=self._publish,
            is_watched=lambda channel: channel in self.watched,
            watched=lambda: list(self.watched),
            store=self.store,
            clock=self.clock,
            call_later=lambda delay_s, call: self._timers.append((self.clock.monotonic_s() + delay_s, call)),
            interval_s=0.2,
        )

    def _publish(self, channel: str, data: bytes) -> None:
        said = json.loads(data)
        assert list(said) == ["target_id", "count", "version"]
        self.said.append((channel, said["count"], said["version"]))

    def change(self, target_id: str, *versions: int, kind: str = "heart") -> None:
        key = HeartKey(target_id, "u", kind)
        self.live.apply([HeartChanged(key, version * 10, version, 0, 1) for version in versions])

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.clock.advance(0.05)
            now_s = self.clock.monotonic_s()
            due = [timer for timer in self._timers if timer[0] <= now_s + 1e-9]
            self._timers = [timer for timer in self._timers if timer not in due]
            for _, call in due:
                call()  # type: ignore[operator]


def test_the_first_change_is_told_at_once_and_the_last_after_the_interval() -> None:
    room = Room("hearts:a")
    room.change("a", 1)
    assert room.said == [("hearts:a", 10, 1)]
    for version in range(2, 50):
        room.change("a", version)
    assert len(room.said) == 1
    room.wait(0.2)
    assert room.said[1:] == [("hearts:a", 490, 49)]
    room.wait(5)
    assert len(room.said) == 2


def test_a_batch_tells_its_last_change_only() -> None:
    room = Room("hearts:a")
    room.change("a", 1, 2, 3)
    assert room.said == [("hearts:a", 30, 3)]


def test_a_busy_target_is_told_at_most_once_per_interval() -> None:
    room = Room("hearts:a")
    for version in range(1, 201):
        room.change("a", version)
        room.wait(0.05)
    room.wait(0.4)
    assert 50 <= len(room.said) <= 52
    assert room.said[-1] == ("hearts:a", 2000, 200)


def test_targets_do_not_wait_for_each_other() -> None:
    room = Room("hearts:a", "hearts:b")
    room.change("a", 1)
    room.wait(0.1)
    room.change("b", 1)
    room.change("a", 2)
    room.change("b", 2)
    assert [channel for channel, _, _ in room.said] == ["hearts:a", "hearts:b"]
    room.wait(0.1)
    assert room.said[2:] == [("hearts:a", 20, 2)]
    room.wait(0.1)
    assert room.said[3:] == [("hearts:b", 20, 2)]


def test_what_nobody_watches_is_not_told() -> None:
    room = Room("hearts:a")
    room.change("b", 1)
    room.change("a", 1)
    room.change("a", 2)
    room.watched.clear()
    room.wait(1)
    assert room.said == [("hearts:a", 10, 1)]


def test_other_kinds_do_not_show_on_the_channel_of_hearts() -> None:
    room = Room("hearts:a")
    room.change("a", 1, kind="clap")
    assert room.said == []


def test_an_older_version_never_replaces_a_newer_one() -> None:
    room = Room("hearts:a")
    room.change("a", 1)
    room.change("a", 5)
    room.change("a", 4)
    room.wait(0.2)
    assert room.said[-1] == ("hearts:a", 50, 5)


def test_lost_events_are_made_good_from_the_store() -> None:
    room = Room("hearts:a", "hearts:b%20c")
    keys = [HeartKey("a", "u1"), HeartKey("a", "u2"), HeartKey("b c", "u1"), HeartKey("unwatched", "u1")]
    room.store.add(keys, 0, lambda _: None)
    room.live.mark_stale()
    assert sorted(room.said) == [("hearts:a", 2, 2), ("hearts:b%20c", 1, 1)]


async def test_newcomers_are_seeded_from_the_store() -> None:
    room = Room()
    room.store.add([HeartKey("b c", "u1")], 0, lambda _: None)
    seeds: list[bytes | None] = []
    room.live.source("hearts:b%20c", seeds.append)
    room.live.source("hearts:nobody", seeds.append)
    await room.store.close()
    room.live.source("hearts:b%20c", seeds.append)
    assert seeds == [
        b'{"target_id":"b c","count":1,"version":1}',
        b'{"target_id":"nobody","count":0,"version":0}',
        None,
    ]
