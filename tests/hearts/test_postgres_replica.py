"""Reads from a streaming replica: never older than what this node answered, and without it when it fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from heartcast.backends import postgres as backend
from heartcast.core.clock import SystemClock
from heartcast.hearts.model import HeartKey
from heartcast.hearts.options import PostgresOptions
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.postgres import PostgresHeartStore
from heartcast.hearts.store.postgres_replica import Recent
from heartcast.hearts.store.postgres_writer import MIGRATIONS
from heartcast.testing.contracts.heart_store import HeartStoreContract
from heartcast.testing.postgres_server import PostgresReplica, PostgresServer

KEY = HeartKey("post", "u1")


@pytest.fixture(scope="module")
def primary() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def replica(primary: PostgresServer) -> Iterator[PostgresReplica]:
    with primary.make_replica() as server:
        yield server


async def eventually(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.005)


async def open_node(
    primary: PostgresServer, replica: PostgresServer, name: str, lag_s: float = 60.0
) -> PostgresHeartStore:
    """A node that has found the replica to be fit."""
    options = PostgresOptions(replica_dsn=replica.dsn(name), replica_lag_s=lag_s)
    store = PostgresHeartStore(primary.dsn(name), clock=SystemClock(), options=options, keeps_events=True)
    await store.open()
    assert store.replica is not None
    found = store.replica
    await eventually(lambda: found.is_fit)
    return store


async def make(primary: PostgresServer, name: str) -> None:
    primary.make_database(name)
    connection = await backend.connect(primary.dsn(name), timeout_s=5)
    await backend.migrate(connection, MIGRATIONS)
    await connection.close()


async def replay(replica: PostgresServer, do: str) -> None:
    """``pause`` or ``resume`` what the replica does with what it receives."""
    connection = await backend.connect(replica.dsn(), timeout_s=5)
    await connection.execute(f"SELECT pg_wal_replay_{do}()")
    await connection.close()


class TestWithReplica(HeartStoreContract):
    """What a node answered it never tells an older state of: so all guarantees hold as without."""

    @pytest.fixture(autouse=True)
    def _servers(self, primary: PostgresServer, replica: PostgresReplica) -> None:
        self._primary, self._replica = primary, replica
        self._known: set[str] = set()

    # After _servers, which it needs.
    @pytest.fixture
    async def store(self, _servers: None, tmp_path: Path) -> HeartStore:
        return await self.open(tmp_path)

    async def open(self, folder: Path) -> HeartStore:
        name = f"c{abs(hash(folder))}"
        if name not in self._known:
            self._known.add(name)
            await make(self._primary, name)
        return await open_node(self._primary, self._replica, name)

    async def spoil(self, folder: Path, key: HeartKey) -> bool:
        connection = await backend.connect(self._primary.dsn(f"c{abs(hash(folder))}"), timeout_s=5)
        await connection.execute(
            "UPDATE heartcast_target SET count = count + 1 WHERE target_id = $1", key.target_id
        )
        await connection.close()
        return True


@pytest.fixture
async def nodes(
    primary: PostgresServer, replica: PostgresReplica, request: pytest.FixtureRequest
) -> AsyncIterator[list[PostgresHeartStore]]:
    """Two nodes with the replica."""
    name = f"n{abs(hash(request.node.name))}"
    await make(primary, name)
    opened = [await open_node(primary, replica, name) for _ in range(2)]
    yield opened
    for node in opened:
        await node.close()


async def seen(store: HeartStore) -> tuple[int, bool, int, int]:
    """Count, whether u1 hearts it, and how long both lists are."""
    [count] = await Awaiting(store).counts(["post"], "heart")
    [hearted] = await Awaiting(store).hearted("u1", ["post"], "heart")
    of_target = await store.page(target_id="post", user_id=None, kind="heart", after="", limit=9)
    of_user = await store.page(target_id=None, user_id="u1", kind="heart", after="", limit=9)
    return count.count, hearted, len(of_target), len(of_user)


async def test_own_writes_are_seen_while_the_replica_is_behind_and_those_of_others_later(
    nodes: list[PostgresHeartStore], replica: PostgresReplica
) -> None:
    writer, reader = nodes
    assert writer.replica is not None
    assert reader.replica is not None
    await replay(replica, "pause")
    try:
        await Awaiting(writer).add([KEY], 1)
        reads = writer.replica.reads
        assert await seen(writer) == (1, True, 1, 1)
        assert writer.replica.reads == reads
        assert await seen(reader) == (0, False, 0, 0)
        assert reader.replica.reads >= 4
    finally:
        await replay(replica, "resume")
    found = writer.replica
    await eventually(lambda: found.may_tell("u1", ["post"], "heart"))
    assert await seen(writer) == (1, True, 1, 1)
    assert writer.replica.reads == reads + 4
    deadline_s = time.monotonic() + 10
    while await seen(reader) != (1, True, 1, 1):
        assert time.monotonic() < deadline_s


async def test_a_replica_that_is_too_late_is_not_read_until_it_has_caught_up(
    primary: PostgresServer, replica: PostgresReplica
) -> None:
    await make(primary, "late")
    node, other = [await open_node(primary, replica, "late", lag_s=0.1) for _ in range(2)]
    await replay(replica, "pause")
    try:
        await Awaiting(other).add([KEY], 1)
        found = node.replica
        assert found is not None
        await eventually(lambda: not found.is_fit)
        assert (await seen(node))[0] == 1
    finally:
        await replay(replica, "resume")
    await eventually(lambda: found.is_fit)
    reads = found.reads
    assert await seen(node) == (1, True, 1, 1)
    assert found.reads > reads
    for one in (node, other):
        await one.close()


async def test_without_the_replica_the_primary_answers_and_it_is_read_again_when_it_is_back(
    primary: PostgresServer, replica: PostgresReplica, nodes: list[PostgresHeartStore]
) -> None:
    node = nodes[0]
    found = node.replica
    assert found is not None
    await Awaiting(nodes[1]).add([KEY], 1)
    replica.kill()
    try:
        assert await seen(node) == (1, True, 1, 1)
        await eventually(lambda: not found.is_fit)
    finally:
        replica.start()
    await eventually(lambda: found.is_fit)
    reads = found.reads
    assert await seen(node) == (1, True, 1, 1)
    assert found.reads > reads


async def test_a_server_that_is_no_replica_of_the_primary_is_never_read(primary: PostgresServer) -> None:
    await make(primary, "alone")
    options = PostgresOptions(replica_dsn=primary.dsn("alone"))
    store = PostgresHeartStore(primary.dsn("alone"), clock=SystemClock(), options=options)
    await store.open()
    assert store.replica is not None
    for _ in range(20):
        await Awaiting(store).add([KEY], 1)
        assert (await Awaiting(store).counts(["post"], "heart"))[0].count == 1
    assert (store.replica.is_fit, store.replica.reads) == (False, 0)
    await store.close()


def test_what_is_recent_is_forgotten_group_by_group() -> None:
    recent = Recent(most=3)
    recent.note([HeartKey("a", "u1"), HeartKey("b", "u2")])
    recent.note([HeartKey("a", "u3")])
    recent.forget(1)
    assert [recent.has_user(user) for user in ("u1", "u2", "u3")] == [False, False, True]
    assert recent.has_target(["x", "a"], "heart")
    assert not recent.has_target(["b"], "heart")
    assert not recent.has_target(["a"], "star")
    recent.forget(2)
    assert recent.is_empty


def test_with_too_much_to_remember_everything_is_recent_until_the_replica_is_there() -> None:
    recent = Recent(most=3)
    recent.note([HeartKey("a", f"u{user}") for user in range(4)])
    assert recent.has_user("somebody else")
    assert recent.has_target(["another"], "heart")
    recent.note([HeartKey("a", "u9")])
    recent.forget(1)
    assert [recent.has_user("u1"), recent.has_user("u9")] == [False, True]
    recent.forget(2)
    assert recent.is_empty


async def test_while_the_primary_is_down_the_replica_is_still_read() -> None:
    with PostgresServer() as primary, primary.make_replica() as replica:
        await make(primary, "down")
        node = await open_node(primary, replica, "down")
        found = node.replica
        assert found is not None
        await Awaiting(node).add([KEY], 1)
        await eventually(lambda: found.may_tell("u1", ["post"], "heart"))
        primary.kill()
        assert await seen(node) == (1, True, 1, 1)
        assert found.is_fit
        await node.close()
