"""What real servers say about themselves, and what old ones would."""

import shutil

import pytest

from heartcast.backends.redis_fitness import fitness
from heartcast.backends.redis_pipe import RedisPipe
from heartcast.testing.redis_server import RedisServer

DURABLE = {"appendonly": "yes"}


async def looked_at(settings: dict[str, str], binary: str | None = None) -> tuple[str, list[str], list[str]]:
    with RedisServer(binary, settings) as server:
        pipe = RedisPipe(server.url, timeout_s=2)
        found = await fitness(pipe)
        await pipe.close()
    return found.server.split()[0], found.unusable, found.volatile


async def test_a_server_with_an_append_only_file_is_fit() -> None:
    assert await looked_at(DURABLE) == ("Valkey", [], [])


async def test_redis_7_is_fit_too() -> None:
    if (binary := shutil.which("redis-server")) is None:
        pytest.skip("no redis-server here: only Valkey was looked at")
    assert await looked_at(DURABLE, binary) == ("Redis", [], [])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "no append-only file"),
        ({**DURABLE, "appendfsync": "no"}, "never syncs"),
        ({**DURABLE, "maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}, "may evict"),
    ],
)
async def test_a_server_that_may_forget_says_how(settings: dict[str, str], words: str) -> None:
    _, unusable, volatile = await looked_at(settings)
    assert unusable == []
    assert len(volatile) == 1
    assert words in volatile[0]


class Says:
    """A pipe to a server of another version."""

    def __init__(self, info: str) -> None:
        self.info = info

    async def ask(self, *command: str) -> str | list[str]:
        return self.info if command == ("INFO",) else ["appendfsync", "everysec"]


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ("redis_version:6.2.14\r\naof_enabled:1", "Redis 6.2.14; Redis 7 or later is needed"),
        ("server_name:valkey\nvalkey_version:7.2.8\nredis_version:7.2.4\naof_enabled:1", "Valkey 8 or later"),
        ("redis_version:7.4.0\ncluster_enabled:1\naof_enabled:1", "is a Redis Cluster"),
        ("redis_version:7.4.0\nrole:slave\naof_enabled:1", "name the primary"),
        ("nothing of the kind", "does not say which version"),
    ],
)
async def test_a_server_that_cannot_be_used_says_why(info: str, words: str) -> None:
    found = await fitness(Says(info))  # type: ignore[arg-type]
    assert len(found.unusable) == 1
    assert words in found.unusable[0]
