"""Requests per second and server CPU per request, everything on, for hearts and pushes."""

from __future__ import annotations

import json
import time
import urllib.request
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import load
from benchmarks.machine import cpu_s
from heartcast.testing import RunningServer, running

SECONDS = 5.0
_random = Random(7)


def _pushes() -> list[bytes]:
    return [
        load.request(
            "POST",
            "/push",
            b'{"user_id":%d,"template":"news_v2","payload":{"title":"Go 1.23 released"}}'
            % _random.randrange(10_000_000),
        )
        for _ in range(100_000)
    ]


def _traced_pushes() -> list[bytes]:
    """As clients send them that take part in traces: no two heads are the same."""
    return [
        load.request(
            "POST",
            "/push",
            b'{"user_id":%d,"template":"news_v2","payload":{"title":"Go 1.23 released"}}'
            % _random.randrange(10_000_000),
            f"traceparent: 00-{_random.getrandbits(128):032x}-{_random.getrandbits(64):016x}-01",
        )
        for _ in range(100_000)
    ]


def _hearts() -> list[bytes]:
    return [
        load.request(
            "POST",
            "/api/v1/hearts",
            b'{"target_id":"post_%d","user_id":"u%d"}'
            % (_random.randrange(1000), _random.randrange(100_000_000)),
        )
        for _ in range(500_000)
    ]


def _measure(server: RunningServer, requests: list[bytes]) -> dict[str, Any]:
    pid = server.process.pid
    before_s = cpu_s(pid)
    result = load.run(server.port, requests, seconds=SECONDS)
    start_s = time.perf_counter()
    _wait_until_drained(server.url)
    drain_s = time.perf_counter() - start_s
    result["sustained_per_s"] = round(result["requests"] / (SECONDS + drain_s))
    result["cpu_us_per_request"] = round((cpu_s(pid) - before_s) * 1e6 / result["requests"], 2)
    return result


def _wait_until_drained(url: str) -> None:
    while True:
        with urllib.request.urlopen(f"{url}/healthz", timeout=10) as answer:
            shards = json.load(answer)["shards"]
        if not any(shard["pending"] + shard["active"] for shard in shards):
            return
        time.sleep(0.05)


def run() -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, requests in (
        ("push_in_memory", _pushes()),
        ("push_traced_in_memory", _traced_pushes()),
        ("hearts_in_memory", _hearts()),
    ):
        with running("--in-memory") as server:
            figures[name] = _measure(server, requests)
    with TemporaryDirectory() as folder, running("--data-dir", folder) as server:
        figures["hearts_durable"] = _measure(server, _hearts())
    return figures
