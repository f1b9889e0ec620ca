"""Copying hearts between stores: exact while hearts come and go, and through ``kill -9``."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from heartcast.core.clock import SystemClock
from heartcast.core.errors import Conflict
from heartcast.core.ids import IdSource
from heartcast.hearts.copying import Copy, Place, Report, StoreSource, begin
from heartcast.hearts.model import EventPage, Heart, HeartKey
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.hearts.store.memory_events import MemoryEvents
from heartcast.hearts.store.redis import RedisHeartStore
from heartcast.hearts.store.sqlite import FILE_NAME, SqliteHeartStore
from heartcast.hearts.store.sqlite_beside import SqliteBeside
from heartcast.testing import ManualClock
from heartcast.testing.redis_server import RedisServer

Open = Callable[[Path], Awaitable[HeartStore]]
NAMES = ("here", "there")
DURABLE = {"appendonly": "yes", "appendfsync": "always"}


def memory() -> MemoryHeartStore:
    return MemoryHeartStore(IdSource(SystemClock()), MemoryEvents(SystemClock()))


def copy_of(source: StoreSource, target: HeartStore, place: Place) -> Copy:
    return Copy(
        source, target, place, save=lambda _: None, progress=lambda _: None, now_ms=SystemClock.wall_ms
    )


async def copied(source: StoreSource, target: HeartStore) -> Report:
    return await copy_of(source, target, await begin(source, target, NAMES)).run()


async def hearts(store: HeartStore) -> set[tuple[HeartKey, int]]:
    """Every heart with its time."""
    return {(heart.key, heart.created_ms) for page in [page async for page in store.scan()] for heart in page}


async def click_around(store: HeartStore, dice: random.Random, clicks: int, users: int = 300) -> None:
    """Hearts given and taken back at random, each at a time of its own."""
    for number in range(clicks):
        key = HeartKey(
            f"t{dice.randrange(7)}", f"u{dice.randrange(users)}", dice.choice(("heart", "~heart", "star"))
        )
        if dice.random() < 0.65:
            store.add([key], 1_000 + number, lambda _: None)
        else:
            store.remove([key], 1_000 + number, lambda _: None)
    # The last call is answered after all others.
    await Awaiting(store).remove([HeartKey("t0", "nobody")], 1)


class BusySource(StoreSource):
    """A store where hearts come and go between any two questions."""

    def __init__(self, store: HeartStore, dice: random.Random) -> None:
        super().__init__(store)
        self._dice = dice
        self.clicks_left = 40

        async def walk(after: str, limit: int) -> list[Heart]:
            page = await store.walk(after, limit)
            await self._click(store)
            return page

        async def events(after: int, limit: int) -> EventPage:
            page = await store.events(after, limit)
            await self._click(store)
            return page

        self.walk = walk  # type: ignore[method-assign]
        self.events = events  # type: ignore[method-assign]

    async def _click(self, store: HeartStore) -> None:
        if self.clicks_left:
            self.clicks_left -= 1
            await click_around(store, self._dice, 50)


@pytest.mark.parametrize("seed", range(20))
async def test_a_copy_made_while_hearts_come_and_go_is_exact(seed: int) -> None:
    dice = random.Random(seed)
    store, target = memory(), memory()
    await click_around(store, dice, 3_000, users=2_000)
    source = BusySource(store, dice)

    report = await copied(source, target)
    assert report.differ == []
    assert report.events > 0
    while source.clicks_left:
        await source.walk("", 1)
    # Everything from the beginning once more changes nothing for the worse.
    again = await copy_of(source, target, await at_the_start(store)).run()

    assert again.differ == []
    assert await hearts(target) == await hearts(store)


async def test_a_count_that_differs_is_told_whichever_side_has_more() -> None:
    store, target = memory(), memory()
    await Awaiting(store).add([HeartKey("a", "u1"), HeartKey("b", "u1")], 1)
    source = StoreSource(store)
    place = await begin(source, target, NAMES)
    await Awaiting(target).add([HeartKey("a", "u2"), HeartKey("only there", "u2")], 1)

    report = await copy_of(source, target, place).run()

    told = {(one.target_id, one.source, one.target) for one in report.differ}
    assert told == {("a", 1, 2), ("only there", 0, 1)}


async def test_a_target_with_hearts_is_refused() -> None:
    store, target = memory(), memory()
    await Awaiting(target).add([HeartKey("a", "u")], 1)
    with pytest.raises(Conflict, match="there has hearts already"):
        await begin(StoreSource(store), target, NAMES)


async def test_events_that_are_gone_or_of_another_history_end_a_copy_and_nothing_is_guessed() -> None:
    clock = ManualClock()
    store, target = MemoryHeartStore(IdSource(clock), MemoryEvents(clock)), memory()
    source = StoreSource(store)
    place = await begin(source, target, NAMES)
    await Awaiting(store).add([HeartKey("a", "u")], 1)
    await Awaiting(store).remove([HeartKey("a", "u")], 1)
    await store.trim_events(clock.wall_ms() + 1, 1)
    with pytest.raises(Conflict, match="no longer kept"):
        await copy_of(source, target, place).run()
    await store.trim_events(clock.wall_ms() + 1, 2)
    with pytest.raises(Conflict, match="no longer kept"):
        await copy_of(source, target, place).run()

    elsewhere = memory()
    await Awaiting(elsewhere).add([HeartKey("a", "u")], 1)
    with pytest.raises(Conflict, match="another history"):
        await copy_of(StoreSource(elsewhere), target, place).run()


# -- stores that last ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"), [("open_postgres", "open_redis"), ("open_redis", "open_postgres")]
)
async def test_servers_are_copied_to_servers_while_hearts_come_and_go(
    request: pytest.FixtureRequest, first: str, second: str, tmp_path: Path
) -> None:
    opened: list[Open] = [request.getfixturevalue(first), request.getfixturevalue(second)]
    store, target = [await open_store(tmp_path) for open_store in opened]
    try:
        dice = random.Random(7)
        await click_around(store, dice, 3_000, users=2_000)
        report = await copied(BusySource(store, dice), target)
        assert report.differ == []
        assert report.events > 0
        assert (await copy_of(StoreSource(store), target, await at_the_start(store)).run()).differ == []
        assert await hearts(target) == await hearts(store)
    finally:
        await store.close()
        await target.close()


async def at_the_start(store: HeartStore) -> Place:
    """A place from which everything is done again."""
    return Place(source="", target="", epoch=(await store.events(0, 1)).epoch, number=0)


@pytest.mark.parametrize("kind", ["open_postgres", "open_redis"])
async def test_a_server_is_copied_to_a_file(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    open_store: Open = request.getfixturevalue(kind)
    store = await open_store(tmp_path)
    target = SqliteHeartStore(tmp_path / FILE_NAME, clock=SystemClock())
    try:
        await click_around(store, random.Random(8), 2_000)
        assert (await copied(StoreSource(store), target)).differ == []
        assert await hearts(target) == await hearts(store)
    finally:
        await store.close()
        await target.close()


def _copy(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "heartcast", "hearts", "copy", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


async def test_a_file_is_copied_to_redis_beside_its_writer_and_through_kills(
    tmp_path: Path, start_hammer: Callable[[str, int], object]
) -> None:
    """The place is exact enough: what a kill left half done is done again."""
    with RedisServer(settings=DURABLE) as redis:
        store = SqliteHeartStore(tmp_path / FILE_NAME, clock=SystemClock(), keeps_events=True)
        await click_around(store, random.Random(3), 6_000, users=20_000)
        await store.close()
        hammer = start_hammer(str(tmp_path / FILE_NAME), 1)
        flags = ("--from", f"sqlite:{tmp_path}", "--to", redis.url, "--json")
        kills = 0
        while kills < 2:
            child = _copy(*flags, folder=tmp_path)
            place, before = tmp_path / "heartcast-copy.json", _place(tmp_path)
            deadline_s = time.monotonic() + 20
            while _place(tmp_path) == before and child.poll() is None and time.monotonic() < deadline_s:
                await asyncio.sleep(0.002)
            child.send_signal(signal.SIGKILL)
            child.communicate()
            assert place.exists()
            kills += 1

        busy, _ = _copy(*flags, folder=tmp_path).communicate(timeout=60)
        assert json.loads(busy)["differ"] == []
        hammer.process.kill()  # type: ignore[attr-defined]
        hammer.process.wait()  # type: ignore[attr-defined]
        last = _copy(*flags, folder=tmp_path)
        said, _ = last.communicate(timeout=60)
        assert last.returncode == 0
        assert json.loads(said)["differ"] == []

        source = SqliteHeartStore(tmp_path / FILE_NAME, clock=SystemClock(), keeps_events=True)
        target = RedisHeartStore(redis.url, clock=SystemClock())
        await target.open()
        assert await hearts(target) == await hearts(source)
        await source.close()
        await target.close()


def _place(folder: Path) -> bytes:
    file = folder / "heartcast-copy.json"
    return file.read_bytes() if file.exists() else b""


async def test_reading_beside_a_writer_sees_its_last_commit(tmp_path: Path) -> None:
    store = SqliteHeartStore(tmp_path / FILE_NAME, clock=SystemClock(), keeps_events=True)
    beside = SqliteBeside(tmp_path / FILE_NAME)
    for number in range(3):
        await Awaiting(store).add([HeartKey("a", f"u{number}")], 1)
        assert [count.count for count in await beside.counted(["a"], "heart")] == [number + 1]
        assert (await beside.events(0, 10)).last == number + 1
    await beside.close()
    await store.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "memory:", "--to", "sqlite:x"], "memory is of one process alone"),
        (["--from", "sqlite:x", "--to", "sqlite:x"], "are the same store"),
        (["--from", "sqlite:x", "--to", "sqlite:y"], "there is no x/hearts.db"),
    ],
)
def test_a_copy_that_cannot_be_is_one_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    child = _copy(*arguments, folder=tmp_path)
    _, error = child.communicate(timeout=30)
    assert child.returncode == 1
    assert said in error
    assert error.count("\n") == 1


async def test_a_place_of_another_copy_is_refused(tmp_path: Path) -> None:
    for name in ("x", "y"):
        await SqliteHeartStore(tmp_path / name / FILE_NAME, clock=SystemClock()).close()
    _copy("--from", "sqlite:x", "--to", "sqlite:y", folder=tmp_path).communicate(timeout=30)
    child = _copy("--from", "sqlite:x", "--to", "sqlite:z", folder=tmp_path)
    _, error = child.communicate(timeout=30)
    assert child.returncode == 1
    assert "is of a copy from sqlite x to sqlite y" in error
