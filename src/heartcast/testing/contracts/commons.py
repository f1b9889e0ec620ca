"""What every ``Commons`` must keep, one test per guarantee of its docstring.

    class TestMyCommons(CommonsContract):
        async def open(self, folder): return MyCommons(folder), close

Every opening with one folder is another node over the same notes.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from heartcast.core.errors import HeartcastError
from heartcast.push.commons import Commons
from heartcast.push.journal import Note

Opened = tuple[Commons, Callable[[], Awaitable[None]]]


async def write(commons: Commons, *notes: Note) -> str:
    """Write and wait; gives the code of the refusal, "" when all is kept."""
    answer: asyncio.Future[HeartcastError | None] = asyncio.get_running_loop().create_future()
    commons.write(notes, answer.set_result)
    error = await answer
    return error.code if error else ""


async def sync(commons: Commons) -> str:
    """Catch up and wait; gives the code of what went wrong, or ""."""
    answer: asyncio.Future[HeartcastError | None] = asyncio.get_running_loop().create_future()
    commons.sync(answer.set_result)
    error = await answer
    return error.code if error else ""


def follow(commons: Commons, kind: str = "a:") -> list[Note]:
    """The list that all notes of a kind are told to."""
    told: list[Note] = []
    commons.follow(kind, told.append)
    return told


class CommonsContract(ABC):
    """Inherit, say how to open one more node, and run."""

    @abstractmethod
    async def open(self, folder: Path) -> Opened:
        """One more node, and what closes it."""

    @abstractmethod
    async def pass_ms(self, ms: int) -> None:
        """Let so much time pass where notes are kept."""

    @abstractmethod
    def now_ms(self) -> int:
        """The time where notes are kept."""

    @asynccontextmanager
    async def nodes(self, folder: Path, count: int = 2) -> AsyncIterator[list[Commons]]:
        """So many nodes, caught up."""
        opened = [await self.open(folder) for _ in range(count)]
        try:
            for commons, _ in opened:
                assert await sync(commons) == ""
            yield [commons for commons, _ in opened]
        finally:
            for _, close in opened:
                await close()

    async def test_1_what_was_answered_is_told_to_a_node_that_starts_later(self, tmp_path: Path) -> None:
        async with self.nodes(tmp_path, 1) as [ann]:
            assert await write(ann, Note("a:1", b"x"), Note("b:1", b"y")) == ""
        async with self.nodes(tmp_path, 1) as [bob]:
            assert bob.notes("a:", 0) == [Note("a:1", b"x")]
            assert follow(bob, "b:") == [Note("b:1", b"y")]

    async def test_2_who_writes_from_something_else_than_what_is_kept_is_refused_and_then_knows(
        self, tmp_path: Path
    ) -> None:
        async with self.nodes(tmp_path) as [ann, bob]:
            told = follow(bob)
            assert await write(ann, Note("a:1", b"ann")) == ""
            assert await write(bob, Note("a:1", b"bob")) == "changed_meanwhile"
            assert told == [Note("a:1", b"ann")]
            assert await write(bob, Note("a:1", b"bob")) == ""
            assert await write(ann, Note("a:1", None)) == "changed_meanwhile"
            assert await write(ann, Note("a:1", None)) == ""
            assert await write(bob, Note("a:1", b"new")) == "changed_meanwhile"
            assert bob.notes("a:", 0) == []
            assert await write(bob, Note("a:1", b"new")) == ""

    async def test_3_of_a_refused_write_nothing_is_kept(self, tmp_path: Path) -> None:
        async with self.nodes(tmp_path) as [ann, bob]:
            await write(ann, Note("a:2", b"ann"))
            assert await write(bob, Note("a:1", b"bob"), Note("a:2", b"bob")) == "changed_meanwhile"
            assert await sync(ann) == await sync(bob) == ""
            assert ann.notes("a:", 0) == bob.notes("a:", 0) == [Note("a:2", b"ann")]

    async def test_4_changes_are_told_once_in_the_order_in_which_they_were_written(
        self, tmp_path: Path
    ) -> None:
        async with self.nodes(tmp_path) as [ann, bob]:
            here, there = follow(ann), follow(bob)
            notes = [Note(f"a:{number % 5}", b"%d" % number) for number in range(12)]
            for number, note in enumerate(notes, 1):
                assert await write(ann, note) == ""
                assert here == notes[:number]
                await sync(bob)
            await sync(bob)
            await sync(ann)
            assert here == there == notes
            assert bob.notes("a:", 0) == notes[-5:]

    async def test_5_whoever_caught_up_knows_all_that_was_answered_before(self, tmp_path: Path) -> None:
        async with self.nodes(tmp_path, 3) as [ann, bob, eve]:
            many = [Note(f"a:{number}", b"x") for number in range(450)]
            assert await write(ann, *many) == ""
            assert await write(bob, Note("a:last", b"y")) == ""
            async with asyncio.TaskGroup() as tasks:
                answers = [tasks.create_task(sync(eve)) for _ in range(2)]
            assert [answer.result() for answer in answers] == ["", ""]
            assert eve.notes("a:", 0) == [*many, Note("a:last", b"y")]

    async def test_6_what_was_taken_away_is_told_also_late(self, tmp_path: Path) -> None:
        async with self.nodes(tmp_path) as [ann, bob]:
            await write(ann, Note("a:1", b"x"), Note("a:2", b"y"))
            await sync(bob)
            told = follow(bob)
            await write(ann, Note("a:1", None))
            # Two days: nobody remembers by then that it was taken away.
            await self.pass_ms(2 * 86_400_000)
            await write(ann, Note("a:3", b"z"))
            await sync(bob)
            assert told == [Note("a:1", b"x"), Note("a:2", b"y"), Note("a:3", b"z"), Note("a:1", None)] or (
                told == [Note("a:1", b"x"), Note("a:2", b"y"), Note("a:1", None), Note("a:3", b"z")]
            )

    async def test_7_what_ran_out_is_not_given_and_its_key_is_free(self, tmp_path: Path) -> None:
        async with self.nodes(tmp_path) as [ann, bob]:
            until_ms = self.now_ms() + 1_000
            await write(ann, Note("a:1", b"x", until_ms))
            await self.pass_ms(5_000)
            assert ann.notes("a:", until_ms + 1) == []
            ann.forget(until_ms + 1)
            assert await write(bob, Note("a:1", b"bob")) == ""
            assert await write(ann, Note("a:1", b"ann")) == "changed_meanwhile"

    async def test_8_every_answer_comes_once_and_those_of_writes_in_order(self, tmp_path: Path) -> None:
        async with self.nodes(tmp_path) as [ann, bob]:
            await write(bob, Note("a:3", b"bob"))
            answers: list[int] = []
            for number in range(6):
                ann.write([Note(f"a:{number}", b"ann")], lambda error, n=number: answers.append(n))  # type: ignore[misc]
            assert await write(ann) == ""
            assert answers == list(range(6))
