"""The SQLite store when the disk, the file or another program does not play along."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heartcast.core.clock import SystemClock
from heartcast.core.errors import SettingsError, StoreBusy, StoreUnavailable
from heartcast.core.ids import IdSource
from heartcast.hearts.model import HeartKey, Outcome
from heartcast.hearts.options import SqliteOptions
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.sqlite import SqliteHeartStore
from heartcast.hearts.store.sqlite_rows import packed, unpacked
from heartcast.testing.contracts.heart_store import keys_of


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteHeartStore]:
    options = SqliteOptions(queue_keys=1000, busy_s=0.05)
    store = SqliteHeartStore(tmp_path / "hearts.db", clock=SystemClock(), options=options)
    yield store
    await store.close()


def _recount(path: Path) -> list[tuple[str, int, int]]:
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT target_id, count, (SELECT count(*) FROM heart WHERE heart.tid = target.tid) FROM target"
    ).fetchall()
    connection.close()
    return rows


async def test_a_full_disk_fails_the_calls_of_its_group_and_later_writes_work(
    store: SqliteHeartStore, tmp_path: Path
) -> None:
    await Awaiting(store).add(keys_of("before", range(10)), 1)
    [pages] = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")

    for call in range(20):
        with pytest.raises(StoreUnavailable, match="full"):
            await Awaiting(store).add(keys_of("while full", range(call * 500, call * 500 + 500)), 2)
    assert store.failed_groups == 20
    [count] = await Awaiting(store).counts(["while full"], "heart")
    assert (count.count, count.version) == (0, 0)

    store._connection.execute("PRAGMA max_page_count = 1000000")
    [outcome] = await Awaiting(store).add([HeartKey("while full", "u1")], 3)
    assert (outcome.count, outcome.version, outcome.changed) == (1, 1, True)
    await store.close()
    assert _recount(tmp_path / "hearts.db") == [("before", 10, 10), ("while full", 1, 1)]


async def test_a_database_locked_while_running_is_unavailable_and_comes_back(
    store: SqliteHeartStore, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "hearts.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await Awaiting(store).add([HeartKey("a", "u")], 1)
    assert await Awaiting(store).hearted("u", ["a"], "heart") == [False]
    other.close()

    [outcome] = await Awaiting(store).add([HeartKey("a", "u")], 2)
    assert outcome.changed


async def test_rows_changed_behind_our_back_are_never_counted(
    store: SqliteHeartStore, tmp_path: Path
) -> None:
    await Awaiting(store).add(keys_of("a", range(3)), 1)
    other = sqlite3.connect(tmp_path / "hearts.db", isolation_level=None)
    other.execute("DELETE FROM target")
    other.close()
    with pytest.raises(StoreUnavailable, match="not there"):
        await Awaiting(store).add([HeartKey("a", "u9")], 1)
    [outcome] = await Awaiting(store).add([HeartKey("b", "u9")], 1)
    assert outcome.count == 1


async def test_a_full_queue_refuses_at_once_and_keeps_what_it_took(store: SqliteHeartStore) -> None:
    answers: list[list[Outcome] | StoreUnavailable] = []
    for call in range(5):
        store.add(keys_of(f"t{call}", range(400)), 1, answers.append)
    assert [type(answer) for answer in answers] == [StoreBusy] * 3
    assert store.refused == 3
    await store.close()
    assert [len(answer) for answer in answers if isinstance(answer, list)] == [400, 400]


async def test_a_caller_that_raises_does_not_take_the_answers_of_its_group(store: SqliteHeartStore) -> None:
    answers: list[object] = []

    def broken(_: object) -> None:
        raise RuntimeError("a fault of the caller")

    store.add([HeartKey("a", "u1")], 1, broken)
    store.add([HeartKey("a", "u2")], 1, answers.append)
    await store.close()
    assert len(answers) == 1


async def test_a_cancelled_caller_leaves_the_others_alone(store: SqliteHeartStore) -> None:
    task = asyncio.ensure_future(Awaiting(store).add([HeartKey("a", "u1")], 1))
    await asyncio.wait([task], timeout=0)
    task.cancel()
    [outcome] = await Awaiting(store).add([HeartKey("a", "u2")], 1)
    assert outcome.count == 2
    assert task.cancelled()


async def test_a_second_store_on_the_same_folder_is_refused(store: SqliteHeartStore, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="in use by another process"):
        SqliteHeartStore(tmp_path / "hearts.db", clock=SystemClock())


async def test_a_damaged_database_is_refused_and_the_lock_let_go(tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    for _ in range(2):
        with pytest.raises(SettingsError, match="damaged"):
            SqliteHeartStore(path, clock=SystemClock())


async def test_counts_stay_right_when_the_memory_of_them_overflows(
    store: SqliteHeartStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heartcast.hearts.store.sqlite_counts._MAX_COUNTS", 3)
    monkeypatch.setattr("heartcast.hearts.store.sqlite_writer._MAX_TARGETS", 3)
    names = [f"t{number}" for number in range(10)]
    for turn in range(1, 4):
        await Awaiting(store).add([HeartKey(name, f"u{turn}") for name in names], 1)
        counts = await Awaiting(store).counts(names, "heart")
        assert [count.count for count in counts] == [turn] * 10


def test_packed_ids_sort_as_their_text_and_come_back() -> None:
    source = IdSource(SystemClock())
    ids = [source.next() for _ in range(1000)] + ["0" * 26, "7" + "Z" * 25]
    assert [unpacked(packed(heart_id)) for heart_id in ids] == ids
    assert sorted(ids, key=packed) == sorted(ids)


async def test_a_database_of_the_release_before_gets_its_outbox(tmp_path: Path) -> None:
    path = tmp_path / "hearts.db"
    store = SqliteHeartStore(path, clock=SystemClock())
    await Awaiting(store).add([HeartKey("post", "u1")], 1)
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "DROP TABLE event; DROP TABLE outbox; DROP TABLE receipt; PRAGMA user_version = 1"
        )
    connection.close()

    store = SqliteHeartStore(path, clock=SystemClock(), keeps_events=True)
    await Awaiting(store).add([HeartKey("post", "u2")], 1)
    [event] = (await store.events(0, 10)).events
    assert (event.number, event.change.user_id, event.change.count) == (1, "u2", 2)
    await store.close()
