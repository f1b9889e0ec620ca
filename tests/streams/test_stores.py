"""Every stream store, against the one contract; and what only some of them can do."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.core.clock import SystemClock
from heartcast.core.errors import InvalidInput, SettingsError, StoreUnavailable
from heartcast.streams import StreamStore
from heartcast.streams.entry_id import FIRST, EntryId, next_id, parse
from heartcast.streams.memory import MemoryStreamStore
from heartcast.streams.options import StreamOptions
from heartcast.streams.redis import RedisStreamStore
from heartcast.streams.sqlite import SqliteStreamStore, open_store
from heartcast.testing.clock import ManualClock
from heartcast.testing.contracts.stream_store import StreamStoreContract
from heartcast.testing.redis_server import RedisServer


class TestMemoryStreamStore(StreamStoreContract):
    is_durable = False

    async def open(self, place: Path, options: StreamOptions, clock: ManualClock) -> StreamStore:
        return MemoryStreamStore(options, clock)


def open_file(place: Path, options: StreamOptions, clock: ManualClock) -> SqliteStreamStore:
    return open_store(place / "streams.db", options, clock, asyncio.get_running_loop())


class TestSqliteStreamStore(StreamStoreContract):
    async def open(self, place: Path, options: StreamOptions, clock: ManualClock) -> StreamStore:
        return open_file(place, options, clock)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


_prefixes = count()


class TestRedisStreamStore(StreamStoreContract):
    has_own_clock = True

    @pytest.fixture(autouse=True)
    def _on(self, server: RedisServer) -> None:
        self._url, self._prefix = server.url, f"t{next(_prefixes)}"

    async def open(self, place: Path, options: StreamOptions, clock: ManualClock) -> StreamStore:
        # Ids are of the server's clock, and so is what is too old.
        return RedisStreamStore(self._url, options, SystemClock(), prefix=self._prefix)


@pytest.mark.parametrize("make", [MemoryStreamStore, None], ids=["memory", "sqlite"])
async def test_what_is_too_old_goes_read_or_not(tmp_path: Path, make: Any) -> None:
    clock, options = ManualClock(), StreamOptions(keep_s=100)
    store = make(options, clock) if make else open_file(tmp_path, options, clock)
    await store.publish("news", b"1")
    await store.read("news", "a", 9)
    clock.advance(101)
    await store.publish("news", b"2")
    clock.advance(61)
    assert [entry.data for entry in await store.read("news", "a", 9)] == [b"2"]
    assert (await store.look("news"))[0] == 1
    await store.close()


async def test_a_full_disk_refuses_and_forgets_what_it_counted_on_the_way(tmp_path: Path) -> None:
    clock = ManualClock()
    store = open_file(tmp_path, StreamOptions(max_entries=2), clock)
    first = await store.publish("news", b"1")
    intruder = sqlite3.connect(tmp_path / "streams.db")
    intruder.execute("CREATE TRIGGER full BEFORE INSERT ON top BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="disk full"):
            await store.publish("news", b"2", "key")
    intruder.execute("DROP TRIGGER full")
    intruder.close()
    assert await store.publish("news", b"2", "key") > first
    assert (await store.look("news"))[0] == 2
    await store.close()


async def test_a_reader_that_hung_up_harms_nobody(tmp_path: Path) -> None:
    store = open_file(tmp_path, StreamOptions(), ManualClock())
    await store.publish("news", b"1")
    task = asyncio.ensure_future(store.read("news", "a", 1))
    await asyncio.sleep(0)
    task.cancel()
    assert (await store.look("news"))[0] == 1
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.look("news")


async def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "streams.db")
    other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    with pytest.raises(SettingsError, match="another program"):
        open_file(tmp_path, StreamOptions(), ManualClock())


async def test_any_redis_client_reads_beside_us_and_publishes_to_us(server: RedisServer) -> None:
    import redis.asyncio

    store = RedisStreamStore(server.url, StreamOptions(), SystemClock(), prefix="ext")
    client = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
    key = store.key("news")
    assert key == "{ext:stream:news}"
    id_ = await store.publish("news", b'{"n":1}')
    await client.xgroup_create(key, "theirs", id="0")
    [[_, [[given, fields]]]] = await client.xreadgroup("theirs", "me", {key: ">"})
    assert (given, fields) == (id_, {"data": '{"n":1}'})
    assert (await store.look("news"))[1][0].pending == 1
    assert await client.xack(key, "theirs", given) == 1
    await client.xadd(key, {"temp": "21", "unit": "C"})
    await client.xadd(key, {"data": "no json"})
    found = [entry.data for entry in await store.read("news", "ours", 9)]
    assert found == [b'{"n":1}', b'{"temp":"21","unit":"C"}', b'{"data":"no json"}']
    await client.aclose()
    await store.close()


@given(st.integers(0, 10**15), st.integers(0, 10**6), st.integers(0, 10**15))
def test_ids_only_grow_whatever_the_clock_does(ms: int, n: int, now_ms: int) -> None:
    last = EntryId(ms, n)
    assert next_id(last, now_ms) > last > FIRST or last == FIRST
    assert parse(str(last)) == last


@given(st.text())
def test_what_is_no_id_is_refused(text: str) -> None:
    try:
        found = str(parse(text))
    except InvalidInput:
        return
    assert [int(part) for part in found.split("-")] == [int(part) for part in text.split("-")]
