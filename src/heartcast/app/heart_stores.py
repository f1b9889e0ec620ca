"""Opening the heart store that the settings, or a command's ``--from`` and ``--to``, name.

    memory:
    sqlite:heartcast-data                     the data folder
    redis://user:password@host:6379/0         also rediss:// and unix://
    postgresql://user:password@host/database

The drivers of servers are extras, imported only when one is asked for.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from heartcast.app.settings import Settings
from heartcast.core.clock import Clock
from heartcast.core.errors import HeartcastError, SettingsError
from heartcast.core.ids import IdSource
from heartcast.hearts.copying import Source, StoreSource
from heartcast.hearts.options import HeartOptions
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.hearts.store.memory_events import MemoryEvents
from heartcast.hearts.store.sqlite import FILE_NAME, SqliteHeartStore
from heartcast.hearts.store.sqlite_beside import SqliteBeside


def url_of(settings: Settings) -> str:
    """The URL of the store that the settings choose."""
    chosen = settings.hearts.store
    if chosen == "auto":
        chosen = "memory" if settings.in_memory else "sqlite"
    if chosen == "redis":
        return settings.hearts.redis_url
    if chosen == "postgres":
        return settings.hearts.postgres_dsn
    return "memory:" if chosen == "memory" else f"sqlite:{settings.data_dir}"


async def open_store(url: str, options: HeartOptions, clock: Clock) -> HeartStore:
    """Open a store; the caller closes it.

    Raises:
        SettingsError: there is no such store, its driver is missing, or it cannot be used as it is.
        StoreUnavailable: its server cannot be reached now.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "memory":
        events = MemoryEvents(clock) if options.outbox.is_on else None
        return MemoryHeartStore(IdSource(clock), events)
    if scheme == "sqlite":
        return SqliteHeartStore(
            Path(rest) / FILE_NAME,
            clock=clock,
            options=options.sqlite,
            keeps_events=options.outbox.is_on,
        )
    if scheme in ("postgresql", "postgres"):
        return await _postgres(url, options, clock)
    if scheme in ("redis", "rediss", "unix"):
        return await _redis(url, options, clock)
    raise SettingsError("a heart store is memory:, sqlite:FOLDER, redis://… or postgresql://…")


class OpenedSource(Source, Protocol):
    """A source that its opener closes."""

    async def close(self) -> None: ...


class _StoreSource(StoreSource):
    def __init__(self, store: HeartStore) -> None:
        super().__init__(store)
        self.close = store.close


async def open_source(url: str, options: HeartOptions, clock: Clock) -> OpenedSource:
    """Open a store for reading alone, beside the server that may have it.

    Raises:
        SettingsError, StoreUnavailable: as ``open_store``.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite":
        return SqliteBeside(Path(rest) / FILE_NAME)
    return _StoreSource(await open_store(url, options, clock))


def place(url: str) -> str:
    """Where a store is, for people: nothing of it is a secret."""
    scheme, _, rest = url.partition(":")
    if scheme in ("memory", "sqlite"):
        return f"{scheme} {rest}".strip()
    split = urlsplit(url)
    if scheme in ("redis", "rediss"):
        return f"Redis at {split.hostname or 'localhost'}{split.path}"
    if scheme == "unix":
        return f"Redis at {split.path}"
    return f"PostgreSQL at {split.hostname or 'the local socket'}{split.path}"


class _OnServer(HeartStore, Protocol):
    async def open(self) -> None: ...


def require_driver(module: str, extra: str) -> None:
    """Raise ``SettingsError`` when a driver that is an extra is not installed."""
    if importlib.util.find_spec(module) is None:
        raise SettingsError(f"this needs a driver: pip install 'heartcast[{extra}]'")


async def _postgres(url: str, options: HeartOptions, clock: Clock) -> HeartStore:
    require_driver("asyncpg", "postgres")
    from heartcast.hearts.store.postgres import PostgresHeartStore

    return await _opened(
        PostgresHeartStore(url, clock=clock, options=options.postgres, keeps_events=options.outbox.is_on)
    )


async def _redis(url: str, options: HeartOptions, clock: Clock) -> HeartStore:
    require_driver("redis", "redis")
    require_driver("hiredis", "redis")
    from heartcast.hearts.store.redis import RedisHeartStore

    return await _opened(
        RedisHeartStore(url, clock=clock, options=options.redis, keeps_events=options.outbox.is_on)
    )


async def _opened(store: _OnServer) -> HeartStore:
    try:
        await store.open()
    except HeartcastError:
        await store.close()
        raise
    return store


def is_server(url: str) -> bool:
    """Whether this store is a server of its own."""
    return not url.startswith(("memory:", "sqlite:"))


def is_migrated(url: str) -> bool:
    """Whether this store's tables are made by ``migrate``; other stores make their own."""
    return url.startswith(("postgresql:", "postgres:"))


async def migrate(url: str, options: HeartOptions) -> tuple[int, int]:
    """Bring the tables of a database to this release.

    Returns:
        The version before and after.

    Raises:
        SettingsError: the database refuses us, or was made by a newer release.
        StoreUnavailable: its server cannot be reached now.
    """
    require_driver("asyncpg", "postgres")
    from heartcast.backends import postgres
    from heartcast.hearts.store.postgres_writer import MIGRATIONS

    connection = await postgres.connect(url, timeout_s=options.postgres.timeout_s)
    try:
        return await postgres.migrate(connection, MIGRATIONS)
    except postgres.FAILURES as error:
        raise postgres.unavailable(error, url) from None
    finally:
        connection.terminate()
