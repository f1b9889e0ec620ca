"""Every ranking store, against the one contract; and what only a disk can do."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from heartcast.core.errors import SettingsError, StoreUnavailable
from heartcast.ranking.store import RankingStore
from heartcast.ranking.store.memory import MemoryRankingStore
from heartcast.ranking.store.sqlite import FILE_NAME, SqliteRankingStore
from heartcast.testing.contracts.ranking_store import RankingStoreContract, append, click, ids


def sqlite(folder: Path) -> SqliteRankingStore:
    return SqliteRankingStore(folder / FILE_NAME, asyncio.get_running_loop())


class TestMemoryRankingStore(RankingStoreContract):
    async def open(self, folder: Path) -> RankingStore:
        return MemoryRankingStore()


class TestSqliteRankingStore(RankingStoreContract):
    async def open(self, folder: Path) -> RankingStore:
        return sqlite(folder)


async def test_a_full_disk_refuses_and_what_comes_later_is_taken(tmp_path: Path) -> None:
    store = sqlite(tmp_path)
    await append(store, click("a"))
    intruder = sqlite3.connect(tmp_path / FILE_NAME)
    intruder.executescript(
        """CREATE TRIGGER full BEFORE INSERT ON feedback
           BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"""
    )

    with pytest.raises(StoreUnavailable, match="full"):
        await append(store, click("b"), click("c"))
    intruder.executescript("DROP TRIGGER full")
    intruder.close()

    assert await append(store, click("c")) == [True]
    assert ids(store) == ["a", "c"]
    await store.close()


async def test_two_processes_cannot_share_the_file(tmp_path: Path) -> None:
    store = sqlite(tmp_path)

    with pytest.raises(SettingsError, match="in use"):
        sqlite(tmp_path)

    await store.close()


_WRITER = """
import asyncio, sys
from pathlib import Path
from heartcast.ranking.store.sqlite import SqliteRankingStore
from heartcast.testing.contracts.ranking_store import append, click

async def main():
    store = SqliteRankingStore(Path(sys.argv[1]), asyncio.get_running_loop())
    for n in range(int(sys.argv[2]), 1_000_000):
        await append(store, click(f"{n:07}"))
        print(n, flush=True)

asyncio.run(main())
"""


async def test_a_kill_at_any_moment_loses_nothing_answered(tmp_path: Path) -> None:
    last = -1
    for kill_after in (40, 15, 90):
        command = [sys.executable, "-c", _WRITER, str(tmp_path / FILE_NAME), str(last + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(kill_after):
                last = int(writer.stdout.readline())
            writer.kill()
            last = max([last, *map(int, writer.stdout.read().split())])

        store = sqlite(tmp_path)
        found = [int(name) for name in ids(store)]
        await store.close()
        # One more may have been written than was answered.
        assert found[: last + 1] == list(range(last + 1))
        assert len(found) <= last + 2
        last = found[-1]
