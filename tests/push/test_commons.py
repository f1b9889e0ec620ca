"""The commons, against the one contract; and what only a server can do."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from heartcast.backends.redis_pipe import RedisPipe
from heartcast.push.commons.memory import MemoryCommons, Shelf
from heartcast.push.commons.redis import SCRIPTS, RedisCommons
from heartcast.push.journal import Note
from heartcast.testing import ManualClock
from heartcast.testing.contracts.commons import CommonsContract, Opened, follow, sync, write
from heartcast.testing.redis_server import RedisServer


async def nothing() -> None:
    """Nothing is open."""


class TestMemoryCommons(CommonsContract):
    @pytest.fixture(autouse=True)
    def _time(self, clock: ManualClock) -> None:
        self.clock = clock
        self.shelf = Shelf(clock.wall_ms)

    async def open(self, folder: Path) -> Opened:
        return MemoryCommons(self.shelf), nothing

    async def pass_ms(self, ms: int) -> None:
        self.clock.advance(ms / 1000)

    def now_ms(self) -> int:
        return self.clock.wall_ms()


class TestRedisCommons(CommonsContract):
    @pytest.fixture(autouse=True)
    def _server(self, valkey: RedisServer, tmp_path: Path) -> None:
        self.server = valkey
        self.prefix = f"hc-{tmp_path.name}"

    async def open(self, folder: Path) -> Opened:
        pipe = RedisPipe(self.server.url, timeout_s=5.0, scripts=SCRIPTS, is_text=False)
        return RedisCommons(pipe, prefix=self.prefix), pipe.close

    async def pass_ms(self, ms: int) -> None:
        """The server's own clock cannot be moved: what it compares with it is."""
        pipe = RedisPipe(self.server.url, timeout_s=5.0)
        times = f"{{{self.prefix}:all}}:until"
        for key, until_ms in zip(
            *[iter(await pipe.ask("ZRANGE", times, 0, -1, "WITHSCORES"))] * 2, strict=True
        ):
            await pipe.ask("ZADD", times, int(until_ms) - ms, key)
        await pipe.close()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def test_a_server_that_lost_everything_is_believed_and_gives_no_number_twice(self) -> None:
        with RedisServer() as own:
            pipes = [RedisPipe(own.url, timeout_s=2.0, scripts=SCRIPTS, is_text=False) for _ in range(2)]
            ann, bob = (RedisCommons(pipe) for pipe in pipes)
            await write(ann, Note("a:1", b"x"), Note("a:2", b"y"))
            await sync(bob)
            told = follow(bob)
            told.clear()
            own.kill()
            own.restart()
            while await sync(ann) or await write(ann, Note("a:3", b"again")):
                await asyncio.sleep(0.05)
            while await sync(bob):
                await asyncio.sleep(0.05)
            assert ann.notes("a:", 0) == bob.notes("a:", 0) == [Note("a:3", b"again")]
            assert sorted(told) == [Note("a:1", None), Note("a:2", None), Note("a:3", b"again")]
            for pipe in pipes:
                await pipe.close()

    async def test_a_server_that_is_away_is_said_to_be_and_what_is_known_stays(self, tmp_path: Path) -> None:
        with RedisServer() as own:
            pipe = RedisPipe(own.url, timeout_s=0.5, scripts=SCRIPTS, is_text=False)
            commons = RedisCommons(pipe)
            await write(commons, Note("a:1", b"x"))
            own.kill()
            assert await write(commons, Note("a:1", b"y")) == "store_unavailable"
            assert await sync(commons) == "store_unavailable"
            assert commons.notes("a:", 0) == [Note("a:1", b"x")]
            await pipe.close()

    async def test_of_many_who_write_at_once_exactly_one_is_first(self, tmp_path: Path) -> None:
        async with self.nodes(tmp_path, 8) as nodes:
            for round_ in range(5):
                key = f"a:{round_}"
                async with asyncio.TaskGroup() as tasks:
                    tries = [
                        tasks.create_task(write(node, Note(key, b"%d" % at))) for at, node in enumerate(nodes)
                    ]
                answers = [one.result() for one in tries]
                assert sorted(answers) == ["", *["changed_meanwhile"] * 7]
                winner = answers.index("")
                assert all([note.value for note in node.notes(key, 0)] == [b"%d" % winner] for node in nodes)


async def test_a_note_that_a_follower_does_not_understand_keeps_nobody_from_the_rest(
    clock: ManualClock,
) -> None:
    shelf = Shelf(clock.wall_ms)
    ann, bob = MemoryCommons(shelf), MemoryCommons(shelf)
    told: list[str] = []

    def choosy(note: Note) -> None:
        if note.value == b"of a later release":
            raise ValueError("unknown field")
        told.append(note.key)

    bob.follow("a:", choosy)
    await write(ann, Note("a:1", b"x"), Note("a:2", b"of a later release"), Note("a:3", b"y"))
    assert await sync(bob) == ""
    assert told == ["a:1", "a:3"]
    bob.follow("a:", choosy)
    assert told == ["a:1", "a:3"] * 2
