"""Choosing where hearts are kept: settings, flags, the migrate command, a server that fails."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from heartcast.app import heart_stores
from heartcast.app.settings import load
from heartcast.core.errors import SettingsError
from heartcast.observability.logs import hide_secrets
from heartcast.testing.postgres_server import PostgresServer
from heartcast.testing.redis_server import RedisServer
from heartcast.testing.server import RunningServer, running

DSN = "postgresql://u:S3cret@db.example:5432/hearts"


@pytest.mark.parametrize(
    ("flags", "url"),
    [
        ({}, "sqlite:heartcast-data"),
        ({"data_dir": "/data"}, "sqlite:/data"),
        ({"in_memory": True}, "memory:"),
        ({"hearts.store": "memory"}, "memory:"),
        ({"in_memory": True, "hearts.store": "sqlite"}, "sqlite:heartcast-data"),
        ({"in_memory": True, "hearts.store": "postgres", "hearts.postgres_dsn": DSN}, DSN),
        ({"hearts.store": "redis", "hearts.redis_url": "redis://h"}, "redis://h"),
    ],
)
def test_the_settings_choose_the_store(flags: dict[str, object], url: str) -> None:
    assert heart_stores.url_of(load(flags=flags)) == url


@pytest.mark.parametrize(("store", "setting"), [("postgres", "postgres_dsn"), ("redis", "redis_url")])
def test_a_store_without_its_address_is_refused(store: str, setting: str) -> None:
    with pytest.raises(SettingsError, match=f"hearts.{setting}"):
        load(flags={"hearts.store": store})


def test_where_a_store_is_can_be_said_aloud() -> None:
    assert heart_stores.place(DSN) == "PostgreSQL at db.example/hearts"
    assert heart_stores.place("sqlite:/data") == "sqlite /data"
    assert heart_stores.place("memory:") == "memory"
    assert heart_stores.place("redis://u:S3cret@cache:6379/2") == "Redis at cache/2"
    assert heart_stores.place("unix:///run/redis.sock") == "Redis at /run/redis.sock"


def test_a_password_in_a_url_is_not_logged() -> None:
    event = hide_secrets(None, "error", {"event": f"cannot reach {DSN} now", "list": [DSN]})

    assert "S3cret" not in str(event)
    assert "db.example:5432/hearts" in event["event"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def _heartcast(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "heartcast", *arguments], capture_output=True, text=True)


def _heart(server: RunningServer, user: str = "u1") -> httpx2.Response:
    return httpx2.post(f"{server.url}/api/v1/hearts", json={"target_id": "a", "user_id": user})


def _count(server: RunningServer) -> int:
    [count] = httpx2.get(f"{server.url}/api/v1/hearts/counts?target_id=a").json()["counts"]
    return int(count["count"])


def test_hearts_in_postgres_are_migrated_kept_and_shared(postgres: PostgresServer, tmp_path: Path) -> None:
    flags = ("--postgres", postgres.make_database("kept"), "--data-dir", str(tmp_path))

    unmigrated = _heartcast("serve", "--port", "0", *flags)
    doctor = _heartcast("doctor", *flags)
    first, again = _heartcast("migrate", *flags), _heartcast("migrate", *flags)
    assert (unmigrated.returncode, doctor.returncode) == (1, 1)
    assert "run `heartcast migrate`" in unmigrated.stderr
    assert "heartcast migrate" in doctor.stdout.replace("\n", " ")
    assert "made from version 0" in first.stdout
    assert "is there already" in again.stdout

    with running(*flags) as server, running("--in-memory", *flags[:2]) as neighbour:
        assert [_heart(server).status_code, _heart(neighbour).status_code] == [201, 200]
        assert _heart(neighbour, "u2").json()["count"] == 2
        assert _count(server) == 2
        server.kill()
    with running(*flags) as server:
        assert _count(server) == 2
        assert server.stop() == 0
        assert "only%20for%20tests" not in server.log.read_text()


def test_migrating_what_needs_none_says_so() -> None:
    assert "nothing to do" in _heartcast("migrate", "--in-memory").stdout


def test_while_postgres_is_down_hearts_are_told_to_come_back_and_it_recovers(tmp_path: Path) -> None:
    with PostgresServer() as postgres:
        flags = ("--postgres", postgres.make_database("down"), "--in-memory")
        _heartcast("migrate", *flags)
        with running(*flags) as server:
            assert _heart(server).status_code == 201
            postgres.kill()
            down = _heart(server)
            assert (down.status_code, down.json()["code"]) == (503, "store_unavailable")
            assert down.headers["retry-after"] == "1"
            postgres.start()
            deadline_s = time.monotonic() + 10
            while (status := _heart(server, "u2").status_code) == 503 and time.monotonic() < deadline_s:
                time.sleep(0.1)
            assert status == 201
            assert _count(server) == 2


def test_hearts_in_redis_are_kept_and_shared(tmp_path: Path) -> None:
    with RedisServer(settings={"appendonly": "yes", "appendfsync": "always"}) as redis:
        flags = ("--redis", redis.url)
        assert _heartcast("doctor", *flags, "--data-dir", str(tmp_path)).returncode == 0
        with (
            running(*flags, "--data-dir", str(tmp_path)) as server,
            running(*flags, "--in-memory") as neighbour,
        ):
            assert [_heart(server).status_code, _heart(neighbour).status_code] == [201, 200]
            assert _heart(neighbour, "u2").json()["count"] == 2
            server.kill()
            redis.kill()
            down = _heart(neighbour)
            assert (down.status_code, down.json()["code"]) == (503, "store_unavailable")
            redis.start()
            deadline_s = time.monotonic() + 10
            while _heart(neighbour).status_code == 503 and time.monotonic() < deadline_s:
                time.sleep(0.1)
            assert _count(neighbour) == 2


def test_a_redis_that_forgets_is_refused_at_start() -> None:
    with RedisServer() as redis:
        refused = _heartcast("serve", "--port", "0", "--in-memory", "--redis", redis.url)
    assert refused.returncode == 1
    assert "appendonly yes" in refused.stderr
