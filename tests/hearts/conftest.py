"""Real servers for the heart stores: one PostgreSQL for all tests, a database per folder."""

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from heartcast.backends import postgres as backend
from heartcast.core.clock import SystemClock
from heartcast.hearts.store.postgres import PostgresHeartStore
from heartcast.hearts.store.postgres_writer import MIGRATIONS
from heartcast.testing.postgres_server import PostgresServer

OpenPostgres = Callable[[Path], Awaitable[PostgresHeartStore]]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def open_postgres(postgres: PostgresServer) -> OpenPostgres:
    """Opens a store; the same folder gives the same database."""
    known: dict[Path, str] = {}

    async def open_store(folder: Path) -> PostgresHeartStore:
        if folder not in known:
            known[folder] = postgres.make_database(
                "t" + hashlib.sha256(str(folder).encode()).hexdigest()[:20]
            )
            connection = await backend.connect(known[folder], timeout_s=5)
            await backend.migrate(connection, MIGRATIONS)
            await connection.close()
        store = PostgresHeartStore(known[folder], clock=SystemClock())
        await store.open()
        return store

    return open_store
