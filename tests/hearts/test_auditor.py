import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heartcast.core.clock import SystemClock
from heartcast.hearts.auditor import Auditor
from heartcast.hearts.model import Count, HeartKey, Recount
from heartcast.hearts.options import AuditorOptions
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.sqlite import SqliteHeartStore
from heartcast.testing.contracts.heart_store import keys_of


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteHeartStore]:
    store = SqliteHeartStore(tmp_path / "hearts.db", clock=SystemClock())
    for target in range(25):
        await Awaiting(store).add([*keys_of(f"t{target}", range(4)), HeartKey(f"t{target}", "u", "clap")], 1)
    yield store
    await store.close()


def spoil(folder: Path, target_id: str, by: int) -> None:
    with sqlite3.connect(folder / "hearts.db") as connection:
        connection.execute("UPDATE target SET count = count + ? WHERE target_id = ?", (by, target_id))
    connection.close()


async def test_a_round_counts_every_target_and_finds_nothing_wrong(store: SqliteHeartStore) -> None:
    auditor = Auditor(store, AuditorOptions(targets=7))

    assert await auditor.round() == []
    assert (auditor.recounted, auditor.rounds, auditor.drift) == (50, 1, 0)


async def test_what_differs_is_told_and_repaired(store: SqliteHeartStore, tmp_path: Path) -> None:
    spoil(tmp_path, "t3", 5)
    spoil(tmp_path, "t9", -1)
    auditor = Auditor(store, AuditorOptions(targets=7))

    found = await auditor.round()

    assert sorted(recount.drift for recount in found) == [-1, -1, 5, 5]
    assert (auditor.drift, auditor.drifted, auditor.repaired) == (12, 4, 4)
    assert await Awaiting(store).counts(["t3", "t9"], "heart") == [Count("t3", 4, 5), Count("t9", 4, 5)]
    assert await auditor.round() == []
    assert auditor.drift == 0


async def test_without_repairs_a_count_is_left_as_it_is(store: SqliteHeartStore, tmp_path: Path) -> None:
    spoil(tmp_path, "t3", 5)
    auditor = Auditor(store, AuditorOptions(repairs=False))

    assert len(await auditor.round()) == 2
    assert [one.drift for one in await store.recount(["t3"], "heart")] == [5]
    assert (auditor.drift, auditor.repaired) == (10, 0)


async def test_a_target_that_changed_since_it_was_counted_is_never_overwritten(
    store: SqliteHeartStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(tmp_path, "t3", 5)
    recount = store.recount

    async def and_then_a_heart(target_ids: list[str], kind: str) -> list[Recount]:
        found = await recount(target_ids, kind)
        if kind == "heart" and "t3" in target_ids:
            await Awaiting(store).add([HeartKey("t3", "late")], 1)
        return found

    monkeypatch.setattr(store, "recount", and_then_a_heart)
    auditor = Auditor(store, AuditorOptions())
    await auditor.round()
    assert auditor.repaired == 1  # of its claps, which nobody touched
    monkeypatch.undo()

    await auditor.round()
    [seen] = await store.recount(["t3"], "heart")
    assert (seen.count, seen.rows) == (5, 5)
