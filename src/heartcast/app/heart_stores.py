"""Opening the heart store that the settings, or a command's ``--from`` and ``--to``, name.

    memory:
    sqlite:heartcast-data                     the data folder
    postgresql://user:password@host/database

The drivers of servers are extras, imported only when one is asked for.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from urllib.parse import urlsplit

from heartcast.app.settings import Settings
from heartcast.core.clock import Clock
from heartcast.core.errors import HeartcastError, SettingsError
from heartcast.core.ids import IdSource
from heartcast.hearts.options import HeartOptions
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.hearts.store.sqlite import FILE_NAME, SqliteHeartStore


def url_of(settings: Settings) -> str:
    """The URL of the store that the settings choose."""
    chosen = settings.hearts.store
    if chosen == "auto":
        chosen = "memory" if settings.in_memory else "sqlite"
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
        return MemoryHeartStore(IdSource(clock))
    if scheme == "sqlite":
        return SqliteHeartStore(Path(rest) / FILE_NAME, clock=clock, options=options.sqlite)
    if scheme in ("postgresql", "postgres"):
        return await _postgres(url, options, clock)
    raise SettingsError("a heart store is memory:, sqlite:FOLDER or postgresql://…")


def place(url: str) -> str:
    """Where a store is, for people: nothing of it is a secret."""
    scheme, _, rest = url.partition(":")
    if scheme in ("memory", "sqlite"):
        return f"{scheme} {rest}".strip()
    split = urlsplit(url)
    return f"PostgreSQL at {split.hostname or 'the local socket'}{split.path}"


def _driver() -> None:
    if importlib.util.find_spec("asyncpg") is None:
        raise SettingsError("PostgreSQL needs its driver: pip install 'heartcast[postgres]'")


async def _postgres(url: str, options: HeartOptions, clock: Clock) -> HeartStore:
    _driver()
    from heartcast.hearts.store.postgres import PostgresHeartStore

    store = PostgresHeartStore(url, clock=clock, options=options.postgres)
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
    _driver()
    from heartcast.backends import postgres
    from heartcast.hearts.store.postgres_writer import MIGRATIONS

    connection = await postgres.connect(url, timeout_s=options.postgres.timeout_s)
    try:
        return await postgres.migrate(connection, MIGRATIONS)
    except postgres.FAILURES as error:
        raise postgres.unavailable(error, url) from None
    finally:
        connection.terminate()
