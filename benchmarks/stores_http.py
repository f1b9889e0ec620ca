"""Hearts over HTTP in every store, beside the same stores behind FastAPI, in one run.

    chrt -f 50 python -m benchmarks stores_http

heartcast runs with everything on: live counts, hot list, events. The other side keeps hearts and
counts and nothing else (``peers/servers/hearts_with_fastapi.py``), in an environment that ``make
bench-peers`` makes; where it is not installed, that half is left out and says so. Each store is a
server of its own and empty. P95 is taken at half of the rate found just before, with as many
connections, from the moment a request was due.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import load
from benchmarks.machine import cpu_s
from benchmarks.peers.peer import INSTALLED, Peer, started
from benchmarks.peers.python import PEERS
from heartcast.testing import running
from heartcast.testing.postgres_server import PostgresServer
from heartcast.testing.redis_server import RedisServer

SECONDS = 4.0
STORES = ("memory", "sqlite", "redis", "postgres")
CONNECTIONS = (64, 256)
"""heartcast and the other are each measured with both, and the better figure counts."""
_FASTAPI = PEERS[0]


def run() -> dict[str, Any]:
    """All figures; takes about two minutes."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(dir=Path.cwd())))
        redis = stack.enter_context(RedisServer(settings={"appendonly": "yes", "appendfsync": "everysec"}))
        postgres = stack.enter_context(PostgresServer(settings={}))
        return {store: _beside(store, folder, redis, postgres) for store in STORES}


def _beside(store: str, folder: Path, redis: RedisServer, postgres: PostgresServer) -> dict[str, Any]:
    print(f"  {store}", flush=True)
    figures: dict[str, Any] = {}
    place = {
        "memory": "",
        "sqlite": str(folder / "ours"),
        "redis": redis.url,
        "postgres": postgres.make_database("ours") if store == "postgres" else "",
    }[store]
    with _heartcast(store, place) as (pid, port):
        figures["heartcast"] = _measure(pid, port, has_p95=True)
    if reason := _FASTAPI.missing():
        return figures | {"fastapi": {"skipped": reason}}
    place = {
        "memory": "",
        "sqlite": str(folder / "theirs.db"),
        "redis": redis.url.replace("/0", "/1"),
        "postgres": postgres.make_database("theirs") if store == "postgres" else "",
    }[store]
    with _fastapi(store, place) as (pid, port):
        figures["fastapi"] = _measure(pid, port, has_p95=False)
    ours, theirs = figures["heartcast"], figures["fastapi"]
    figures["times_fastapi"] = round(ours["per_s"] / theirs["per_s"], 1)
    return figures


@contextmanager
def _heartcast(store: str, place: str) -> Iterator[tuple[int, int]]:
    environ = {
        "memory": {},
        "sqlite": {},
        "redis": {"HEARTCAST_HEARTS__STORE": "redis", "HEARTCAST_HEARTS__REDIS_URL": place},
        "postgres": {"HEARTCAST_HEARTS__STORE": "postgres", "HEARTCAST_HEARTS__POSTGRES_DSN": place},
    }[store]
    if store == "postgres":
        subprocess.run(
            [sys.executable, "-m", "heartcast", "migrate"],
            env={**os.environ, **environ}, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    flags = ["--data-dir", place] if store == "sqlite" else ["--in-memory"]
    with running(*flags, environ=environ) as server:
        yield server.process.pid, server.port


@contextmanager
def _fastapi(store: str, place: str) -> Iterator[tuple[int, int]]:
    os.environ |= {"HEARTS_STORE": store, "HEARTS_URL": place}
    hearts = Peer(
        name=f"FastAPI {store}",
        missing=_FASTAPI.missing,
        version=_FASTAPI.version,
        command=lambda folder, port, side_port: [
            *(str(INSTALLED / "bin" / "python"), "-m", "uvicorn", "hearts_with_fastapi:app"),
            *("--app-dir", str(Path(__file__).parent / "peers" / "servers"), "--port", str(port)),
            *("--log-level", "warning", "--no-access-log", "--loop", "uvloop", "--http", "httptools"),
        ],
        hello=b"", ready=b"", publication=bytes,
    )  # fmt: skip
    with started(hearts) as (pid, ports):
        yield pid, ports.main


def hearts(number: int, seed: int) -> list[bytes]:
    """So many POSTs of users who heart one of a thousand targets."""
    random = Random(seed)
    return [
        load.request(
            "POST",
            "/api/v1/hearts",
            b'{"target_id":"post_%d","user_id":"u%d"}'
            % (random.randrange(1000), random.randrange(100_000_000)),
        )
        for _ in range(number)
    ]


def _measure(pid: int, port: int, *, has_p95: bool) -> dict[str, Any]:
    best: dict[str, Any] = {"per_s": 0}
    for seed, connections in enumerate(CONNECTIONS):
        before_s = cpu_s(pid)
        found = load.run(port, hearts(400_000, seed), connections=connections, seconds=SECONDS)
        if found["per_s"] > best["per_s"]:
            spent_s = cpu_s(pid) - before_s
            best = {
                "per_s": found["per_s"],
                "connections": connections,
                "not_2xx": found["not_2xx"],
                "p99_ms": found["p99_ms"],
                "cpu_us_per_heart": round(spent_s * 1e6 / found["requests"], 1),
            }
    if has_p95:
        half = load.run(
            port,
            hearts(200_000, 9),
            connections=best["connections"],
            seconds=SECONDS,
            per_s=best["per_s"] / 2,
        )
        best["at_half_load"] = {name: half[name] for name in ("per_s", "p50_ms", "p95_ms", "p99_ms")}
    return best


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
