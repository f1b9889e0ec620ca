"""What every ``TemplateStore`` must keep, one test per guarantee of its docstring.

    class TestMyStore(TemplateStoreContract):
        async def open(self, folder): return MyStore(folder), close

``folder`` is the same for every opening within one test.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path

from heartcast.core.errors import HeartcastError
from heartcast.push.template_store import Activation, TemplateStore, Version

Opened = tuple[TemplateStore, Callable[[], Awaitable[None]]]
Record = Version | Activation


def a_version(name: str, number: int) -> Version:
    """Version ``number`` of ``name``."""
    return Version(name, number, b'{"title":"%d"}' % number, 1_700_000_000_000 + number)


def an_activation(name: str, version: int, number: int) -> Activation:
    """The activation of this version as the ``number``-th of its name."""
    return Activation(name, version, number, 1_700_000_000_000)


async def put(store: TemplateStore, record: Record) -> str:
    """Write a record and wait; gives the code of the error, "" when it was kept."""
    answer: asyncio.Future[HeartcastError | None] = asyncio.get_running_loop().create_future()
    if isinstance(record, Version):
        store.make(record, (), answer.set_result)
    else:
        store.activate(record, (), answer.set_result)
    error = await answer
    return error.code if error else ""


def follow(store: TemplateStore) -> list[Record]:
    """The list that all records are told to."""
    told: list[Record] = []
    store.follow(told.append, told.append)
    return told


class TemplateStoreContract(ABC):
    """Inherit, say how to open your store, and run."""

    is_durable = True

    @abstractmethod
    async def open(self, folder: Path) -> Opened:
        """A store over what is in the folder, and what closes it."""

    async def test_1_what_was_answered_is_there_in_the_next_life(self, tmp_path: Path) -> None:
        store, close = await self.open(tmp_path)
        follow(store)
        assert await put(store, a_version("news", 1)) == ""
        await close()

        store, close = await self.open(tmp_path)
        assert follow(store) == ([a_version("news", 1)] if self.is_durable else [])
        await close()

    async def test_2_records_are_told_when_kept_and_again_in_their_order(self, tmp_path: Path) -> None:
        store, close = await self.open(tmp_path)
        told = follow(store)
        records: list[Record] = [a_version("news", number) for number in (1, 2, 10)]
        records += [an_activation("news", 2 if number % 2 else 10, number) for number in range(1, 13)]
        for record in records:
            await put(store, record)
            assert told[-1] == record
        await close()

        store, close = await self.open(tmp_path)
        assert follow(store) == (records if self.is_durable else [])
        await close()

    async def test_3_a_version_is_written_once(self, tmp_path: Path) -> None:
        store, close = await self.open(tmp_path)
        told = follow(store)
        answers: list[str] = []

        def done(error: HeartcastError | None) -> None:
            answers.append(error.code if error else "")

        store.make(a_version("news", 1), (), done)
        store.make(Version("news", 1, b"{}", 5), (), done)
        assert await put(store, a_version("news", 1)) == "version_exists"
        assert answers == ["", "version_exists"]
        assert told == [a_version("news", 1)]
        await close()

    async def test_4_an_activation_follows_the_one_before(self, tmp_path: Path) -> None:
        store, close = await self.open(tmp_path)
        told = follow(store)
        await put(store, a_version("news", 1))
        assert await put(store, an_activation("news", 1, 2)) == "activation_overtaken"
        assert await put(store, an_activation("news", 1, 1)) == ""
        assert await put(store, an_activation("news", 1, 1)) == "activation_overtaken"
        assert await put(store, an_activation("news", 1, 2)) == ""
        assert await put(store, an_activation("other", 1, 1)) == ""
        assert len(told) == 4
        await close()

    async def test_6_answers_come_once_and_in_the_order_of_the_calls(self, tmp_path: Path) -> None:
        store, close = await self.open(tmp_path)
        follow(store)
        answers: list[int] = []
        for number in range(6):
            # Every second one is a repetition, and refused.
            store.make(a_version("news", 1 + number // 2), (), lambda error, n=number: answers.append(n))  # type: ignore[misc]
        await put(store, a_version("last", 1))
        assert answers == list(range(6))
        await close()
