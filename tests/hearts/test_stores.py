from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from heartcast.core.clock import SystemClock
from heartcast.core.ids import IdSource
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.hearts.store.sqlite import SqliteHeartStore
from heartcast.testing.contracts.heart_store import HeartStoreContract


class TestMemory(HeartStoreContract):
    async def open(self, folder: Path) -> HeartStore:
        return MemoryHeartStore(IdSource(SystemClock()))


class TestSqlite(HeartStoreContract):
    async def open(self, folder: Path) -> HeartStore:
        return SqliteHeartStore(folder / "hearts.db", clock=SystemClock())


class _OnServer(HeartStoreContract):
    _open: Callable[[Path], Awaitable[HeartStore]]

    # After _server, which it needs.
    @pytest.fixture
    async def store(self, _server: None, tmp_path: Path) -> HeartStore:
        return await self.open(tmp_path)

    async def open(self, folder: Path) -> HeartStore:
        return await self._open(folder)


class TestPostgres(_OnServer):
    @pytest.fixture(autouse=True)
    def _server(self, open_postgres: Callable[[Path], Awaitable[HeartStore]]) -> None:
        self._open = open_postgres


class TestRedis(_OnServer):
    @pytest.fixture(autouse=True)
    def _server(self, open_redis: Callable[[Path], Awaitable[HeartStore]]) -> None:
        self._open = open_redis
