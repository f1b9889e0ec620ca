"""What only a registry on a server can do: lose something, and be read by others."""

import asyncio

import redis as driver

from heartcast.cluster.registry.redis import RedisRegistry
from heartcast.core.errors import StoreUnavailable
from heartcast.testing.contracts.registry import LONG_S, a_node, answer, epoch_of, view_of
from heartcast.testing.redis_server import RedisServer


async def opened(server: RedisServer, prefix: str) -> RedisRegistry:
    registry = RedisRegistry(server.url, 8, prefix=prefix)
    await registry.open()
    return registry


async def test_an_emptied_or_restarted_server_has_another_life() -> None:
    with RedisServer(settings={"appendonly": "yes"}) as server:
        registry = await opened(server, "hc")
        lives = [(await view_of(registry, "a")).life]
        assert (await view_of(registry, "a")).life == lives[0]
        server.command("FLUSHALL")
        lives.append((await view_of(registry, "a")).life)
        server.restart()
        async with asyncio.timeout(10):
            while isinstance(
                await answer(lambda done: registry.beat(a_node("a"), {}, LONG_S, done)), StoreUnavailable
            ):
                await asyncio.sleep(0.05)
        lives.append((await view_of(registry, "a")).life)
        assert len(set(lives)) == 3
        await registry.close()


async def test_an_epoch_is_not_given_twice_by_a_server_that_lost_its_last_second() -> None:
    with RedisServer(settings={"appendonly": "yes"}) as server:
        registry = await opened(server, "hc")
        lost = await epoch_of(registry, 3, "a")
        # As if the acquisition had never reached the file.
        server.command("DEL", "{hc:3}:owner", "{hc:3}:epoch")
        given = await epoch_of(registry, 3, "b")
        assert lost is not None
        assert given is not None
        assert given > lost
        await registry.close()


async def test_the_epoch_of_a_shard_is_where_fenced_scripts_look_for_it(
    valkey: RedisServer, prefix: str
) -> None:
    registry = await opened(valkey, prefix)
    epoch = await epoch_of(registry, 5, "a")
    with driver.Redis.from_url(valkey.url) as link:
        assert link.get(f"{{{prefix}:5}}:epoch") == str(epoch).encode()
        assert link.get(f"{{{prefix}:5}}:owner") == b"id-of-a"
        assert 0 < link.pttl(f"{{{prefix}:5}}:owner") <= LONG_S * 1000
    await registry.close()


async def test_a_list_of_nodes_that_holds_something_else_is_unavailable_and_not_a_crash(
    valkey: RedisServer, prefix: str
) -> None:
    registry = await opened(valkey, prefix)
    await view_of(registry, "a")
    with driver.Redis.from_url(valkey.url) as link:
        link.hset(f"{{{prefix}}}:nodes", "x", "not JSON")
        link.zadd(f"{{{prefix}}}:leases", {"x": 9_999_999_999_999})
    seen = await answer(lambda done: registry.beat(a_node("a"), {}, LONG_S, done))
    assert isinstance(seen, StoreUnavailable)
    assert "not a node" in seen.detail
    await registry.close()
