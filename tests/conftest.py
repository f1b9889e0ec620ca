"""What every test shares: a clock moved by hand, and real servers on free ports."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from heartcast.backends import postgres as backend
from heartcast.core.clock import SystemClock
from heartcast.core.ids import IdSource
from heartcast.hearts.options import RedisOptions
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.hearts.store.memory_events import MemoryEvents
from heartcast.hearts.store.postgres import PostgresHeartStore
from heartcast.hearts.store.postgres_writer import MIGRATIONS
from heartcast.hearts.store.redis import RedisHeartStore
from heartcast.hearts.store.sqlite import SqliteHeartStore
from heartcast.testing import ManualClock
from heartcast.testing.postgres_server import PostgresServer
from heartcast.testing.redis_server import RedisServer
from heartcast.testing.server import RunningServer, running

DURABLE = {"appendonly": "yes", "appendfsync": "always"}
OpenPostgres = Callable[[Path], Awaitable[PostgresHeartStore]]
ROOT = Path(__file__).parent.parent

# How long an example takes says something about the machine and its other work, not about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure() -> None:
    # pytest-asyncio asks for "the current loop" to put it back later. Without this
    # line asking makes one that nobody closes, and unclosed loops are errors here.
    asyncio.set_event_loop(None)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def serve() -> Iterator[Callable[..., RunningServer]]:
    """Starts ``heartcast serve`` with these flags on a free port; stopped after the test."""
    with ExitStack() as stack:
        yield lambda *flags, **options: stack.enter_context(running(*flags, **options))


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """One server in memory for all tests of a module: they must not trip over each other's data."""
    with running("--in-memory") as server:
        yield server


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The shared data sets, which are not part of the project; see CONTRIBUTING."""
    folder = Path(os.environ.get("HEARTCAST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}: checks against published data were not run")
    return folder


# -- hearts on real servers, one of each for all tests: a database or prefix per folder ------


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def open_postgres(postgres: PostgresServer) -> OpenPostgres:
    """Opens a store; the same folder gives the same database."""
    known: set[Path] = set()

    async def open_store(folder: Path) -> PostgresHeartStore:
        if folder not in known:
            known.add(folder)
            postgres.make_database(_database_of(folder))
            connection = await backend.connect(postgres.dsn(_database_of(folder)), timeout_s=5)
            await backend.migrate(connection, MIGRATIONS)
            await connection.close()
        store = PostgresHeartStore(postgres.dsn(_database_of(folder)), clock=SystemClock(), keeps_events=True)
        await store.open()
        return store

    return open_store


@pytest.fixture(scope="session")
def database_of() -> Callable[[Path], str]:
    """The name of the database that ``open_postgres`` makes for a folder."""
    return _database_of


def _database_of(folder: Path) -> str:
    return "t" + hashlib.sha256(str(folder).encode()).hexdigest()[:20]


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    with RedisServer(settings=DURABLE) as server:
        yield server


@pytest.fixture(scope="session")
def open_redis(redis: RedisServer) -> Callable[[Path], Awaitable[RedisHeartStore]]:
    """Opens a store; the same folder gives the same prefix."""

    async def open_store(folder: Path) -> RedisHeartStore:
        store = RedisHeartStore(
            redis.url, clock=SystemClock(), options=RedisOptions(prefix=f"{folder}:"), keeps_events=True
        )
        await store.open()
        return store

    return open_store


@pytest.fixture(params=["memory", "sqlite", "postgres", "redis"])
async def every_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HeartStore]:
    """A heart store of each kind, empty; closed after the test."""
    store: HeartStore
    match request.param:
        case "memory":
            store = MemoryHeartStore(IdSource(SystemClock()), MemoryEvents(SystemClock()))
        case "sqlite":
            store = SqliteHeartStore(tmp_path / "hearts.db", clock=SystemClock(), keeps_events=True)
        case name:
            store = await request.getfixturevalue(f"open_{name}")(tmp_path)
    yield store
    await store.close()
