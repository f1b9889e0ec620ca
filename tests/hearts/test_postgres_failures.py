"""PostgreSQL killed, cut off, hanging, shared, or not what we need."""

import asyncio
import itertools
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from heartcast.backends import postgres as backend
from heartcast.core.clock import SystemClock
from heartcast.core.errors import SettingsError, StoreUnavailable
from heartcast.hearts.model import Count, HeartEvent, HeartKey, Outcome
from heartcast.hearts.options import PostgresOptions
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.postgres import PostgresHeartStore
from heartcast.hearts.store.postgres_writer import MIGRATIONS
from heartcast.testing.fault_proxy import FaultProxy
from heartcast.testing.postgres_server import PostgresServer

CYCLES = int(os.environ.get("HEARTCAST_KILL_CYCLES", "4"))
KEY = HeartKey("post", "u1")
SHORT = PostgresOptions(timeout_s=0.3)

Open = Callable[[Path], Awaitable[PostgresHeartStore]]
CheckEvents = Callable[[HeartStore, set[tuple[str, str]]], Awaitable[None]]


async def migrated(server: PostgresServer, name: str) -> str:
    dsn = server.make_database(name)
    connection = await backend.connect(dsn, timeout_s=5)
    await backend.migrate(connection, MIGRATIONS)
    await connection.close()
    return dsn


async def rows_of(dsn: str) -> set[tuple[str, str]]:
    """Who hearts what; and counts must equal rows."""
    connection = await backend.connect(dsn, timeout_s=5)
    drifted = await connection.fetch(
        "SELECT target_id FROM heartcast_target t WHERE count <> (SELECT count(*) FROM heartcast_heart h"
        " WHERE h.tid = t.tid)"
    )
    rows = await connection.fetch(
        "SELECT target_id, user_id FROM heartcast_heart JOIN heartcast_target USING (tid)"
    )
    await connection.close()
    assert drifted == []
    return {(target, user) for target, user in rows}


async def _check(dsn: str, check_events: CheckEvents, rows: set[tuple[str, str]]) -> None:
    store = PostgresHeartStore(dsn, clock=SystemClock())
    await check_events(store, rows)
    await store.close()


async def test_a_kill_of_ours_at_any_moment_loses_nothing_answered(
    postgres: PostgresServer, start_hammer: Callable[..., Any], check_events: CheckEvents
) -> None:
    dsn = await migrated(postgres, "killed_client")
    answered: dict[tuple[str, str], bool] = {}
    for cycle in range(CYCLES):
        hammer = start_hammer(dsn, cycle)
        time.sleep(random.uniform(0.05, 0.5))
        hammer.kill(answered)
        # The server may still be at the last transaction of the one that died.
        await asyncio.sleep(0.2)
        rows = await rows_of(dsn)
        assert [key for key, is_there in answered.items() if (key in rows) != is_there] == []
    assert len(answered) > 50 * CYCLES
    await _check(dsn, check_events, rows)


async def test_a_kill_of_the_server_at_any_moment_loses_nothing_answered(
    start_hammer: Callable[..., Any], check_events: CheckEvents
) -> None:
    answered: dict[tuple[str, str], bool] = {}
    with PostgresServer() as server:
        dsn = await migrated(server, "killed_server")
        hammer = start_hammer(dsn, 1)
        for _ in range(CYCLES):
            before = hammer.answers
            time.sleep(random.uniform(0.05, 0.5))
            server.restart()
            deadline_s = time.monotonic() + 20
            while hammer.answers < before + 100 and time.monotonic() < deadline_s:
                time.sleep(0.02)
            assert hammer.answers >= before + 100, "it did not come back by itself"
        hammer.kill(answered)
        await asyncio.sleep(0.2)
        rows = await rows_of(dsn)
        await _check(dsn, check_events, rows)
    assert [key for key, is_there in answered.items() if (key in rows) != is_there] == []


