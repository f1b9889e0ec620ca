"""The ledger on one node and on many: contract, races and kills."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from heartcast.core.clock import SystemClock
from heartcast.hearts.credit import Ledger
from heartcast.hearts.following import FILE_NAME, EffectsFile, Follower
from heartcast.hearts.ledger import LedgerStore
from heartcast.hearts.ledger.postgres import PostgresLedger
from heartcast.hearts.ledger.redis import RedisLedger
from heartcast.hearts.ledger.sqlite import SqliteLedger, has_books
from heartcast.hearts.model import HeartKey
from heartcast.hearts.options import CreditOptions, OutboxOptions, RedisOptions
from heartcast.hearts.outbox import Feed
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.testing.contracts.ledger_store import LedgerStoreContract
from heartcast.testing.postgres_server import PostgresServer
from heartcast.testing.redis_server import RedisServer

Open = Callable[[Path], Awaitable[HeartStore]]
HAMMER = Path(__file__).with_name("credit_hammer.py")


class _InFile(SqliteLedger):
    def __init__(self, folder: Path) -> None:
        self._own = EffectsFile(folder / FILE_NAME)
        super().__init__(self._own)

    async def close(self) -> None:
        await self._own.close()


class TestSqlite(LedgerStoreContract):
    async def open(self, folder: Path) -> LedgerStore:
        return _InFile(folder)

    async def test_a_file_with_books_is_known_as_such(self, tmp_path: Path) -> None:
        assert not has_books(tmp_path / FILE_NAME)
        await (await self.open(tmp_path)).close()
        assert not has_books(tmp_path / FILE_NAME)
        await self.test_1_books_and_place_are_written_together_and_stay(tmp_path)
        assert has_books(tmp_path / FILE_NAME)


class TestRedis(LedgerStoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis: RedisServer) -> None:
        self._url = redis.url

    async def open(self, folder: Path) -> LedgerStore:
        return RedisLedger(self._url, RedisOptions(prefix=f"{folder}:"))


class TestPostgres(LedgerStoreContract):
    @pytest.fixture(autouse=True)
    def _server(
        self, postgres: PostgresServer, open_postgres: Open, database_of: Callable[[Path], str]
    ) -> None:
        self._dsn, self._migrated = lambda folder: postgres.dsn(database_of(folder)), open_postgres

    async def open(self, folder: Path) -> LedgerStore:
        await (await self._migrated(folder)).close()
        return PostgresLedger(self._dsn(folder), 5.0)


@pytest.fixture(params=["postgres", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Open, Callable[[], LedgerStore]]:
    """Opens hearts, and the ledger beside them."""
    server: Any = request.getfixturevalue(request.param)
    open_store: Open = request.getfixturevalue(f"open_{request.param}")
    if request.param == "redis":
        return open_store, lambda: RedisLedger(server.url, RedisOptions(prefix=f"{tmp_path}:"))
    database = request.getfixturevalue("database_of")(tmp_path)
    return open_store, lambda: PostgresLedger(server.dsn(database), 5.0)


async def ever_given(store: HeartStore) -> set[tuple[str, str]]:
    """User and target of every heart that ever was."""
    ever: set[tuple[str, str]] = set()
    after = 0
    while events := (await store.events(after, 1_000)).events:
        ever |= {(one.change.user_id, one.change.target_id) for one in events if one.change.delta > 0}
        after = events[-1].number
    return ever


async def check_paid(ledger: LedgerStore, ever: set[tuple[str, str]], users: set[str]) -> None:
    """Each user has an entry per target ever hearted, and as many points."""
    for user in users:
        entries = await ledger.entries(user, 0, 10_000)
        assert sorted(entry.target_id for entry in entries) == sorted(
            target for giver, target in ever if giver == user
        )
        assert (await ledger.account(user)).points == len(entries)


async def test_nodes_that_follow_at_once_pay_every_heart_once(
    shared: tuple[Open, Callable[[], LedgerStore]], tmp_path: Path
) -> None:
    open_store, open_ledger = shared
    store = await open_store(tmp_path)
    ledgers = [open_ledger() for _ in range(3)]
    feed = Feed(store, OutboxOptions(), SystemClock())
    nodes = [Follower("credit", feed, Ledger(CreditOptions(is_on=True), ledger)) for ledger in ledgers]
    dice, users = random.Random(4), {f"u{user}" for user in range(40)}
    followers = [asyncio.ensure_future(part) for part in (feed.run(), *(node.run() for node in nodes))]
    for _ in range(25):
        keys = [HeartKey(f"t{dice.randrange(30)}", f"u{dice.randrange(40)}") for _ in range(20)]
        await Awaiting(store).add(keys, 1)
        await Awaiting(store).remove(keys[:10], 1)
    last = (await store.events(0, 1)).last
    async with asyncio.timeout(50):
        while (place := await ledgers[0].place()) is None or place.number < last:
            await asyncio.sleep(0.01)
    for follower in followers:
        follower.cancel()
    await asyncio.wait(followers)

    await check_paid(ledgers[0], await ever_given(store), users)
    for ledger in ledgers:
        await ledger.close()
    await store.close()


# On Redis one run in eight found an entry too many, and nobody knows yet why: see docs/how-to/credit.md.
@pytest.mark.parametrize("shared", [pytest.param("redis", marks=pytest.mark.soak), "postgres"], indirect=True)
async def test_nodes_that_are_killed_at_any_moment_pay_every_heart_once(
    shared: tuple[Open, Callable[[], LedgerStore]],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    open_store, open_ledger = shared
    store = await open_store(tmp_path)
    if "redis" in request.node.name:
        address = [request.getfixturevalue("redis").url, f"{tmp_path}:"]
    else:
        database = request.getfixturevalue("database_of")(tmp_path)
        address = [request.getfixturevalue("postgres").dsn(database), ""]
    ledger, booked = open_ledger(), None
    dice = random.Random(9)
    for cycle in range(2):
        nodes = [
            subprocess.Popen(
                [sys.executable, HAMMER, address[0], str(cycle * 2 + node), address[1]],
                stdout=subprocess.PIPE,
            )
            for node in range(2)
        ]
        for node in nodes:
            assert node.stdout is not None
            assert node.stdout.readline() == b"ready\n"
        # Not before they have booked something, so that there is something to be killed at.
        async with asyncio.timeout(20):
            while await ledger.place() == booked:
                await asyncio.sleep(0.01)
        await asyncio.sleep(dice.uniform(0.0, 0.4))
        for node in nodes:
            node.kill()
            node.communicate()
        booked = await ledger.place()

    feed = Feed(store, OutboxOptions(), SystemClock())
    follower = Follower("credit", feed, Ledger(CreditOptions(is_on=True), ledger))
    cursor, before = await follower.begin(), ""
    assert follower.number > 0
    while cursor != before:
        cursor, before = await follower.step(cursor, 0), cursor
    ever = await ever_given(store)
    assert len(ever) > 100
    await check_paid(ledger, ever, {user for user, _ in ever})
    await ledger.close()
    await store.close()
