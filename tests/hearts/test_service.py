import pytest

from heartcast.core.bus import Bus
from heartcast.core.clock import SystemClock
from heartcast.core.errors import InvalidInput, StoreUnavailable
from heartcast.core.ids import IdSource
from heartcast.hearts.model import HeartChanged, HeartKey, Outcome
from heartcast.hearts.service import HeartService
from heartcast.hearts.store import Done
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.testing import ManualClock


class View:
    def __init__(self) -> None:
        self.events: list[HeartChanged] = []

    def apply(self, events: list[HeartChanged]) -> None:
        self.events += events

    def mark_stale(self) -> None:
        raise AssertionError("nothing was lost")


class SlowStore(MemoryHeartStore):
    """Answers only when told, as a disk does."""

    def __init__(self) -> None:
        super().__init__(IdSource(SystemClock()))
        self.commits: list[object] = []

    def add(self, keys, now_ms, done: Done) -> None:  # type: ignore[no-untyped-def]
        super().add(keys, now_ms, lambda outcomes: self.commits.append(lambda: done(outcomes)))


KEY = HeartKey("post", "u1")


def service_of(store: MemoryHeartStore) -> tuple[HeartService, Bus[HeartChanged], View, ManualClock]:
    bus: Bus[HeartChanged] = Bus(lambda _: None)
    view, clock = View(), ManualClock()
    bus.follow(view)
    return HeartService(store, clock, bus, kinds=("heart", "clap")), bus, view, clock


def test_only_real_changes_are_announced() -> None:
    service, bus, view, clock = service_of(MemoryHeartStore(IdSource(SystemClock())))
    made_ms = clock.wall_ms()
    service.add([KEY, KEY], lambda _: None)
    clock.advance(60)
    service.add([KEY], lambda _: None)
    service.remove([KEY], lambda _: None)
    service.remove([KEY], lambda _: None)
    bus.flush()

    assert view.events == [HeartChanged(KEY, 1, 1, made_ms, 1), HeartChanged(KEY, 0, 2, made_ms, -1)]
    assert (service.added, service.removed, service.unchanged) == (1, 1, 3)


def test_nothing_is_announced_before_the_store_said_durable() -> None:
    store = SlowStore()
    service, bus, view, _ = service_of(store)
    answers: list[list[Outcome] | StoreUnavailable] = []
    service.add([KEY], answers.append)
    bus.flush()
    assert (view.events, answers) == ([], [])

    store.commits.pop()()  # type: ignore[operator]
    bus.flush()
    assert len(view.events) == len(answers) == 1


async def test_a_failure_announces_nothing_and_reaches_the_caller() -> None:
    store = MemoryHeartStore(IdSource(SystemClock()))
    service, bus, view, _ = service_of(store)
    await store.close()
    answers: list[list[Outcome] | StoreUnavailable] = []
    service.add([KEY], answers.append)
    service.remove([KEY], answers.append)
    bus.flush()

    assert [type(answer) for answer in answers] == [StoreUnavailable] * 2
    assert view.events == []


def test_kinds_are_a_closed_list() -> None:
    service, _, _, _ = service_of(MemoryHeartStore(IdSource(SystemClock())))
    assert service.check_kind("clap") == "clap"
    with pytest.raises(InvalidInput, match="must be one of: clap, heart"):
        service.check_kind("shrug")
