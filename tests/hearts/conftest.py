"""Real servers for the heart stores, one of each for all tests: a database or prefix per folder."""

import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from heartcast.backends import postgres as backend
from heartcast.backends.redis import RedisLink
from heartcast.hearts.model import HeartKey
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.postgres import PostgresHeartStore
from heartcast.hearts.store.redis_rows import Names
from heartcast.testing.postgres_server import PostgresServer
from heartcast.testing.redis_server import RedisServer

HAMMER = Path(__file__).with_name("hammer.py")
DURABLE = {"appendonly": "yes", "appendfsync": "always"}
OpenPostgres = Callable[[Path], Awaitable[PostgresHeartStore]]


@pytest.fixture(scope="session")
def spoil_postgres(
    postgres: PostgresServer, database_of: Callable[[Path], str]
) -> Callable[[Path, HeartKey], Awaitable[bool]]:
    """Makes a target's count differ from its rows by one."""

    async def spoil(folder: Path, key: HeartKey) -> bool:
        connection = await backend.connect(postgres.dsn(database_of(folder)), timeout_s=5)
        await connection.execute(
            "UPDATE heartcast_target SET count = count + 1 WHERE target_id = $1", key.target_id
        )
        await connection.close()
        return True

    return spoil


@pytest.fixture(scope="session")
def spoil_redis(redis: RedisServer) -> Callable[[Path, HeartKey], Awaitable[bool]]:
    """Makes a target's list miss one heart."""

    async def spoil(folder: Path, key: HeartKey) -> bool:
        link = RedisLink(redis.url, timeout_s=5)
        listed = Names(f"{folder}:").of_target(key.target_id, key.kind)
        removed = await link.run("ZREMRANGEBYRANK", listed, 1, 1)
        await link.close()
        return bool(removed == 1)

    return spoil


async def check_events(store: HeartStore, rows: set[tuple[str, str]]) -> None:
    """The events are exactly how these memberships came about: each change once, in order."""
    there: set[tuple[str, str]] = set()
    versions: dict[str, int] = {}
    number = 0
    while events := (await store.events(number, 1_000)).events:
        for event in events:
            change = event.change
            key = (change.target_id, change.user_id)
            number += 1
            assert event.number == number
            assert change.version == versions.get(change.target_id, 0) + 1
            assert (key in there) == (change.delta < 0)
            versions[change.target_id] = change.version
            there ^= {key}
    assert number > 0
    assert there == rows


CheckEvents = Callable[[HeartStore, set[tuple[str, str]]], Awaitable[None]]


@pytest.fixture(name="check_events")
def check_events_() -> CheckEvents:
    return check_events


class Hammer:
    """A child that hearts without end, and what it was told."""

    def __init__(self, database: str, seed: int) -> None:
        self.process = subprocess.Popen([sys.executable, HAMMER, database, str(seed)], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.lines: list[bytes] = []
        """What it said: before each call, and after each answer."""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines += self.process.stdout

    @property
    def answers(self) -> int:
        return sum(line.startswith((b"+ ", b"- ")) for line in self.lines)

    def kill(self, answered: dict[tuple[str, str], bool]) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        for line in self.lines:
            # The very last may have been cut; its log goes to the same place.
            if line.endswith(b"\n") and line.startswith((b"? ", b"+ ", b"- ")):
                sign, target, user = line.decode().split()
                if sign == "?":
                    answered.pop((target, user), None)
                else:
                    answered[target, user] = sign == "+"


@pytest.fixture
def start_hammer() -> Iterator[Callable[[str, int], Hammer]]:
    """Starts a child on a database; ended after the test."""
    hammers: list[Hammer] = []

    def start(database: str, seed: int) -> Hammer:
        hammers.append(Hammer(database, seed))
        return hammers[-1]

    yield start
    for hammer in hammers:
        hammer.kill({})
