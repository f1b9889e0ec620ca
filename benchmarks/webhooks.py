"""The webhook route with a receiver beside it: by itself, and in a storm of 5xx with and without merging.

    python -m benchmarks webhooks

Pushes come in batches over HTTP and leave by POST to a receiver in another process, which
reads them and answers 204. In a ``storm`` they come over six seconds, in which it answers
every second POST with 503; then all are welcome. ``alone`` is a server that never merges (``most = 1``).
``recovery_s`` is from the end of the storm until every push was delivered, ``posts`` how
often the receiver was called for them.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.machine import cpu_s
from heartcast.testing import RunningServer, running
from heartcast.testing.providers import Receiver, healthy, storm

PUSHES, BATCH = 10_000, 200
STORM_S = 6.0
_LONGEST_S = 60.0
_ENVIRON = {
    "HEARTCAST_PUSH__WEBHOOKS__ALLOW_PRIVATE": "true",
    # Hours of waiting between tries are right for the world, and not for a benchmark.
    "HEARTCAST_PUSH__WEBHOOKS__RETRY": "{attempts = 1000, first_s = 0.2, max_s = 1.0}",
}
_ALONE = {"HEARTCAST_PUSH__WEBHOOKS__MERGING": "{most = 1}"}


def run() -> dict[str, Any]:
    """Healthy once, the storm twice; under a minute."""
    return {
        "healthy": _measured(is_stormy=False, environ=_ENVIRON),
        "storm_alone": _measured(is_stormy=True, environ={**_ENVIRON, **_ALONE}),
        "storm_merged": _measured(is_stormy=True, environ=_ENVIRON),
    }


def _measured(*, is_stormy: bool, environ: dict[str, str]) -> dict[str, Any]:
    with _receiver() as receiver, running("--in-memory", environ=environ) as server:
        receiver.send("storm" if is_stormy else "healthy")
        _call(server, "PUT", "/api/v1/webhooks/crm", {"url": receiver.recv()})
        used_s, begin_s = cpu_s(server.process.pid), time.perf_counter()
        largest = 0
        for start in range(0, PUSHES, BATCH):
            if is_stormy:
                time.sleep(max(0.0, begin_s + start / PUSHES * STORM_S - time.perf_counter()))
                largest = max(largest, _batch_size(server))
            items = [
                {"user_id": n, "template": "news_v2", "payload": {"title": "x"}, "routes": ["webhook"]}
                for n in range(start, start + BATCH)
            ]
            _call(server, "POST", "/api/v1/pushes/batch", {"items": items})
        calm_s = begin_s
        if is_stormy:
            receiver.send("healthy")
            receiver.recv()
            calm_s = time.perf_counter()
        while (found := _delivered(server)) < PUSHES and time.perf_counter() - calm_s < _LONGEST_S:
            largest = max(largest, _batch_size(server))
            time.sleep(0.02)
        took_s = time.perf_counter() - calm_s
        used_s = cpu_s(server.process.pid) - used_s
        receiver.send("count")
        posts = receiver.recv()
    name = "recovery_s" if is_stormy else "took_s"
    return {
        "pushes": PUSHES,
        "delivered": found,
        name: round(took_s, 2),
        "posts": posts,
        "largest_batch": largest,
        "cpu_us_per_push": round(used_s / PUSHES * 1e6),
    }


def _call(server: RunningServer, method: str, path: str, body: Any = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(
        server.url + path, data, {"content-type": "application/json"}, method=method
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _batch_size(server: RunningServer) -> int:
    routes = _call(server, "GET", "/healthz")["routes"]
    return max((route["batch_size"] for route in routes if route["name"] != "realtime"), default=0)


def _delivered(server: RunningServer) -> int:
    name = 'push_service_push_total{route="webhook",status="success"} '
    with urllib.request.urlopen(server.url + "/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return int(float(text.partition(name)[2].partition("\n")[0] or 0))


@contextmanager
def _receiver() -> Iterator[Connection]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    yield ours
    process.terminate()
    process.join()


def _serve(orders: Connection) -> None:
    asyncio.run(_obey(orders))


async def _obey(orders: Connection) -> None:
    async with Receiver() as receiver:
        while True:
            match await asyncio.to_thread(orders.recv):
                case "storm":
                    receiver.behave = storm(50)
                    orders.send(receiver.url)
                case "healthy":
                    receiver.behave = healthy
                    orders.send(receiver.url)
                case _:
                    orders.send(len(receiver.received))


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
