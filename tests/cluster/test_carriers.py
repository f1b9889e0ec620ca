import asyncio

import pytest

from heartcast.cluster.carrier import Carrier
from heartcast.cluster.carrier.memory import MemoryCarrier, MemoryStreet
from heartcast.cluster.carrier.redis import RedisCarrier
from heartcast.testing.contracts.carrier import CarrierContract
from heartcast.testing.redis_server import RedisServer


class TestMemory(CarrierContract):
    street: MemoryStreet | None = None

    async def open(self) -> Carrier:
        if self.street is None:
            self.street = MemoryStreet(asyncio.get_running_loop().call_soon)
        return MemoryCarrier(self.street)


class TestValkey(CarrierContract):
    @pytest.fixture(autouse=True)
    def _server(self, valkey: RedisServer, prefix: str) -> None:
        self.url, self.prefix = valkey.url, prefix

    async def open(self) -> Carrier:
        return RedisCarrier(self.url, prefix=self.prefix)
