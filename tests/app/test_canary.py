"""``/readyz`` says no while nothing comes back, ``/healthz`` while a shard stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import redis as driver

from heartcast.core.hashing import shard_of
from heartcast.testing.nodes import Nodes
from heartcast.testing.pubsub_proxy import PubSubProxy
from heartcast.testing.redis_server import RedisServer

pytestmark = pytest.mark.timeout(180)
ENVIRON = {"HEARTCAST_CLUSTER__LOCAL": '["hearts"]', "HEARTCAST_PUSH__STALLED_AFTER_S": "1"}
EVERYTHING = 1_000_000


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(settings={"appendonly": "yes"}) as server:
        yield server


async def asked(nodes: Nodes, path: str, wanted: Callable[[int, Any], bool]) -> Any:
    """Ask until the answer is as wanted, 30 s at most."""
    async with asyncio.timeout(30):
        while True:
            status, body = await asyncio.to_thread(nodes.ask, 0, "GET", path)
            if wanted(status, body):
                return body
            await asyncio.sleep(0.1)


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[PubSubProxy]:
    async with PubSubProxy("127.0.0.1", server.port) as proxy:
        yield proxy


@pytest.fixture
async def nodes(proxy: PubSubProxy) -> AsyncIterator[Nodes]:
    nodes = Nodes(1, f"redis://127.0.0.1:{proxy.port}/0", ENVIRON)
    await asyncio.to_thread(nodes.__enter__)
    await asked(nodes, "/readyz", lambda status, body: status == 200)
    yield nodes
    await asyncio.to_thread(nodes.__exit__, None, None, None)


async def test_a_node_that_hears_nothing_of_what_it_publishes_wants_no_traffic_until_it_does(
    nodes: Nodes, proxy: PubSubProxy
) -> None:
    proxy.swallow(EVERYTHING)
    problem = await asked(nodes, "/readyz", lambda status, body: status == 503)
    assert problem["code"] == "not_ready"
    assert "has not come back" in problem["detail"]
    proxy.swallow(0)
    await asked(nodes, "/readyz", lambda status, body: status == 200)


async def test_a_shard_that_cannot_be_read_is_unhealthy_though_nothing_waits_in_its_queue(
    nodes: Nodes, server: RedisServer
) -> None:
    user = "stuck"
    shard = shard_of(user, 64)
    await asked(nodes, "/healthz", lambda status, body: status == 200 and len(body["shards"]) == 64)
    with driver.Redis.from_url(server.url) as link:
        assert link.rename(f"{{hc:{shard}}}:push", "elsewhere")
        health = await asked(nodes, "/healthz", lambda status, body: status == 503)
        assert health["status"] == "stalled"
        still = [found["id"] for found in health["shards"] if found["last_progress_ms"] > 1_000]
        assert still == [shard]
        assert link.rename("elsewhere", f"{{hc:{shard}}}:push")
    await asked(nodes, "/healthz", lambda status, body: status == 200)


async def test_a_shard_that_cannot_be_loaded_is_unhealthy_until_it_can(
    proxy: PubSubProxy, server: RedisServer
) -> None:
    with driver.Redis.from_url(server.url) as link:
        link.flushall()
        link.set("{hc:7}:boxes", "no hash")
        nodes = Nodes(1, f"redis://127.0.0.1:{proxy.port}/0", ENVIRON)
        await asyncio.to_thread(nodes.__enter__)
        try:
            health = await asked(
                nodes, "/healthz", lambda status, body: status == 503 and body["status"] == "stalled"
            )
            assert 7 in [found["id"] for found in health["shards"] if found["last_progress_ms"] > 1_000]
            link.delete("{hc:7}:boxes")
            await asked(nodes, "/healthz", lambda status, body: status == 200 and len(body["shards"]) == 64)
        finally:
            await asyncio.to_thread(nodes.__exit__, None, None, None)
