import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heartcast.core.bus import Bus
from heartcast.core.errors import Gone, InvalidInput, NotFound, Overloaded
from heartcast.core.ids import IdSource
from heartcast.hearts.model import HIDDEN, HeartChanged, HeartKey
from heartcast.hearts.options import OutboxOptions
from heartcast.hearts.outbox import LATEST, Feed
from heartcast.hearts.service import HeartService
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.hearts.store.memory_events import MemoryEvents
from heartcast.hearts.store.sqlite import SqliteHeartStore
from heartcast.testing.clock import ManualClock
from heartcast.testing.contracts.heart_store import keys_of


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[MemoryHeartStore]:
    store = MemoryHeartStore(IdSource(clock), MemoryEvents(clock))
    yield store
    await store.close()


@pytest.fixture
def feed(store: MemoryHeartStore, clock: ManualClock) -> Feed:
    return Feed(store, OutboxOptions(retention_s=60), clock)


async def test_cursors_lead_through_all_events_once(store: MemoryHeartStore, feed: Feed) -> None:
    await Awaiting(store).add(keys_of("post", range(25)), 1)
    users: list[str] = []
    cursor = ""
    while (page := await feed.read(cursor, 10)).events:
        users += [event.change.user_id for event in page.events]
        cursor = page.cursor

    assert users == [f"u{user}" for user in range(25)]
    assert page.cursor == cursor


async def test_latest_begins_with_what_comes_next(store: MemoryHeartStore, feed: Feed) -> None:
    await Awaiting(store).add(keys_of("post", range(3)), 1)
    page = await feed.read(LATEST, 10)
    assert page.events == []
    await Awaiting(store).add(keys_of("post", range(3, 4)), 1)

    assert [event.number for event in (await feed.read(page.cursor, 10)).events] == [4]


async def test_a_cursor_whose_successor_was_trimmed_is_refused_and_others_go_on(
    store: MemoryHeartStore, feed: Feed, clock: ManualClock
) -> None:
    await Awaiting(store).add(keys_of("post", range(3)), 1)
    early = (await feed.read("", 1)).cursor
    whole = (await feed.read("", 3)).cursor
    clock.advance(61)
    await Awaiting(store).add(keys_of("post", range(3, 5)), 1)
    await feed.trim()

    with pytest.raises(Gone) as refused:
        await feed.read(early, 10)
    assert refused.value.code == "events_gone"
    assert [event.number for event in (await feed.read(whole, 10)).events] == [4, 5]
    assert [event.number for event in (await feed.read("", 10)).events] == [4, 5]
    assert feed.trimmed == 3


async def test_a_cursor_of_another_history_is_refused(feed: Feed, store: MemoryHeartStore) -> None:
    await Awaiting(store).add(keys_of("post", range(3)), 1)
    epoch = (await feed.read("", 1)).epoch

    for cursor in ("0123456789abcdef-1", f"{epoch}-4"):
        with pytest.raises(Gone):
            await feed.read(cursor, 10)


@pytest.mark.parametrize("cursor", ["x", "0123456789abcdef", "0123456789abcdef-", "-1", "0123456789ABCDEF-1"])
async def test_what_is_no_cursor_is_named_so(feed: Feed, cursor: str) -> None:
    with pytest.raises(InvalidInput):
        await feed.read(cursor, 10)


async def test_whoever_waits_is_told_of_the_first_change(
    store: MemoryHeartStore, feed: Feed, clock: ManualClock
) -> None:
    bus: Bus[HeartChanged] = Bus(asyncio.get_running_loop().call_soon)
    bus.follow(feed)
    waiting = [asyncio.ensure_future(feed.read(LATEST, 10, 30)) for _ in range(3)]
    await asyncio.sleep(0)
    HeartService(store, clock, bus).add([HeartKey("post", "u1")], lambda _: None)

    for one in waiting:
        assert [event.change.user_id for event in (await one).events] == ["u1"]


async def test_whoever_waits_in_vain_is_answered_with_nothing(feed: Feed) -> None:
    page = await feed.read("", 10, 0.01)

    assert (page.events, page.number) == ([], 0)


async def test_nobody_waits_once_the_server_stops(feed: Feed) -> None:
    waiting = asyncio.ensure_future(feed.read("", 10, 30))
    await asyncio.sleep(0)
    feed.is_stopping = lambda: True
    feed.mark_stale()

    assert (await waiting).events == []
    assert (await feed.read("", 10, 30)).events == []


async def test_only_so_many_may_wait(feed: Feed) -> None:
    waiting = [asyncio.ensure_future(feed.read("", 10, 30)) for _ in range(256)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await feed.read("", 10, 30)
    for one in waiting:
        one.cancel()


async def test_events_of_other_nodes_are_found_while_somebody_waits(
    store: MemoryHeartStore, feed: Feed
) -> None:
    running = asyncio.ensure_future(feed.run())
    waiting = asyncio.ensure_future(feed.read(LATEST, 10, 30))
    await asyncio.sleep(0)
    # Past the service, as another process would.
    await Awaiting(store).add([HeartKey("post", "u1")], 1)

    assert len((await waiting).events) == 1
    running.cancel()


async def test_nothing_is_trimmed_that_a_follower_has_not_taken(
    store: MemoryHeartStore, feed: Feed, clock: ManualClock
) -> None:
    await Awaiting(store).add(keys_of("post", range(5)), 1)
    feed.hold("slow", lambda: 2)
    clock.advance(61)
    await feed.trim()

    assert [event.number for event in (await feed.read("", 10)).events] == [3, 4, 5]
    assert feed.lags() == {"slow": 3}


async def test_shadowed_hearts_are_nobodys_event(store: MemoryHeartStore, feed: Feed) -> None:
    await Awaiting(store).add(
        [HeartKey("post", "u1", f"{HIDDEN}heart"), HeartKey("post", "u2"), HeartKey("post", "u3", "~x")], 1
    )

    page = await feed.read("", 10)

    assert [event.change.user_id for event in page.events] == ["u2"]
    assert page.number == page.last == 3


async def test_a_store_without_events_says_so(clock: ManualClock, tmp_path: Path) -> None:
    store = SqliteHeartStore(tmp_path / "hearts.db", clock=clock)
    await Awaiting(store).add([HeartKey("post", "u1")], 1)
    with pytest.raises(NotFound) as refused:
        await Feed(store, OutboxOptions(), clock).read("", 10)
    assert refused.value.code == "events_off"
    assert (await store.events(0, 10)).last == 0
    await store.close()
