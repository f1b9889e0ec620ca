import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from heartcast.core.clock import SystemClock
from heartcast.core.ids import IdSource
from heartcast.hearts.model import HeartKey
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.hearts.store.memory_events import MemoryEvents
from heartcast.hearts.store.sqlite import SqliteHeartStore
from heartcast.testing.contracts.heart_store import HeartStoreContract

Spoil = Callable[[Path, HeartKey], Awaitable[bool]]


class TestMemory(HeartStoreContract):
    async def open(self, folder: Path) -> HeartStore:
        return MemoryHeartStore(IdSource(SystemClock()), MemoryEvents(SystemClock()))


class TestSqlite(HeartStoreContract):
    async def open(self, folder: Path) -> HeartStore:
        return SqliteHeartStore(folder / "hearts.db", clock=SystemClock(), keeps_events=True)

    async def spoil(self, folder: Path, key: HeartKey) -> bool:
        with sqlite3.connect(folder / "hearts.db") as connection:
            connection.execute("UPDATE target SET count = count + 1 WHERE target_id = ?", (key.target_id,))
        connection.close()
        return True


class _OnServer(HeartStoreContract):
    _open: Callable[[Path], Awaitable[HeartStore]]
    _spoil: Spoil

    # After _server, which it needs.
    @pytest.fixture
    async def store(self, _server: None, tmp_path: Path) -> HeartStore:
        return await self.open(tmp_path)

    async def open(self, folder: Path) -> HeartStore:
        return await self._open(folder)

    async def spoil(self, folder: Path, key: HeartKey) -> bool:
        return await self._spoil(folder, key)


class TestPostgres(_OnServer):
    @pytest.fixture(autouse=True)
    def _server(self, open_postgres: Callable[[Path], Awaitable[HeartStore]], spoil_postgres: Spoil) -> None:
        self._open = open_postgres
        self._spoil = spoil_postgres


class TestRedis(_OnServer):
    @pytest.fixture(autouse=True)
    def _server(self, open_redis: Callable[[Path], Awaitable[HeartStore]], spoil_redis: Spoil) -> None:
        self._open = open_redis
        self._spoil = spoil_redis
