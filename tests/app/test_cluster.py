"""Joining a cluster: what is refused at start, and in which words."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from heartcast.app.checks import check_all
from heartcast.app.cluster import Cluster, check_shared, open_cluster
from heartcast.app.settings import Settings, load
from heartcast.core.clock import SystemClock
from heartcast.core.errors import SettingsError, StoreUnavailable
from heartcast.testing.redis_server import RedisServer

LOCAL = ["hearts", "push", "realtime", "limits"]


@pytest.fixture(scope="module")
def durable() -> Iterator[RedisServer]:
    with RedisServer(settings={"appendonly": "yes"}) as server:
        yield server


def settings(url: str, **chosen: Any) -> Settings:
    tree = {"in_memory": True, "cluster.redis_url": url, "cluster.local": LOCAL, **chosen}
    return load(flags=tree)


async def opened(chosen: Settings) -> Cluster:
    return await open_cluster(chosen, SystemClock(), asyncio.get_running_loop())


async def test_without_a_redis_a_node_is_a_cluster_of_one(durable: RedisServer) -> None:
    cluster = await opened(load(flags={"in_memory": True}))
    assert cluster.why_not() is not None
    cluster.join(load(flags={"in_memory": True}), "http://127.0.0.1:4711")
    assert cluster.is_alone
    assert cluster.why_not() is None
    assert len(cluster.membership.held()) == 64
    assert cluster.membership.me.name.endswith(":4711")
    await cluster.leave()
    await cluster.close()


async def test_two_nodes_find_each_other_and_talk(durable: RedisServer) -> None:
    chosen = settings(durable.url, **{"cluster.prefix": "two"})
    first, second = await opened(chosen), await opened(chosen)
    first.join(chosen, "http://127.0.0.1:1001")
    second.join(chosen, "http://127.0.0.1:1002")
    async with asyncio.timeout(10):
        while sorted(len(node.membership.held()) for node in (first, second)) != [32, 32]:
            await asyncio.sleep(0.02)
    asked: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    second.post.on("double", lambda sender, body, answer: answer(2 * body))
    first.post.call(second.membership.node, "double", b"x", asked.set_result)
    assert await asked == b"xx"
    await first.leave()
    async with asyncio.timeout(5):
        while len(second.membership.held()) != 64:
            await asyncio.sleep(0.02)
    for cluster in (first, second):
        await cluster.close()


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        ("hearts", "hearts are kept by this node alone"),
        ("limits", "every node would grant each client a whole budget"),
        ("ranking", "feedback, strategies and what items are would belong to the node"),
    ],
)
def test_a_domain_that_is_not_shared_is_refused_by_name(domain: str, words: str) -> None:
    chosen = settings(
        "redis://127.0.0.1:1",
        **{
            "cluster.local": [name for name in LOCAL if name != domain],
            "ranking.recommendations": "on" if domain == "ranking" else "off",
            "limits.is_on": domain == "limits",
        },
    )
    with pytest.raises(SettingsError, match=words) as refused:
        check_shared(chosen)
    assert f'cluster.local = ["{domain}"]' in refused.value.detail


async def test_a_server_that_may_forget_is_refused_or_taken_with_a_warning() -> None:
    with RedisServer() as server:
        with pytest.raises(SettingsError, match="may forget what was accepted: it has no append-only file"):
            await opened(settings(server.url))
        cluster = await opened(settings(server.url, **{"cluster.allow_volatile": True}))
        await cluster.close()


def test_the_doctor_says_whether_a_server_will_do(durable: RedisServer) -> None:
    def look(url: str) -> tuple[str, str]:
        chosen = settings(url, **{"http.port": 0})
        [check] = [check for check in check_all(chosen) if check.name == "cluster"]
        return check.verdict, check.detail

    with RedisServer() as forgetful:
        assert look(forgetful.url)[0] == "fail"
        assert "append-only file" in look(forgetful.url)[1]
    assert look(durable.url)[0] == "ok"
    assert look(durable.url)[1].endswith("keeps what it is given")


async def test_a_server_that_is_away_is_said_to_be() -> None:
    with pytest.raises(StoreUnavailable):
        await opened(settings("redis://127.0.0.1:1"))


@pytest.mark.parametrize(
    "command",
    [
        ("SET", "{foreign}:nodes", "text"),
        ("LPUSH", "{foreign}:leases", "x"),
        ("HSET", "{foreign:7}:owner", "a", "b"),
        ("SET", "{foreign:63}:epoch", "a word"),
        ("SET", "{foreign}:shape", "something else"),
        ("LPUSH", "{foreign}:shape", "x"),
    ],
)
async def test_foreign_keys_at_our_names_are_named(durable: RedisServer, command: tuple[str, ...]) -> None:
    from heartcast.backends.redis_pipe import RedisPipe

    pipe = RedisPipe(durable.url, timeout_s=2)
    await pipe.ask(*command)
    try:
        with pytest.raises(SettingsError) as refused:
            await opened(settings(durable.url, **{"cluster.prefix": "foreign"}))
        assert command[1] in refused.value.detail
        assert "cluster.prefix" in refused.value.detail
    finally:
        for key in (command[1], "{foreign}:shape"):
            await pipe.ask("DEL", key)
        await pipe.close()


async def test_another_number_of_shards_is_refused(durable: RedisServer) -> None:
    first = await opened(settings(durable.url, **{"cluster.prefix": "shards"}))
    with pytest.raises(SettingsError, match="has 64 shards and this node is set to 32"):
        await opened(settings(durable.url, **{"cluster.prefix": "shards", "push.shards": 32}))
    await first.close()


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("prefix", "a{b}", "prefix"),
        ("node_name", "a b", "node_name"),
        ("lease_s", 0.5, "lease_s"),
        ("renew_s", 2, "renew_s"),
        ("margin_s", 2, "margin_s"),
        ("release_s", -1, "release_s"),
        ("local", ["weather"], "weather"),
        ("advertise_url", "node-1", "advertise_url"),
        ("worker", -1, "--workers"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_their_name(setting: str, value: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(flags={f"cluster.{setting}": value})


def test_the_address_of_a_redis_is_never_shown_with_its_password() -> None:
    with pytest.raises(SettingsError) as refused:
        asyncio.run(opened(settings("http://user:secret@host")))
    assert "secret" not in refused.value.detail
