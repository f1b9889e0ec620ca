"""Real Valkey and Redis, one of each for all tests of a process: a prefix per test."""

import shutil
from collections.abc import Iterator
from itertools import count

import pytest

from heartcast.testing.redis_server import RedisServer

_numbers = count()


@pytest.fixture(scope="session")
def valkey() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_7() -> Iterator[RedisServer]:
    if (binary := shutil.which("redis-server")) is None:
        pytest.skip("no redis-server here: the registry was checked on Valkey only")
    with RedisServer(binary) as server:
        yield server


@pytest.fixture
def prefix() -> str:
    return f"t{next(_numbers)}"
