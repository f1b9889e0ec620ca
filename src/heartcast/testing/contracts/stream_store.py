"""What every ``StreamStore`` must keep, one test per guarantee of its docstring.

    class TestMyStore(StreamStoreContract):
        async def open(self, place, options, clock): return MyStore(…)

``place`` is the same for every opening within one test. The clock stands still where the
store asks one for the time; a store with a clock of its own sets ``lets_time_pass``.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from heartcast.core.errors import InvalidInput, Overloaded
from heartcast.streams import Group, StreamStore
from heartcast.streams.options import StreamOptions
from heartcast.testing.clock import ManualClock

IDLE_S = 0.2


class StreamStoreContract(ABC):
    """Inherit, say how to open your store, and run."""

    is_durable = True
    has_own_clock = False
    """Whether the store measures time itself, so that a test must let it pass."""

    @abstractmethod
    async def open(self, place: Path, options: StreamOptions, clock: ManualClock) -> StreamStore:
        """A store over what is in the place; the test closes it."""

    async def pass_time(self, clock: ManualClock) -> None:
        """Let more than ``IDLE_S`` go by."""
        clock.advance(IDLE_S * 2)
        if self.has_own_clock:
            await asyncio.sleep(IDLE_S * 1.5)

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    def options(self, **more: float) -> StreamOptions:
        return StreamOptions(idle_s=IDLE_S, **more)  # type: ignore[arg-type]

    async def test_1_what_was_answered_is_there_in_the_next_life(
        self, tmp_path: Path, clock: ManualClock
    ) -> None:
        store = await self.open(tmp_path, self.options(), clock)
        ids = [await store.publish("news", b'{"n":%d}' % n) for n in range(3)]
        given = await store.read("news", "billing", 2)
        assert await store.ack("news", "billing", [given[0].id]) == 1
        await store.close()

        store = await self.open(tmp_path, self.options(), clock)
        assert await store.look("news") == ((3, [Group("billing", 1, 1)]) if self.is_durable else (0, []))
        later = await store.publish("news", b"3")
        assert not self.is_durable or later > ids[-1]
        await store.close()

    async def test_2_each_group_gets_everything_in_order_from_the_oldest(
        self, tmp_path: Path, clock: ManualClock
    ) -> None:
        store = await self.open(tmp_path, self.options(), clock)
        published = [(await store.publish("news", b"%d" % n), b"%d" % n) for n in range(5)]
        assert sorted(published, key=lambda entry: [int(part) for part in entry[0].split("-")]) == published
        for group in ("a", "b"):
            first, rest = await store.read("news", group, 2), await store.read("news", group, 9)
            assert [(entry.id, entry.data) for entry in (*first, *rest)] == published
            assert {entry.deliveries for entry in (*first, *rest)} == {1}
        assert await store.read("sport", "a", 9) == []
        await store.close()

    async def test_3_what_one_reader_was_given_no_other_gets_meanwhile(
        self, tmp_path: Path, clock: ManualClock
    ) -> None:
        store = await self.open(tmp_path, self.options(), clock)
        for n in range(20):
            await store.publish("news", b"%d" % n)
        async with asyncio.TaskGroup() as readers:
            pages = [readers.create_task(store.read("news", "a", 3)) for _ in range(10)]
        given = [entry.id for page in pages for entry in page.result()]
        assert len(given) == len(set(given)) == 20
        await store.close()

    async def test_4_what_was_not_acknowledged_comes_again_before_what_is_new(
        self, tmp_path: Path, clock: ManualClock
    ) -> None:
        store = await self.open(tmp_path, self.options(), clock)
        ids = [await store.publish("news", b"%d" % n) for n in range(3)]
        await store.read("news", "a", 2)
        await self.pass_time(clock)
        again = await store.read("news", "a", 9)
        assert [(entry.id, entry.deliveries) for entry in again] == [(ids[0], 2), (ids[1], 2), (ids[2], 1)]
        assert await store.read("news", "a", 9) == []
        await self.pass_time(clock)
        assert [entry.deliveries for entry in await store.read("news", "a", 1)] == [3]
        await store.close()

    async def test_5_what_was_acknowledged_never_comes_again_and_counts_once(
        self, tmp_path: Path, clock: ManualClock
    ) -> None:
        store = await self.open(tmp_path, self.options(), clock)
        ids = [await store.publish("news", b"%d" % n) for n in range(3)]
        assert await store.ack("news", "a", ids) == 0
        await store.read("news", "a", 2)
        assert await store.ack("news", "a", [ids[0], ids[0], ids[2], "5-5"]) == 1
        assert await store.ack("news", "a", ids[:1]) == 0
        await self.pass_time(clock)
        assert [entry.id for entry in await store.read("news", "a", 9)] == ids[1:]
        with pytest.raises(InvalidInput):
            await store.ack("news", "a", ["no id"])
        await store.close()

    async def test_6_a_full_stream_lets_go_only_what_all_groups_have_done(
        self, tmp_path: Path, clock: ManualClock
    ) -> None:
        store = await self.open(tmp_path, self.options(max_entries=3), clock)
        for n in range(3):
            await store.publish("news", b"%d" % n)
        with pytest.raises(Overloaded):
            await store.publish("news", b"3")
        for group in ("a", "b"):
            await store.read("news", group, 2)
        given = [entry.id for entry in await store.read("news", "a", 1)]
        await store.ack("news", "a", given)
        with pytest.raises(Overloaded):
            await store.publish("news", b"3")
        await self.pass_time(clock)
        for group in ("a", "b"):
            pending = [entry.id for entry in await store.read("news", group, 2)]
            assert await store.ack("news", group, pending) == 2
        assert await store.publish("news", b"3")
        assert (await store.look("news"))[0] == 2
        await store.close()

    async def test_7_a_key_publishes_once(self, tmp_path: Path, clock: ManualClock) -> None:
        store = await self.open(tmp_path, self.options(), clock)
        first = await store.publish("news", b"1", "key")
        assert await store.publish("news", b"1", "key") == first
        assert await store.publish("news", b"1", "other") != first
        assert await store.publish("sport", b"2", "key")
        with pytest.raises(InvalidInput) as refused:
            await store.publish("news", b"2", "key")
        assert refused.value.code == "idempotency_key_reused"
        assert (await store.look("news"))[0] == 2
        await store.close()

    async def test_8_a_forgotten_group_begins_anew_and_holds_nothing_back(
        self, tmp_path: Path, clock: ManualClock
    ) -> None:
        store = await self.open(tmp_path, self.options(max_entries=2), clock)
        ids = [await store.publish("news", b"%d" % n) for n in range(2)]
        for group in ("a", "gone"):
            await store.read("news", group, 9)
        await store.ack("news", "a", ids)
        assert await store.forget("news", "gone")
        assert not await store.forget("news", "gone")
        assert not await store.forget("nothing", "gone")
        assert await store.look("news") == (2, [Group("a", 0, 0)])
        assert await store.publish("news", b"2")
        assert [entry.data for entry in await store.read("news", "gone", 9)] == [b"2"]
        await store.close()
