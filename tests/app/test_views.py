"""Hearts on the hot boards: each is counted once, whatever happens during a rebuild."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from heartcast.app.views import HotView
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
from heartcast.ranking.live import LiveHot
from heartcast.ranking.options import HotOptions

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


class _System:
    """Hearts, the bus, the boards and the view between them."""

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
        self.view = HotView(self.boards, live, self._scan, self.bus.flush, self._want)
        self.bus.follow(self.view)

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
            system.view.mark_stale()

    system.during_scan = lose_once
    await system.view.rebuild()

    assert (system.wanted, scans) == (1, 2)
    assert system.scores() == {"post_1": 1.0}