async def test_cut_connections_cost_one_answer_and_are_opened_again(
    open_postgres: Open, postgres: PostgresServer, tmp_path: Path
) -> None:
    store = await open_postgres(tmp_path)
    await Awaiting(store).add([KEY], 1)
    connection = await backend.connect(postgres.dsn(), timeout_s=5)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        " AND application_name = 'heartcast'"
    )
    await connection.close()

    async def heart() -> Outcome:
        for _ in range(20):
            try:
                [outcome] = await Awaiting(store).add([KEY], 2)
                return outcome
            except StoreUnavailable:
                await asyncio.sleep(0.05)
        raise AssertionError("it did not come back")

    assert (await heart()).count == 1
    for ask in (
        lambda: Awaiting(store).counts(["post"], "heart"),
        lambda: store.page(target_id="post", user_id=None, kind="heart", after="", limit=5),
    ):
        try:
            await ask()
        except StoreUnavailable:
            assert await ask()
    await store.close()


async def test_a_server_that_hangs_is_answered_for_in_time_and_used_again_later(
    postgres: PostgresServer,
) -> None:
    dsn = await migrated(postgres, "hanging")
    async with FaultProxy("127.0.0.1", postgres.port) as proxy:
        store = PostgresHeartStore(
            dsn.replace(f":{postgres.port}/", f":{proxy.port}/"), clock=SystemClock(), options=SHORT
        )
        await store.open()
        await Awaiting(store).add([KEY], 1)
        proxy.hang()
        started_s = asyncio.get_running_loop().time()
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await Awaiting(store).add([HeartKey("post", "u2")], 1)
            with pytest.raises(StoreUnavailable):
                await Awaiting(store).counts(["post"], "heart")
            with pytest.raises(StoreUnavailable):
                await store.find("0" * 26)
        assert asyncio.get_running_loop().time() - started_s < 9 * 0.3 + 1
        await proxy.heal()
        await asyncio.sleep(0.3)

        [outcome] = await Awaiting(store).add([HeartKey("post", "u2")], 1)
        # The write that hung may have arrived in the end, but it cannot count twice.
        assert outcome.count == 2
        await store.close()


async def test_a_server_that_is_down_is_answered_for_at_once(postgres: PostgresServer) -> None:
    dsn = await migrated(postgres, "refusing")
    async with FaultProxy("127.0.0.1", postgres.port) as proxy:
        store = PostgresHeartStore(dsn.replace(f":{postgres.port}/", f":{proxy.port}/"), clock=SystemClock())
        await store.open()
        await proxy.refuse()
        started_s = asyncio.get_running_loop().time()
        for _ in range(50):
            with pytest.raises(StoreUnavailable):
                await Awaiting(store).add([KEY], 1)
        assert asyncio.get_running_loop().time() - started_s < 2
        await proxy.heal()
        await asyncio.sleep(0.3)
        assert (await Awaiting(store).add([KEY], 1))[0].changed
        await store.close()


async def test_nodes_that_share_a_database_agree_on_every_count_and_version(
    open_postgres: Open, tmp_path: Path
) -> None:
    nodes = [await open_postgres(tmp_path) for _ in range(3)]
    dice = random.Random(5)
    heard: dict[str, list[tuple[int, int]]] = {}

    async def play(node: PostgresHeartStore) -> None:
        for _ in range(60):
            keys = [HeartKey(f"t{dice.randrange(3)}", f"u{dice.randrange(8)}") for _ in range(4)]
            call = Awaiting(node).add if dice.random() < 0.6 else Awaiting(node).remove
            for key, outcome in zip(keys, await call(keys, 1), strict=True):
                if outcome.changed:
                    heard.setdefault(key.target_id, []).append((outcome.version, outcome.count))

    await asyncio.gather(*(play(node) for node in nodes))

    for target, changes in heard.items():
        changes.sort()
        # Every change was told to exactly one caller, and none is missing.
        assert [version for version, _ in changes] == list(range(1, len(changes) + 1))
        assert all(abs(a[1] - b[1]) == 1 for a, b in itertools.pairwise(changes))
        for node in nodes:
            [count] = await Awaiting(node).counts([target], "heart")
            assert count == Count(target, changes[-1][1], changes[-1][0])
    for node in nodes:
        await node.close()


