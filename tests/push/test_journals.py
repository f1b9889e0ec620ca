"""Every journal, against the one contract; and what only a disk can do."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from heartcast.core.errors import SettingsError, StoreUnavailable
from heartcast.push.file import PushFile, open_file
from heartcast.push.inbox.sqlite import load_inbox
from heartcast.push.journal import Change, Journal, Note
from heartcast.push.journal.memory import MemoryJournal
from heartcast.push.journal.sqlite import SqliteJournal
from heartcast.push.templates import load
from heartcast.testing.contracts.inbox import append
from heartcast.testing.contracts.journal import HORIZON_MS, NOW_MS, JournalContract, a_push, ids, write
from heartcast.testing.redis_server import RedisServer
from heartcast.testing.redis_shards import acquire, piped, shard_of_folder


def file_in(folder: Path) -> PushFile:
    return open_file(folder / "pushes.db", asyncio.get_running_loop())


class TestMemoryJournal(JournalContract):
    async def open(self, folder: Path) -> Journal:
        return MemoryJournal()


class TestSqliteJournal(JournalContract):
    async def open(self, folder: Path) -> Journal:
        return SqliteJournal(file_in(folder), load())


class TestRedisJournal(JournalContract):
    @pytest.fixture
    async def journal(self, tmp_path: Path, valkey: RedisServer) -> AsyncIterator[Journal]:  # type: ignore[override]
        async with piped(valkey.url) as self.pipe:
            yield await self.open(tmp_path)

    async def open(self, folder: Path) -> Journal:
        return (await acquire(self.pipe, shard_of_folder(folder))).journal


async def test_a_push_that_went_into_its_inbox_is_in_the_file_once(tmp_path: Path) -> None:
    epochs = count()
    file = file_in(tmp_path)
    journal = SqliteJournal(file, load())
    inbox = load_inbox(file, templates=load(), new_epoch=lambda: f"e{next(epochs)}", max_pushes=9)
    pushes = [a_push("p1"), a_push("p2")]
    await write(journal, Change(accepted=pushes))
    await append(inbox, pushes[:1])
    await journal.close()

    file = file_in(tmp_path)
    assert file.last_id() == "p2"
    assert ids(SqliteJournal(file, load()).replay(HORIZON_MS).pushes) == ["p2"]
    inbox = load_inbox(file, templates=load(), new_epoch=lambda: "later", max_pushes=9)
    assert ids(list(inbox.kept())) == ["p1"]
    await file.close()


async def test_a_full_disk_refuses_whole_changes_and_what_ended_meanwhile_ends_later(tmp_path: Path) -> None:
    journal = SqliteJournal(file := file_in(tmp_path), load())
    first = a_push("p1")
    await write(journal, Change(accepted=[first]))
    intruder = sqlite3.connect(tmp_path / "pushes.db")
    intruder.executescript(
        "CREATE TRIGGER full BEFORE INSERT ON push BEGIN SELECT RAISE(ABORT, 'disk full'); END;"
        "CREATE TRIGGER stuck BEFORE DELETE ON push BEGIN SELECT RAISE(ABORT, 'disk full'); END;"
    )

    journal.write(Change(ended=[first], notes=[Note("d:kept", b"1")]), None)
    with pytest.raises(StoreUnavailable, match="disk full"):
        await write(journal, Change(accepted=[a_push("p2")], notes=[Note("d:refused", b"1")]))
    assert file.failures >= 1

    intruder.executescript("DROP TRIGGER full; DROP TRIGGER stuck;")
    intruder.close()
    await write(journal, Change(accepted=[a_push("p3")]))
    await journal.close()
    journal = SqliteJournal(file_in(tmp_path), load())
    assert ids(journal.replay(HORIZON_MS).pushes) == ["p3"]
    assert [note.key for note in journal.notes("d:", NOW_MS)] == ["d:kept"]
    await journal.close()


async def test_one_turn_of_the_loop_writes_one_group(tmp_path: Path) -> None:
    journal = SqliteJournal(file := file_in(tmp_path), load())
    for n in range(100):
        journal.write(Change(accepted=[a_push(f"p{n:03}")]), None)
    await write(journal, Change(notes=[Note("d:last", b"")]))
    assert file.groups == 1
    await journal.close()


async def test_a_file_of_another_program_is_refused_in_one_sentence(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "pushes.db")
    other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    with pytest.raises(SettingsError, match="database of another program"):
        file_in(tmp_path)
