"""Requests that are done once, on two nodes and through ``kill -9``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from heartcast.backends import postgres as backend
from heartcast.core.clock import SystemClock
from heartcast.core.errors import InvalidInput
from heartcast.hearts.model import HeartKey, Once, Receipt, Step
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.postgres import PostgresHeartStore
from heartcast.hearts.store.postgres_writer import MIGRATIONS
from heartcast.hearts.store.redis import RedisHeartStore
from heartcast.hearts.store.sqlite import SqliteHeartStore
from heartcast.testing.postgres_server import PostgresServer
from heartcast.testing.redis_server import RedisServer

HAMMER = Path(__file__).with_name("hammer.py")
DURABLE = {"appendonly": "yes", "appendfsync": "always"}
CYCLES = 3
Open = Callable[[Path], Awaitable[HeartStore]]


@pytest.mark.parametrize("kind", ["open_postgres", "open_redis"])
async def test_of_two_nodes_that_are_asked_at_the_same_time_one_does_it(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    open_store: Open = request.getfixturevalue(kind)
    nodes = [await open_store(tmp_path), await open_store(tmp_path)]
    for number in range(20):
        name = number.to_bytes(16, "big")

        # The nodes are asked for different things under one key.
        async def ask(at: int, name: bytes = name, number: int = number) -> str:
            receipt = Receipt(name, bytes([at]) * 16, 900_000)
            steps = [Step(True, HeartKey(f"t{at}", f"u{number}"))]
            try:
                await Awaiting(nodes[at]).once(receipt, steps, 1_000)
            except InvalidInput as refused:
                return refused.code
            return "done"

        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask(at)) for at in (0, 1)]
        assert sorted(task.result() for task in asked) == ["done", "idempotency_key_reused"]
    counts = await Awaiting(nodes[0]).counts(["t0", "t1"], "heart")
    assert sum(count.count for count in counts) == 20
    for node in nodes:
        await node.close()


def _asked_until_killed(database: str, seed: int, seconds: float) -> tuple[set[int], dict[int, str]]:
    """Numbers asked, and the ids of those that were answered."""
    child = subprocess.Popen([sys.executable, HAMMER, database, str(seed), "once"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    lines, deadline_s = [], time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        lines.append(child.stdout.readline())
    child.kill()
    rest, _ = child.communicate()
    lines += rest.splitlines(keepends=True)
    words = [line.decode().split() for line in lines if line.endswith(b"\n")]
    return {int(word[1]) for word in words}, {int(word[1]): word[2] for word in words if word[0] == "+"}


async def _check(store: HeartStore, asked: set[int], answered: dict[int, str]) -> None:
    """Ask all again."""
    async with asyncio.TaskGroup() as group:
        asking = {number: group.create_task(_ask_again(store, number)) for number in asked}
    for number, task in asking.items():
        [outcome] = task.result().outcomes
        # An effect without its receipt would say that nothing changed, because the heart is there.
        assert outcome.changed
        assert outcome.heart is not None
        if number in answered:
            assert task.result().is_repeated
            assert outcome.heart.id == answered[number]
    # A receipt without its effect would be missing here.
    [recount] = await store.recount(["t"], "heart")
    assert recount.rows == recount.count == recount.version


async def _ask_again(store: HeartStore, number: int) -> Once:
    name = number.to_bytes(16, "big")
    steps = [Step(True, HeartKey("t", f"u{number}"))]
    return await Awaiting(store).once(Receipt(name, name, 900_000), steps, 1)


async def _through_kills(database: str, open_store: Callable[[], Awaitable[HeartStore]]) -> None:
    total = 0
    for cycle in range(CYCLES):
        asked, answered = await asyncio.to_thread(_asked_until_killed, database, cycle, 0.2)
        store = await open_store()
        await _check(store, asked, answered)
        total += len(asked)
        [recount] = await store.recount(["t"], "heart")
        assert recount.rows == total
        await store.close()
    assert total > 64 * CYCLES


async def test_a_kill_leaves_effect_and_receipt_or_neither_in_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "hearts.db"

    async def open_store() -> HeartStore:
        return SqliteHeartStore(path, clock=SystemClock(), keeps_events=True)

    await _through_kills(str(path), open_store)


async def test_a_kill_leaves_effect_and_receipt_or_neither_in_postgres(postgres: PostgresServer) -> None:
    postgres.make_database("killed_once")
    dsn = postgres.dsn("killed_once")
    connection = await backend.connect(dsn, timeout_s=5)
    await backend.migrate(connection, MIGRATIONS)
    await connection.close()

    async def open_store() -> HeartStore:
        store = PostgresHeartStore(dsn, clock=SystemClock(), keeps_events=True)
        await store.open()
        return store

    await _through_kills(dsn, open_store)


async def test_a_kill_leaves_effect_and_receipt_or_neither_in_redis(
    tmp_path: Path,
) -> None:
    with RedisServer(settings=DURABLE) as server:

        async def open_store() -> HeartStore:
            store = RedisHeartStore(server.url, clock=SystemClock(), keeps_events=True)
            await store.open()
            return store

        await _through_kills(server.url, open_store)
