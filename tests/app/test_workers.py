"""Several processes on one port: real ones, on a real Valkey."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from heartcast.app.settings import load
from heartcast.app.worker import Said
from heartcast.app.workers import reserved
from heartcast.core.errors import SettingsError
from heartcast.testing.redis_server import RedisServer
from heartcast.testing.server import RunningServer, running


@pytest.fixture(scope="module")
def environ() -> Iterator[dict[str, str]]:
    with RedisServer(settings={"appendonly": "yes"}) as redis:
        yield {
            "HEARTCAST_CLUSTER__REDIS_URL": redis.url,
            "HEARTCAST_CLUSTER__LOCAL": '["push", "realtime"]',
            "HEARTCAST_HEARTS__STORE": "redis",
            "HEARTCAST_HEARTS__REDIS_URL": redis.url,
        }


@pytest.fixture(scope="module")
def two(environ: dict[str, str]) -> Iterator[RunningServer]:
    """Two processes; tests leave two behind."""
    with running("--in-memory", "--workers", "2", environ=environ) as server:
        until(lambda: agree(server))
        yield server


def ask(url: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body, on a connection of its own: each may reach another process."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=5)
    try:
        method, headers = ("GET", {}) if body is None else ("POST", {"Content-Type": "application/json"})
        connection.request(method, parts.path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def get(url: str) -> bytes:
    status, body = ask(url)
    assert status == 200, body
    return body


def nodes(server: RunningServer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(get(f"{server.url}/api/v1/nodes"))["nodes"]
    return found


def agree(server: RunningServer) -> bool:
    """Whether both processes have their half, and both know."""
    seen = [nodes(server) for _ in range(20)]
    return {len(found) for found in seen} == {2} and all(
        len(node["shards"]) == 32 for found in seen for node in found
    )


def until(holds: Callable[[], bool], timeout_s: float = 15.0) -> float:
    """Wait for a condition on real processes, and say how long it took."""
    began_s = time.monotonic()
    while True:
        try:
            if holds():
                return time.monotonic() - began_s
        except (OSError, HTTPException):
            pass  # a process that is being killed resets what it had
        assert time.monotonic() - began_s < timeout_s
        time.sleep(0.05)


def children(server: RunningServer) -> list[int]:
    path = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


def scraped(url: str) -> dict[str, float]:
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(get(f"{url}/metrics").decode())
        for sample in family.samples
    }


def test_processes_share_one_port_and_the_work(two: RunningServer) -> None:
    answering = {node["name"] for _ in range(60) for node in nodes(two) if node["is_this"]}
    assert answering == {f"{name}.{index}" for name in [next(iter(answering))[:-2]] for index in (1, 2)}
    assert len({node["url"] for node in nodes(two)}) == 1
    assert len({node["admin_url"] for node in nodes(two)}) == 2


def test_metrics_of_the_shared_port_are_those_of_all_its_processes(two: RunningServer) -> None:
    before = scraped(two.url)["heartcast_hearts_totaladded"]
    for n in range(20):
        body = json.dumps({"target_id": "workers", "user_id": f"u{before}-{n}"}).encode()
        assert ask(f"{two.url}/api/v1/hearts", body)[0] == 201
    alone = [scraped(node["admin_url"])["heartcast_hearts_totaladded"] for node in nodes(two)]
    assert sum(alone) == before + 20
    assert max(alone) < before + 20, "each admin port speaks for its own process"
    for _ in range(6):
        assert scraped(two.url)["heartcast_hearts_totaladded"] == before + 20


def test_health_of_the_shared_port_has_every_shard_once_where_it_is_worked(two: RunningServer) -> None:
    health = json.loads(get(f"{two.url}/healthz"))
    assert health["status"] == "ok"
    assert [shard["id"] for shard in health["shards"]] == list(range(64))
    assert {shard["node"] for shard in health["shards"]} == {node["name"] for node in nodes(two)}
    for node in nodes(two):
        assert json.loads(get(f"{node['admin_url']}/readyz"))["status"] == "ready"


def test_the_admin_port_answers_nothing_else(two: RunningServer) -> None:
    assert ask(f"{nodes(two)[0]['admin_url']}/api/v1/nodes")[0] == 404


def test_a_process_that_is_killed_is_started_again_and_its_shards_are_worked(two: RunningServer) -> None:
    killed = children(two)[0]
    before = {node["id"] for node in nodes(two)}
    os.kill(killed, signal.SIGKILL)

    until(lambda: agree(two) and {node["id"] for node in nodes(two)} != before)
    assert killed not in children(two)
    assert json.loads(get(f"{two.url}/healthz"))["status"] == "ok"
    assert "a process died; starting it again" in two.log.read_text()


def test_sigterm_ends_all_in_order_with_status_0_and_their_shards_given_back(
    environ: dict[str, str],
) -> None:
    prefix = {**environ, "HEARTCAST_CLUSTER__PREFIX": "stop"}
    with running("--in-memory", "--workers", "1", environ=prefix) as server:
        pids = children(server)
        assert server.stop() == 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert server.process.returncode == 0


def test_processes_whose_parent_is_killed_stop_as_well(environ: dict[str, str]) -> None:
    with running(
        "--in-memory", "--workers", "1", environ={**environ, "HEARTCAST_CLUSTER__PREFIX": "orphans"}
    ) as server:
        pids = children(server)
        server.kill()

        def are_gone() -> bool:
            return not any(_is_running(pid) for pid in pids)

        until(are_gone)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def serve(*flags: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "heartcast", "serve", "--in-memory", *flags],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **(environ or {})},
    )


def test_workers_without_a_redis_are_refused_in_one_sentence() -> None:
    result = serve("--workers", "2")
    assert result.returncode == 1
    assert result.stderr.startswith("heartcast: --workers starts several processes, which share nothing")
    assert len(result.stderr.splitlines()) == 1


def test_what_keeps_one_process_from_starting_ends_all_with_its_sentence(environ: dict[str, str]) -> None:
    of_its_own = {"HEARTCAST_CLUSTER__LOCAL": "[]", "HEARTCAST_HEARTS__STORE": "memory"}
    result = serve("--port", "0", "--workers", "2", environ={**environ, **of_its_own})
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("heartcast: cluster.redis_url: hearts are kept by this")


def test_a_worker_is_not_started_by_hand() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "heartcast.app.worker"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, "--workers" in result.stderr) == (1, True)


def test_a_port_in_use_is_one_sentence() -> None:
    with reserved("127.0.0.1", 0) as port:
        assert port > 0
    with pytest.raises(SettingsError, match=r"cannot listen on 192\.0\.2\.1"), reserved("192.0.2.1", 80):
        pass


def test_settings_survive_the_way_to_a_worker() -> None:
    import msgspec

    settings = load(
        flags={"http.trusted_proxies": ["10.0.0.0/8"], "hearts.kinds": ["heart", "star"], "push.shards": 32}
    )
    again = msgspec.json.decode(msgspec.json.encode(settings), type=type(settings))
    assert again == settings
    assert msgspec.json.decode(msgspec.json.encode(Said(refused="why")), type=Said) == Said(refused="why")
