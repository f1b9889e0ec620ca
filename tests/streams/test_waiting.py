"""Readers that wait: woken by what arrives, answered in time, and bounded."""

from __future__ import annotations

import asyncio

import pytest

from heartcast.core.errors import Overloaded
from heartcast.streams.memory import MemoryStreamStore
from heartcast.streams.options import StreamOptions
from heartcast.streams.streams import Streams
from heartcast.testing.clock import ManualClock

pytestmark = pytest.mark.looptime


class LoopClock(ManualClock):
    """The event loop's own time, which the test plugin moves."""

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + round(self.monotonic_s() * 1000)


def streams(**options: float) -> Streams:
    made, clock = StreamOptions(**options), LoopClock()  # type: ignore[arg-type]
    return Streams(MemoryStreamStore(made, clock), made, clock)


async def test_a_reader_is_woken_by_what_is_published() -> None:
    some = streams()
    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(some.read("news", "a", 9, 20.0))
        other = tasks.create_task(some.read("sport", "a", 9, 1.0))
        await asyncio.sleep(5)
        await some.publish("news", b"1")
    assert [entry.data for entry in reader.result()] == [b"1"]
    assert other.result() == []
    assert asyncio.get_running_loop().time() == pytest.approx(5, abs=0.01)
    assert (some.waiting, some.delivered, some.published) == (0, 1, 1)


async def test_a_reader_waits_no_longer_than_asked_and_gets_what_others_left() -> None:
    some = streams(idle_s=3)
    assert await some.read("news", "a", 9, 4.0) == []
    assert asyncio.get_running_loop().time() == pytest.approx(4, abs=0.01)
    await some.publish("news", b"1")
    await some.read("news", "a", 9, 0)
    [entry] = await some.read("news", "a", 9, 20.0)
    assert entry.deliveries == 2
    assert asyncio.get_running_loop().time() == pytest.approx(7, abs=0.6)


async def test_a_stop_answers_everybody_and_more_readers_than_may_wait_are_refused() -> None:
    some = streams(max_waiting=2)
    async with asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(some.read("news", f"g{n}", 9, 20.0)) for n in range(2)]
        await asyncio.sleep(1)
        with pytest.raises(Overloaded):
            await some.read("news", "g3", 9, 1.0)
        some.stop()
    assert [reader.result() for reader in readers] == [[], []]
    assert asyncio.get_running_loop().time() == pytest.approx(1, abs=0.01)
