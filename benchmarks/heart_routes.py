"""Beside the plain heart over HTTP: a hundred in one request, counts, one hot target, identity.

    chrt -f 50 python -m benchmarks heart_routes

In memory, one server after the other. Identity is measured in turns against a server without it, both
with limits and judging off: a known JWT of a server that may act for its users, in every request.
"""

from __future__ import annotations

import json
import statistics
import urllib.request
from random import Random
from typing import Any

from benchmarks import load
from benchmarks.machine import cpu_s
from heartcast.api.auth import Authenticator, AuthOptions
from heartcast.core.clock import SystemClock
from heartcast.testing import RunningServer, running

SECONDS = 3.0
TURNS = 3
PATH = "/api/v1/hearts"
SECRET = "a secret of more than thirty-two bytes"  # of a server that lives as long as a benchmark


def run() -> dict[str, Any]:
    """All figures; takes about 45 seconds."""
    figures: dict[str, Any] = {}
    with running("--in-memory") as server:
        figures["one_hot_target"] = _measure(server, [_heart(at, target="hot") for at in range(500_000)])
    with running("--in-memory") as server:
        figures["batches_of_100"] = _measure(server, _batches(), hearts=100)
        targets = [f"post_{number}" for number in range(100)]
        body = json.dumps({"target_ids": targets}).encode()
        figures["counts_of_100"] = _measure(server, [load.request("POST", f"{PATH}/counts", body)])
        asked = "&".join(f"target_id={target}" for target in targets)
        figures["counts_of_100_by_get"] = _measure(server, [load.request("GET", f"{PATH}/counts?{asked}")])
        figures["counts_of_100_unchanged"] = _unchanged(server, f"{PATH}/counts?{asked}")
    return figures | {"identity": _identity()}


def _heart(at: int, target: str = "", header: bytes = b"") -> bytes:
    target = target or f"post_{at * 31 % 1000}"
    body = b'{"target_id":"%b","user_id":"u%d"}' % (target.encode(), at * 7919 % 100_000_007)
    plain = load.request("POST", PATH, body)
    return plain.replace(b"\r\n", b"\r\n" + header, 1) if header else plain


def _batches() -> list[bytes]:
    random = Random(3)

    def batch() -> bytes:
        items = [
            b'{"op":"add","target_id":"post_%d","user_id":"u%d"}'
            % (random.randrange(1000), random.randrange(100_000_000))
            for _ in range(100)
        ]
        return load.request("POST", f"{PATH}/batch", b'{"items":[%b]}' % b",".join(items))

    return [batch() for _ in range(10_000)]


def _measure(server: RunningServer, requests: list[bytes], *, hearts: int = 1) -> dict[str, Any]:
    before_s = cpu_s(server.process.pid)
    found = load.run(server.port, requests, seconds=SECONDS)
    spent_s = cpu_s(server.process.pid) - before_s
    return {
        "per_s": found["per_s"] * hearts,
        "cpu_us_each": round(spent_s * 1e6 / (found["requests"] * hearts), 2),
        "not_2xx": found["not_2xx"],
        "p99_ms": found["p99_ms"],
    }


def _unchanged(server: RunningServer, path: str) -> dict[str, Any]:
    """Asked again with the entity tag of the last answer: nothing has changed, and 304 says so."""
    with urllib.request.urlopen(f"{server.url}{path}", timeout=10) as answer:
        etag = answer.headers["ETag"].encode()
    asked = load.request("GET", path).replace(b"\r\n", b"\r\nIf-None-Match: %b\r\n" % etag, 1)
    figures = _measure(server, [asked])
    figures["all_304"] = figures.pop("not_2xx") > 0
    return figures


def _identity() -> dict[str, Any]:
    options = AuthOptions(jwt_secret=SECRET, user_scopes=["hearts:write", "hearts:write:any"])
    token = Authenticator(options, SystemClock(), is_open=False).issue("backend", ttl_s=3600)
    known = [_heart(at, header=b"Authorization: Bearer %b\r\n" % token.encode()) for at in range(300_000)]
    unknown = [_heart(at) for at in range(300_000)]
    environ = {
        "HEARTCAST_MODE": "prod",
        "HEARTCAST_AUTH__JWT_SECRET": SECRET,
        "HEARTCAST_AUTH__USER_SCOPES": '["hearts:write", "hearts:write:any"]',
        "HEARTCAST_LIMITS__IS_ON": "false",
        "HEARTCAST_HEARTS__ABUSE__IS_ON": "false",
    }
    turns: dict[str, list[dict[str, Any]]] = {"off": [], "on": []}
    for _ in range(TURNS):
        for word, chosen, requests in (("off", {}, unknown), ("on", environ, known)):
            with running("--in-memory", environ=chosen) as server:
                turns[word].append(_measure(server, requests))
    off, on = (statistics.median(turn["per_s"] for turn in turns[word]) for word in ("off", "on"))
    cpu_us = {word: statistics.median(turn["cpu_us_each"] for turn in turns[word]) for word in turns}
    return {
        "off_per_s": off,
        "on_per_s": on,
        "slower_by_percent": round((1 - on / off) * 100, 1),
        "off_cpu_us": cpu_us["off"],
        "on_cpu_us": cpu_us["on"],
        "not_2xx": sum(turn["not_2xx"] for turn in turns["on"]),
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