async def test_taking_back_what_never_was_leaves_no_trace(
    open_postgres: Open, postgres: PostgresServer, tmp_path: Path
) -> None:
    store = await open_postgres(tmp_path)
    await Awaiting(store).remove([HeartKey("never", "u1")], 1)
    async with store._asking.use() as connection:
        assert await connection.fetchval("SELECT count(*) FROM heartcast_target") == 0
    await store.close()


async def test_beyond_the_queue_callers_are_told_to_come_back(open_postgres: Open, tmp_path: Path) -> None:
    store = await open_postgres(tmp_path)
    await store.close()
    store = PostgresHeartStore(store._dsn, clock=SystemClock(), options=PostgresOptions(queue_keys=500))
    answers: list[object] = []
    for user in range(600):
        store.add([HeartKey("post", f"u{user}")], 1, answers.append)
    assert store.refused == len(answers) == 100
    await store.close()
    assert sum(isinstance(answer, list) for answer in answers) == 500


async def test_the_password_is_in_no_message_and_no_log(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = postgres.dsn().replace("only%20for%20tests", "S3cr%40t-word")
    store = PostgresHeartStore(wrong, clock=SystemClock())
    with pytest.raises(SettingsError, match="refuses") as refused:
        await store.open()
    with pytest.raises(StoreUnavailable) as unavailable:
        await Awaiting(store).add([KEY], 1)
    await store.close()
    with pytest.raises(SettingsError) as malformed:
        await backend.connect("postgresql://u:S3cr%40t-word@host:port/db", timeout_s=1)

    said = [refused.value.detail, unavailable.value.detail, malformed.value.detail, caplog.text]
    assert not any("S3cr" in text or "t-word" in text for text in said)


async def test_a_database_without_our_schema_names_the_command_that_makes_it(
    postgres: PostgresServer,
) -> None:
    store = PostgresHeartStore(postgres.make_database("empty"), clock=SystemClock())
    with pytest.raises(SettingsError, match="run `heartcast migrate`"):
        await store.open()
    await store.close()


async def test_migrations_run_once_even_when_started_together(postgres: PostgresServer) -> None:
    dsn = postgres.make_database("together")
    connections = [await backend.connect(dsn, timeout_s=5) for _ in range(4)]
    results = await asyncio.gather(*(backend.migrate(one, MIGRATIONS) for one in connections))
    for connection in connections:
        await connection.close()

    latest = MIGRATIONS.version
    assert sorted(results) == [(0, latest), (latest, latest), (latest, latest), (latest, latest)]


async def test_a_schema_of_a_newer_release_is_refused(postgres: PostgresServer) -> None:
    dsn = await migrated(postgres, "newer")
    connection = await backend.connect(dsn, timeout_s=5)
    await connection.execute("INSERT INTO heartcast_migration (domain, version) VALUES ('hearts', 99)")
    with pytest.raises(SettingsError, match="newer"):
        await backend.migrate(connection, MIGRATIONS)
    await connection.close()
    store = PostgresHeartStore(dsn, clock=SystemClock())
    with pytest.raises(SettingsError, match="newer"):
        await store.open()
    await store.close()


async def test_events_of_many_nodes_are_never_numbered_behind_what_was_read(
    open_postgres: Open, tmp_path: Path
) -> None:
    nodes = [await open_postgres(tmp_path) for _ in range(3)]
    reader = await open_postgres(tmp_path)
    left = len(nodes)
    seen: list[HeartEvent] = []

    async def write(node: PostgresHeartStore, at: int) -> None:
        nonlocal left
        for turn in range(80):
            await Awaiting(node).add([HeartKey(f"p{turn % 3}", f"u{at}-{turn}")], 1)
        left -= 1

    async def follow() -> None:
        while left or seen[-1].number < (await reader.events(0, 1)).last:
            seen.extend((await reader.events(seen[-1].number if seen else 0, 7)).events)

    await asyncio.gather(*(write(node, at) for at, node in enumerate(nodes)), follow())

    assert [event.number for event in seen] == list(range(1, 241))
    for target in ("p0", "p1", "p2"):
        versions = [event.change.version for event in seen if event.change.target_id == target]
        assert versions == sorted(versions)
    for store in [*nodes, reader]:
        await store.close()
