import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from heartcast.cli.hearts import hearts
from heartcast.core.clock import SystemClock
from heartcast.core.errors import SettingsError
from heartcast.hearts.model import HeartKey
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.sqlite import SqliteHeartStore
from heartcast.hearts.store.sqlite_backup import backup, restore

CheckEvents = Callable[[HeartStore, set[tuple[str, str]]], Awaitable[None]]


async def test_a_copy_made_under_load_is_of_one_moment_and_has_all_that_was_answered_before(
    tmp_path: Path, start_hammer: Callable[..., Any], check_events: CheckEvents
) -> None:
    path = tmp_path / "hearts.db"
    hammer = start_hammer(str(path), 1)
    deadline_s = time.monotonic() + 20
    while hammer.answers < 500 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    before = len(hammer.lines)
    backup(path, tmp_path / "copy.db")
    answers = hammer.answers
    while hammer.answers == answers and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert hammer.answers > answers, "the copy holds nobody up"
    hammer.kill({})
    answered: dict[tuple[str, str], bool] = {}
    for at, line in enumerate(hammer.lines[:-1]):
        sign, target, user = line.decode().split()
        if sign == "?" or at >= before:
            answered.pop((target, user), None)
        else:
            answered[target, user] = sign == "+"

    hearts = restore(tmp_path / "copy.db", tmp_path / "again" / "hearts.db")

    store = SqliteHeartStore(tmp_path / "again" / "hearts.db", clock=SystemClock())
    rows = {(h.key.target_id, h.key.user_id) async for batch in store.scan() for h in batch}
    assert len(rows) == hearts > 0
    for recount in await store.recount([f"t{at}" for at in range(7)], "heart"):
        assert recount.drift == 0
    assert [key for key, is_there in answered.items() if (key in rows) != is_there] == []
    await check_events(store, rows)
    await store.close()


async def test_a_restored_history_of_events_has_a_new_epoch(tmp_path: Path) -> None:
    path = tmp_path / "hearts.db"
    store = SqliteHeartStore(path, clock=SystemClock(), keeps_events=True)
    await Awaiting(store).add([HeartKey("post", "u1")], 1)
    before = await store.events(0, 10)
    backup(path, tmp_path / "copy.db")
    await Awaiting(store).add([HeartKey("post", "u2")], 1)
    with pytest.raises(SettingsError, match="in use"):
        restore(tmp_path / "copy.db", path)
    await store.close()

    assert restore(tmp_path / "copy.db", path) == 1

    store = SqliteHeartStore(path, clock=SystemClock(), keeps_events=True)
    after = await store.events(0, 10)
    assert after.events == before.events
    assert after.epoch != before.epoch
    await store.close()
    with sqlite3.connect(tmp_path / "hearts.db.before") as connection:
        assert connection.execute("SELECT count(*) FROM heart").fetchall() == [(2,)]
    connection.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "copy.db", "hearts.db", "hearts.db.before", "hearts.db.lock",
    ]  # fmt: skip


async def test_a_copy_that_is_none_or_damaged_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "hearts.db"
    store = SqliteHeartStore(path, clock=SystemClock())
    await Awaiting(store).add([HeartKey("post", f"u{user}") for user in range(400)], 1)
    await store.close()
    backup(path, tmp_path / "copy.db")
    whole = (tmp_path / "copy.db").read_bytes()
    (tmp_path / "cut.db").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.db").write_text("hearts")

    for bad in ("cut.db", "text.db", "nothing.db"):
        with pytest.raises(SettingsError):
            restore(tmp_path / bad, path)
    with pytest.raises(SettingsError, match="there already"):
        backup(path, tmp_path / "copy.db")
    with pytest.raises(SettingsError, match="there is no"):
        backup(tmp_path / "nothing.db", tmp_path / "other.db")

    store = SqliteHeartStore(path, clock=SystemClock())
    [recount] = await store.recount(["post"], "heart")
    assert (recount.count, recount.drift) == (400, 0)
    await store.close()


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(hearts, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_the_commands_verify_copy_and_restore(tmp_path: Path) -> None:
    async def fill() -> None:
        store = SqliteHeartStore(tmp_path / "data" / "hearts.db", clock=SystemClock())
        await Awaiting(store).add([HeartKey("post", f"u{user}") for user in range(4)], 1)
        await store.close()

    asyncio.run(fill())
    data = ("--data-dir", tmp_path / "data")
    status, said = run("verify", *data)
    assert (status, "1 targets counted: every count is what its rows say" in said) == (0, True)
    assert run("backup", tmp_path / "copy.db", *data)[0] == 0
    with sqlite3.connect(tmp_path / "data" / "hearts.db") as connection:
        connection.execute("UPDATE target SET count = 9")
    connection.close()

    status, said = run("verify", *data)
    assert (status, "1 differ, 0 repaired" in said) == (3, True)
    status, said = run("verify", "--json", "--repair", *data)
    assert (status, '"drift":5' in said, '"repaired":1' in said) == (0, True, True)
    assert run("verify", *data)[0] == 0
    status, said = run("restore", tmp_path / "copy.db", *data)
    assert (status, "4 hearts restored" in said) == (0, True)
    assert run("backup", tmp_path / "copy.db", *data)[0] == 1
