"""``kill -9`` at any moment: every answered heart is there, and counts equal rows."""

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from heartcast.core.clock import SystemClock
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.sqlite import SqliteHeartStore

CYCLES = int(os.environ.get("HEARTCAST_KILL_CYCLES", "6"))
CheckEvents = Callable[[HeartStore, set[tuple[str, str]]], Awaitable[None]]
HAMMER = Path(__file__).with_name("hammer.py")


def _hammer_until_killed(path: Path, seed: int, after_s: float) -> list[str]:
    child = subprocess.Popen([sys.executable, HAMMER, path, str(seed)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    lines = []
    deadline_s = time.monotonic() + after_s
    while time.monotonic() < deadline_s:
        lines.append(child.stdout.readline())
    child.kill()
    rest, _ = child.communicate()
    lines += rest.splitlines(keepends=True)
    # The very last line may have been cut.
    return [line.decode().strip() for line in lines if line.endswith(b"\n")]


def _check(path: Path, answered: dict[tuple[str, str], bool]) -> set[tuple[str, str]]:
    with sqlite3.connect(path) as connection:
        rows = set(connection.execute("SELECT target_id, user FROM heart JOIN target USING (tid)").fetchall())
        counts = connection.execute(
            "SELECT count, (SELECT count(*) FROM heart WHERE heart.tid = target.tid) FROM target"
        ).fetchall()
        [[verdict]] = connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    assert verdict == "ok"
    assert all(count == recount for count, recount in counts)
    # Calls under way at the kill may or may not have happened: those keys are not in
    # ``answered``. Of all others we know exactly.
    assert [key for key, is_there in answered.items() if (key in rows) != is_there] == []
    return rows


async def _check_events(path: Path, check_events: CheckEvents, rows: set[tuple[str, str]]) -> None:
    store = SqliteHeartStore(path, clock=SystemClock())
    await check_events(store, rows)
    await store.close()


def test_a_kill_at_any_moment_loses_nothing_answered(tmp_path: Path, check_events: CheckEvents) -> None:
    dice = random.Random()
    path = tmp_path / "hearts.db"
    answered: dict[tuple[str, str], bool] = {}
    total = 0
    for cycle in range(CYCLES):
        lines = _hammer_until_killed(path, cycle, dice.uniform(0.05, 0.6))
        for line in lines:
            sign, target_id, user = line.split(" ")
            if sign == "?":
                answered.pop((target_id, user), None)
            else:
                answered[target_id, user] = sign == "+"
                total += 1
        rows = _check(path, answered)
        asyncio.run(_check_events(path, check_events, rows))
    assert total > 100 * CYCLES
