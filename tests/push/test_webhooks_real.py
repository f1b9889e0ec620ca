"""Webhooks through a real server to a real receiver: signed, retried, merged, and killed in between.

``SOAK_KILLS`` sets the number of cycles.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from heartcast.backends.webhook import key_of, verify
from heartcast.core.clock import SystemClock
from heartcast.testing.providers import Answer, Received, Receiver, healthy, hung, storm
from heartcast.testing.server import RunningServer

KILLS = int(os.environ.get("SOAK_KILLS", "2"))
ENVIRON = {
    "HEARTCAST_PUSH__WEBHOOKS__ALLOW_PRIVATE": "true",
    "HEARTCAST_PUSH__WEBHOOKS__TIMEOUT_S": "0.5",
    "HEARTCAST_PUSH__WEBHOOKS__RETRY": "{attempts = 1000, first_s = 0.05, max_s = 0.2}",
    "HEARTCAST_PUSH__WEBHOOKS__BREAKER": "{open_s = 0.1, max_open_s = 0.2}",
}
Serve = Callable[..., RunningServer]


def call(server: RunningServer, method: str, path: str, body: Any = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    request = Request(server.url + path, data, {"content-type": "application/json"}, method=method)
    with urlopen(request, timeout=10) as answer:
        return json.load(answer)


def push_many(server: RunningServer, count: int, accepted: set[str]) -> None:
    """Post until it is done or the server is gone; remembers what was accepted."""
    for number in range(count):
        body = {"user_id": number, "template": "news_v2", "payload": {"title": "x"}, "routes": ["webhook"]}
        try:
            accepted.add(call(server, "POST", "/push", body)["id"])
        except (URLError, OSError, json.JSONDecodeError):
            return


def inside(request: Received) -> list[str]:
    body = json.loads(request.body)
    return [part["data"]["id"] for part in (body if isinstance(body, list) else [body])]


def got(receiver: Receiver) -> set[str]:
    return {push_id for request in receiver.accepted for push_id in inside(request)}


def status(server: RunningServer, push_id: str) -> str:
    try:
        return str(call(server, "GET", f"/api/v1/pushes/{push_id}")["status"])
    except HTTPError as error:
        return str(error.code)


async def ends_well(server: RunningServer, push_id: str) -> None:
    """Waits until it is delivered; 404: it was in an earlier life, and its record went with that."""
    async with asyncio.timeout(10):
        while (found := await asyncio.to_thread(status, server, push_id)) not in ("delivered", "404"):
            assert found in ("queued", "sent")
            await asyncio.sleep(0.01)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def test_pushes_reach_a_receiver_that_knows_them_by_signature(serve: Serve) -> None:
    async with Receiver() as receiver:
        server = await asyncio.to_thread(serve, "--in-memory", environ=ENVIRON)
        made = await asyncio.to_thread(call, server, "PUT", "/api/v1/webhooks/crm", {"url": receiver.url})
        accepted: set[str] = set()
        await asyncio.to_thread(push_many, server, 20, accepted)
        await until(lambda: got(receiver) >= accepted)
        key = key_of(made["secret"])
        for request in receiver.accepted:
            assert verify(request.headers, request.body, [key], SystemClock.wall_ms()) == request.id
        assert receiver.connections <= 8
        for push_id in accepted:
            await ends_well(server, push_id)
        health = await asyncio.to_thread(call, server, "GET", "/healthz")
        assert [route["name"] for route in health["routes"]] == ["realtime", "webhook:crm"]
        metrics = await asyncio.to_thread(lambda: urlopen(server.url + "/metrics").read().decode())
        assert 'push_service_push_total{route="webhook",status="success"} 20.0' in metrics
        assert 'heartcast_batch_size{route="webhook:crm"} 1.0' in metrics
        assert 'push_service_sla_ratio{route="webhook"} 1.0' in metrics
        assert 'push_service_sla_ratio{route="realtime"}' not in metrics, "nobody was pushed to over it"


async def test_half_of_it_failing_then_hanging_then_healthy_loses_nothing(serve: Serve) -> None:
    async with Receiver() as receiver:
        server = await asyncio.to_thread(serve, "--in-memory", environ=ENVIRON)
        await asyncio.to_thread(call, server, "PUT", "/api/v1/webhooks/crm", {"url": receiver.url})
        accepted: set[str] = set()
        receiver.behave = storm(50)
        await asyncio.to_thread(push_many, server, 60, accepted)
        await until(lambda: len(got(receiver)) >= 20)
        receiver.behave = hung
        await asyncio.to_thread(push_many, server, 10, accepted)
        receiver.behave = healthy
        await until(lambda: got(receiver) >= accepted)
        assert len(accepted) == 70


async def test_kill_9_while_it_is_posting_repeats_but_never_loses(serve: Serve, tmp_path: Path) -> None:
    random = Random(7)
    accepted: set[str] = set()

    def behave(request: Received) -> Answer:
        return Answer(503 if request.number % 3 else 204, hangs=not request.number % 7, after_s=0.002)

    async with Receiver() as receiver:
        receiver.behave = behave
        for cycle in range(KILLS):
            server = await asyncio.to_thread(serve, "--data-dir", str(tmp_path), environ=ENVIRON)
            if not cycle:
                await asyncio.to_thread(call, server, "PUT", "/api/v1/webhooks/crm", {"url": receiver.url})
            before = len(receiver.received)
            sending = asyncio.create_task(asyncio.to_thread(push_many, server, 500, accepted))
            await until(lambda before=before: len(receiver.received) > before + 10)  # type: ignore[misc]
            # A moment, not a wait for something: where it strikes is what is tested.
            await asyncio.sleep(random.random() * 0.2)
            await asyncio.to_thread(server.kill)
            await sending
        receiver.behave = healthy
        server = await asyncio.to_thread(serve, "--data-dir", str(tmp_path), environ=ENVIRON)
        await until(lambda: got(receiver) >= accepted)
        for push_id in accepted:
            await ends_well(server, push_id)
        assert len(accepted) > KILLS * 5


async def test_kill_9_while_digests_are_made_leaves_each_push_in_exactly_one(
    serve: Serve, tmp_path: Path
) -> None:
    accepted: set[str] = set()

    def push_some(server: RunningServer) -> None:
        for number in range(120):
            body = {
                "user_id": number % 5, "template": "news_v2", "payload": {"title": "x"},
                "routes": ["webhook"], "digest_key": "k", "digest_window": 1,
            }  # fmt: skip
            accepted.add(call(server, "POST", "/push", body)["id"])

    async with Receiver() as receiver:
        server = await asyncio.to_thread(serve, "--data-dir", str(tmp_path), environ=ENVIRON)
        await asyncio.to_thread(call, server, "PUT", "/api/v1/webhooks/crm", {"url": receiver.url})
        await asyncio.to_thread(push_some, server)
        # The first digests are under way: some are merged and posted, some not yet.
        await until(lambda: len(receiver.received) >= 1)
        await asyncio.to_thread(server.kill)
        server = await asyncio.to_thread(serve, "--data-dir", str(tmp_path), environ=ENVIRON)
        await until(lambda: {one for ids in digests(receiver).values() for one in ids} >= accepted)
        inside_of = [push_id for ids in digests(receiver).values() for push_id in ids]
        assert sorted(inside_of) == sorted(accepted)
        assert len(digests(receiver)) < len(accepted)


def digests(receiver: Receiver) -> dict[str, list[str]]:
    """Ids of the pushes inside of each that was taken, by its own id."""
    found = {}
    for request in receiver.accepted:
        body = json.loads(request.body)
        for part in body if isinstance(body, list) else [body]:
            data = part["data"]
            items = data["payload"].get("digest", {"pushes": [{"id": data["id"]}]})["pushes"]
            found[data["id"]] = [item["id"] for item in items]
    return found
