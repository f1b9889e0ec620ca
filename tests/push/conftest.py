"""A real Valkey for the tests of pushes, one for all of them: every test has a shard of its own."""

from collections.abc import Iterator

import pytest

from heartcast.testing.redis_server import RedisServer


@pytest.fixture(scope="session")
def valkey() -> Iterator[RedisServer]:
    with RedisServer(settings={"appendonly": "yes", "appendfsync": "everysec"}) as server:
        yield server
