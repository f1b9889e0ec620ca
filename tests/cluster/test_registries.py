import pytest

from heartcast.cluster.registry import Registry
from heartcast.cluster.registry.memory import MemoryRegistry
from heartcast.cluster.registry.redis import RedisRegistry
from heartcast.testing import ManualClock
from heartcast.testing.contracts.registry import SHARDS, RegistryContract
from heartcast.testing.redis_server import RedisServer


class TestMemory(RegistryContract):
    @pytest.fixture(autouse=True)
    def _shared(self, clock: ManualClock) -> None:
        self.clock = clock
        self.registry = MemoryRegistry(clock, SHARDS)

    async def open(self) -> Registry:
        return self.registry

    async def turn(self) -> float:
        self.clock.advance(0.01)
        return self.clock.monotonic_s()


class _OnServer(RegistryContract):
    url: str
    prefix: str

    async def open(self) -> Registry:
        registry = RedisRegistry(self.url, SHARDS, prefix=self.prefix)
        await registry.open()
        return registry


class TestValkey(_OnServer):
    @pytest.fixture(autouse=True)
    def _server(self, valkey: RedisServer, prefix: str) -> None:
        self.url, self.prefix = valkey.url, prefix


class TestRedis7(_OnServer):
    @pytest.fixture(autouse=True)
    def _server(self, redis_7: RedisServer, prefix: str) -> None:
        self.url, self.prefix = redis_7.url, prefix
