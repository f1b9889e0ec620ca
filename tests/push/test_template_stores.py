"""Every template store, against the one contract; and what only a disk can do."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from heartcast.core.errors import HeartcastError
from heartcast.push.commons.memory import MemoryCommons, Shelf
from heartcast.push.file import open_file
from heartcast.push.journal import Note
from heartcast.push.journal.sqlite import SqliteJournal
from heartcast.push.template_store import Version
from heartcast.push.template_store.commons import CommonsTemplateStore
from heartcast.push.template_store.journal import JournalTemplateStore
from heartcast.push.template_store.memory import MemoryTemplateStore
from heartcast.push.templates import load
from heartcast.testing.contracts.template_store import (
    Opened,
    TemplateStoreContract,
    a_version,
    an_activation,
    follow,
    put,
)


class TestMemoryTemplateStore(TemplateStoreContract):
    is_durable = False

    async def open(self, folder: Path) -> Opened:
        async def close() -> None:
            """Nothing is open."""

        return MemoryTemplateStore(), close


class TestJournalTemplateStore(TemplateStoreContract):
    async def open(self, folder: Path) -> Opened:
        journal = SqliteJournal(open_file(folder / "pushes.db", asyncio.get_running_loop()), load())
        return JournalTemplateStore(journal, 0), journal.close

    async def test_5_what_a_full_disk_refused_left_no_trace_and_may_be_written_again(
        self, tmp_path: Path
    ) -> None:
        journal = SqliteJournal(open_file(tmp_path / "pushes.db", asyncio.get_running_loop()), load())
        store = JournalTemplateStore(journal, 0)
        told = follow(store)
        intruder = sqlite3.connect(tmp_path / "pushes.db")
        intruder.execute(
            "CREATE TRIGGER full BEFORE INSERT ON note BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
        refused: list[object] = []
        store.make(a_version("news", 1), [Note("i:key", b"1")], refused.append)
        assert await put(store, an_activation("news", 1, 1)) == "store_unavailable"
        assert await put(store, a_version("news", 2)) == "store_unavailable"
        assert told == []
        assert len(refused) == 1

        intruder.execute("DROP TRIGGER full")
        intruder.close()
        assert await put(store, a_version("news", 1)) == ""
        assert await put(store, an_activation("news", 1, 1)) == ""
        await journal.close()
        journal = SqliteJournal(open_file(tmp_path / "pushes.db", asyncio.get_running_loop()), load())
        assert follow(JournalTemplateStore(journal, 0)) == told
        assert journal.notes("i:", 0) == []
        await journal.close()


class TestCommonsTemplateStore(TemplateStoreContract):
    @pytest.fixture(autouse=True)
    def _shelf(self) -> None:
        self.shelf = Shelf(lambda: 0)

    async def open(self, folder: Path) -> Opened:
        async def close() -> None:
            """Nothing is open."""

        commons = MemoryCommons(self.shelf)
        commons.sync(lambda error: None)
        return CommonsTemplateStore(commons), close

    async def test_of_two_nodes_that_make_the_same_version_one_is_refused_and_has_the_others(self) -> None:
        ann, bob = MemoryCommons(self.shelf), MemoryCommons(self.shelf)
        stores = [CommonsTemplateStore(ann), CommonsTemplateStore(bob)]
        told = [follow(store) for store in stores]
        assert await put(stores[0], Version("news", 1, b"ann", 1)) == ""
        assert await put(stores[1], Version("news", 1, b"bob", 1)) == "version_exists"
        assert told[0] == told[1] == [Version("news", 1, b"ann", 1)]
        assert await put(stores[1], an_activation("news", 1, 1)) == ""
        assert await put(stores[0], an_activation("news", 1, 1)) == "activation_overtaken"
        assert told[0] == told[1]

    async def test_a_version_is_not_made_when_its_note_of_an_idempotency_key_is_refused(self) -> None:
        ann, bob = MemoryCommons(self.shelf), MemoryCommons(self.shelf)
        store = CommonsTemplateStore(bob)
        told = follow(store)
        ann.write([Note("i:key", b"1")], lambda error: None)
        refused: list[HeartcastError | None] = []
        store.make(a_version("news", 1), [Note("i:key", b"2")], refused.append)
        assert [error.code for error in refused if error] == ["changed_meanwhile"]
        assert told == []
