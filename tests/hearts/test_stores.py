from pathlib import Path

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
