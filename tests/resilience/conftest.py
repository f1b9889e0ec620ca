"""Real servers for whatever has Lua in it."""

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest

from heartcast.backends.redis import RedisLink
from heartcast.testing.redis_server import RedisServer

# Valkey comes from the test requirements, Debian's redis-server from wherever it is installed.
_NO_REDIS = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


@pytest.fixture(scope="session", params=["valkey", pytest.param("redis", marks=_NO_REDIS)])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(shutil.which("redis-server") if request.param == "redis" else None) as running:
        yield running


@pytest.fixture
async def link(server: RedisServer) -> AsyncIterator[RedisLink]:
    link = RedisLink(server.url, timeout_s=10.0)
    await link.run("FLUSHALL")
    yield link
    await link.close()
