"""Hearts on the hot boards and in histories: each counts once, whatever happens during a rebuild."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from heartcast.app.views import HotView, TasteView, Views
from heartcast.core.bus import Bus
from heartcast.core.clock import SystemClock
from heartcast.core.ids import IdSource
from heartcast.hearts.model import Heart, HeartChanged, HeartKey
from heartcast.hearts.service import HeartService
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.awaiting import result_of
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.hearts.store.sqlite import SqliteHeartStore
from heartcast.ranking.boards import HotBoards
from heartcast.ranking.for_you import ForYou, Wish
from heartcast.ranking.live import LiveHot
from heartcast.ranking.options import ForYouOptions, HotOptions, TasteOptions
from heartcast.ranking.taste import Taste

NOW_MS = 1_700_000_000_000


class _StandingClock(SystemClock):
    def wall_ms(self) -> int:
        return NOW_MS


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HeartStore]:
    store: HeartStore
    if request.param == "memory":
        store = MemoryHeartStore(IdSource(SystemClock()))
    else:
        store = SqliteHeartStore(tmp_path / "hearts.db", clock=SystemClock())
    yield store
    await store.close()


def _taste() -> Taste:
    return Taste(TasteOptions())


class _System:
    """Hearts, the bus, what ranking keeps of them, and the views between."""

    def __init__(self, store: HeartStore) -> None:
        self.wanted = 0
        self.bus: Bus[HeartChanged] = Bus(asyncio.get_running_loop().call_soon)
        self.hearts = HeartService(store, _StandingClock(), self.bus)
        self.boards = HotBoards(HotOptions(), NOW_MS)
        self.during_scan: Callable[[], None] = lambda: None
        live = LiveHot(
            self.boards,
            HotOptions(),
            publish=lambda channel, data: None,
            is_watched=lambda channel: False,
            later=lambda delay_s, callback: None,
            wall_ms=lambda: NOW_MS,
        )
        self._scan_store = store.scan
        self.for_you = ForYou(
            _taste(), self.boards, ForYouOptions(hot=0), later=lambda delay_s, callback: None
        )
        self.hot_view = HotView(self.boards, live, self._want)
        self.taste_view = TasteView(self.for_you, _taste, self._want)
        self.bus.follow(self.hot_view)
        self.bus.follow(self.taste_view)
        self.view = Views(self._scan, self.bus.flush, [self.hot_view, self.taste_view])

    def _want(self) -> None:
        self.wanted += 1

    async def _scan(self, on_begin: Callable[[], None]) -> AsyncIterator[list[Heart]]:
        async for hearts in self._scan_store(on_begin):
            self.during_scan()
            yield hearts

    async def add(self, target_id: str, *users: int) -> None:
        keys = [HeartKey(target_id, f"u{user}") for user in users]
        await result_of(lambda done: self.hearts.add(keys, done))

    def add_soon(self, target_id: str, user: int) -> None:
        self.hearts.add([HeartKey(target_id, f"u{user}")], lambda _: None)

    def remove_soon(self, target_id: str, user: int) -> None:
        self.hearts.remove([HeartKey(target_id, f"u{user}")], lambda _: None)

    def scores(self) -> dict[str, float]:
        board = self.boards.names[0]
        return {item: round(score, 6) for item, score in self.boards.top(board, 100, NOW_MS)}

    def histories(self, *users: int) -> list[set[str]]:
        self.for_you.settle()
        return [self.for_you.taste.has(f"u{user}") for user in users]

    def together(self, target_id: str) -> dict[str, float]:
        """What goes with an item: wrong where a heart was counted twice or not at all."""
        self.for_you.settle()
        return {item: round(like, 6) for item, like, _ in self.for_you.similar(target_id, 100)}


async def test_a_heart_that_comes_while_the_boards_are_rebuilt_counts_once(store: HeartStore) -> None:
    system = _System(store)
    await system.add("post_1", 1, 2, 3)
    system.during_scan = lambda: system.add_soon("post_1", 6)
    rebuilding = asyncio.ensure_future(system.view.rebuild())
    system.add_soon("post_1", 4)
    await asyncio.sleep(0)
    system.add_soon("post_1", 5)

    await rebuilding
    await system.add("post_2", 1)
    system.bus.flush()

    assert system.scores() == {"post_1": 6.0, "post_2": 1.0}


async def test_a_heart_still_waiting_on_the_bus_when_a_rebuild_begins_counts_once(store: HeartStore) -> None:
    system = _System(store)
    rebuilding = asyncio.ensure_future(system.view.rebuild())
    # In memory this is answered now and announced at the end of the turn, after the scan began.
    system.add_soon("post_1", 1)

    await rebuilding
    await system.add("post_2", 1)
    system.bus.flush()

    assert system.scores() == {"post_1": 1.0, "post_2": 1.0}


async def test_a_heart_that_goes_while_the_boards_are_rebuilt_is_gone(store: HeartStore) -> None:
    system = _System(store)
    await system.add("post_1", 1, 2, 3)
    system.during_scan = lambda: system.remove_soon("post_1", 3)
    rebuilding = asyncio.ensure_future(system.view.rebuild())
    system.remove_soon("post_1", 1)
    await asyncio.sleep(0)
    system.remove_soon("post_1", 2)

    await rebuilding
    await system.add("post_2", 1)
    system.bus.flush()

    assert system.scores() == {"post_2": 1.0}


async def test_lost_events_ask_for_a_rebuild_which_starts_over(store: HeartStore) -> None:
    system = _System(store)
    await system.add("post_1", 1)
    scans = 0

    def lose_once() -> None:
        nonlocal scans
        scans += 1
        if scans == 1:
            system.hot_view.mark_stale()

    system.during_scan = lose_once
    await system.view.rebuild()

    assert (system.wanted, scans) == (1, 2)
    assert system.scores() == {"post_1": 1.0}


async def test_recommendations_are_made_of_all_hearts_there_were_at_start(store: HeartStore) -> None:
    before = _System(store)
    await before.add("post_1", 1, 2, 3)
    await before.add("post_2", 2, 3)
    before.bus.flush()
    system = _System(store)

    await system.view.rebuild()

    assert system.histories(1, 2, 4) == [{"post_1"}, {"post_1", "post_2"}, set()]
    assert system.together("post_1") == before.together("post_1") != {}
    assert [pick.item_id for pick in system.for_you.recommend("u1", Wish(10, NOW_MS))] == ["post_2"]


async def test_histories_lose_and_repeat_nothing_that_happens_during_a_rebuild(store: HeartStore) -> None:
    system = _System(store)
    await system.add("post_1", 1, 2, 3, 4)
    await system.add("post_2", 1, 2, 3)

    def meanwhile() -> None:
        system.add_soon("post_2", 4)
        system.remove_soon("post_1", 2)

    system.during_scan = meanwhile
    rebuilding = asyncio.ensure_future(system.view.rebuild())
    system.add_soon("post_3", 1)
    await asyncio.sleep(0)
    system.remove_soon("post_2", 3)

    await rebuilding
    await system.add("post_3", 2)
    system.bus.flush()
    model = _System(store)
    await model.view.rebuild()

    assert system.histories(1, 2, 3, 4) == [
        {"post_1", "post_2", "post_3"},
        {"post_2", "post_3"},
        {"post_1"},
        {"post_1", "post_2"},
    ]
    assert model.histories(1, 2, 3, 4) == system.histories(1, 2, 3, 4)
    assert model.together("post_1") == system.together("post_1") != {}


async def test_while_histories_are_rebuilt_the_old_ones_stay_in_use(store: HeartStore) -> None:
    system = _System(store)
    await system.add("post_1", 1)
    await system.view.rebuild()
    seen: list[set[str]] = []
    system.during_scan = lambda: seen.extend(system.histories(1))

    await system.view.rebuild()

    assert seen == [{"post_1"}]


async def test_events_lost_while_histories_are_filled_make_them_start_over(store: HeartStore) -> None:
    system = _System(store)
    await system.add("post_1", 1)
    system.taste_view.begin()
    system.taste_view.mark_stale()

    assert (await system.taste_view.finish(), system.wanted) == (False, 1)
    await system.view.rebuild()
    assert system.histories(1) == [{"post_1"}]


async def test_more_events_than_may_wait_for_a_rebuild_make_it_start_over(
    store: HeartStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heartcast.app.views._MAX_MISSED", 2)
    system = _System(store)
    system.taste_view.begin()
    await system.add("post_1", 1, 2, 3)
    system.bus.flush()

    assert (await system.taste_view.finish(), system.wanted) == (False, 1)
    assert system.histories(3) == [{"post_1"}]


async def test_other_kinds_of_heart_are_not_a_taste(store: HeartStore) -> None:
    system = _System(store)
    bookmark = HeartKey("post_1", "u1", "bookmark")
    await result_of(lambda done: store.add([bookmark, HeartKey("post_2", "u1")], NOW_MS, done))

    await system.view.rebuild()
    system.taste_view.apply([HeartChanged(bookmark, count=1, version=1, created_ms=NOW_MS, delta=1)])

    assert system.histories(1) == [{"post_2"}]
