"""Redis killed, cut off, hanging, shared, forgetful, or not what we need."""

import asyncio
import itertools
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.core.clock import SystemClock
from heartcast.core.errors import SettingsError, StoreUnavailable
from heartcast.hearts.model import Count, Heart, HeartKey, Outcome
from heartcast.hearts.options import RedisOptions
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.redis import RedisHeartStore
from heartcast.hearts.store.redis_scan import Walk
from heartcast.testing.fault_proxy import FaultProxy
from heartcast.testing.redis_server import RedisServer

CYCLES = int(os.environ.get("HEARTCAST_KILL_CYCLES", "4"))
KEY = HeartKey("post", "u1")
DURABLE = {"appendonly": "yes", "appendfsync": "always"}

Open = Callable[[Path], Awaitable[RedisHeartStore]]
CheckEvents = Callable[[HeartStore, set[tuple[str, str]]], Awaitable[None]]


async def opened(url: str, **options: Any) -> RedisHeartStore:
    store = RedisHeartStore(url, clock=SystemClock(), options=RedisOptions(**options))
    await store.open()
    return store


async def rows_of(url: str) -> set[tuple[str, str]]:
    """Who hearts what; the four keys of each heart must agree, and counts with them."""
    store = await opened(url)
    rows = {heart.key async for hearts in store.scan() for heart in hearts}
    for target in {key.target_id for key in rows}:
        users = {key.user_id for key in rows if key.target_id == target}
        [count] = await Awaiting(store).counts([target], "heart")
        pages = [heart async for heart in _all_of(store, target)]
        assert count.count == len(users)
        assert {heart.key.user_id for heart in pages} == users
    await store.close()
    return {(key.target_id, key.user_id) for key in rows}


async def _check(url: str, check_events: CheckEvents, rows: set[tuple[str, str]]) -> None:
    store = await opened(url)
    await check_events(store, rows)
    await store.close()


async def _all_of(store: RedisHeartStore, target: str) -> Any:
    after = ""
    while page := await store.page(target_id=target, user_id=None, kind="heart", after=after, limit=200):
        for heart in page:
            yield heart
        after = page[-1].id


async def test_a_kill_of_ours_at_any_moment_loses_nothing_answered(
    start_hammer: Callable[..., Any], check_events: CheckEvents
) -> None:
    answered: dict[tuple[str, str], bool] = {}
    with RedisServer(settings=DURABLE) as server:
        for cycle in range(CYCLES):
            hammer = start_hammer(server.url, cycle)
            time.sleep(random.uniform(0.05, 0.5))
            hammer.kill(answered)
            await asyncio.sleep(0.2)
            rows = await rows_of(server.url)
            assert [key for key, is_there in answered.items() if (key in rows) != is_there] == []
        await _check(server.url, check_events, rows)
    assert len(answered) > 50 * CYCLES


@pytest.mark.parametrize("appendfsync", ["always", "everysec"])
async def test_a_kill_of_the_server_at_any_moment_loses_nothing_answered(
    start_hammer: Callable[..., Any], check_events: CheckEvents, appendfsync: str
) -> None:
    answered: dict[tuple[str, str], bool] = {}
    with RedisServer(settings={"appendonly": "yes", "appendfsync": appendfsync}) as server:
        hammer = start_hammer(server.url, 1)
        for _ in range(CYCLES):
            before = hammer.answers
            time.sleep(random.uniform(0.05, 0.5))
            server.restart()
            deadline_s = time.monotonic() + 20
            while hammer.answers < before + 100 and time.monotonic() < deadline_s:
                time.sleep(0.02)
            assert hammer.answers >= before + 100, "it did not come back by itself"
        hammer.kill(answered)
        await asyncio.sleep(0.2)
        rows = await rows_of(server.url)
        await _check(server.url, check_events, rows)
    assert [key for key, is_there in answered.items() if (key in rows) != is_there] == []


async def test_a_server_that_hangs_is_answered_for_in_time_and_used_again_later(redis: RedisServer) -> None:
    async with FaultProxy("127.0.0.1", redis.port) as proxy:
        store = await opened(f"redis://127.0.0.1:{proxy.port}", timeout_s=0.2, prefix="hang:")
        await Awaiting(store).add([KEY], 1)
        proxy.hang()
        started_s = asyncio.get_running_loop().time()
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="redis"):
                await Awaiting(store).add([HeartKey("post", "u2")], 1)
            with pytest.raises(StoreUnavailable):
                await Awaiting(store).counts(["post"], "heart")
            with pytest.raises(StoreUnavailable):
                await store.find("0" * 26)
        assert asyncio.get_running_loop().time() - started_s < 9 * 0.2 + 1
        await proxy.heal()
        await asyncio.sleep(0.3)

        [outcome] = await Awaiting(store).add([HeartKey("post", "u2")], 1)
        assert outcome.count == 2
        await store.close()


async def test_a_server_that_is_down_is_answered_for_at_once(redis: RedisServer) -> None:
    async with FaultProxy("127.0.0.1", redis.port) as proxy:
        store = await opened(f"redis://127.0.0.1:{proxy.port}", prefix="down:")
        await proxy.refuse()
        started_s = asyncio.get_running_loop().time()
        for _ in range(50):
            with pytest.raises(StoreUnavailable):
                await Awaiting(store).add([KEY], 1)
        assert asyncio.get_running_loop().time() - started_s < 2
        await proxy.heal()
        await asyncio.sleep(0.3)
        assert (await Awaiting(store).add([KEY], 1))[0].changed
        await store.close()


async def test_scripts_that_the_server_lost_are_loaded_again(open_redis: Open, tmp_path: Path) -> None:
    store = await open_redis(tmp_path)
    await store._pipe.ask("SCRIPT", "FLUSH")
    [outcome] = await Awaiting(store).add([KEY], 1)
    assert outcome.changed
    await store.close()


async def test_a_server_out_of_memory_refuses_and_nothing_is_half_done() -> None:
    with RedisServer(settings={**DURABLE, "maxmemory": "3mb"}) as server:
        # A disk that is busy with others may keep one fsync for longer than the usual 2 s, and
        # "no answer" is no refusal for want of memory.
        store = await opened(server.url, timeout_s=60)
        refusals: list[str] = []
        for user in range(20_000):
            try:
                await Awaiting(store).add([HeartKey("post", f"u{user}" + "x" * 200)], 1)
            except StoreUnavailable as error:
                refusals.append(error.detail)
                if len(refusals) > 20:
                    break
        assert len(refusals) > 20
        assert all("OOM" in detail for detail in refusals)
        await store.close()
        assert await rows_of(server.url)


async def test_nodes_that_share_a_server_agree_on_every_count_and_version(
    open_redis: Open, tmp_path: Path
) -> None:
    nodes = [await open_redis(tmp_path) for _ in range(3)]
    dice = random.Random(5)
    heard: dict[str, list[tuple[int, int]]] = {}

    async def play(node: RedisHeartStore) -> None:
        for _ in range(60):
            keys = [HeartKey(f"t{dice.randrange(3)}", f"u{dice.randrange(8)}") for _ in range(4)]
            call = Awaiting(node).add if dice.random() < 0.6 else Awaiting(node).remove
            for key, outcome in zip(keys, await call(keys, 1), strict=True):
                if outcome.changed:
                    heard.setdefault(key.target_id, []).append((outcome.version, outcome.count))

    await asyncio.gather(*(play(node) for node in nodes))

    for target, changes in heard.items():
        changes.sort()
        # Every change was told to exactly one caller, and none is missing.
        assert [version for version, _ in changes] == list(range(1, len(changes) + 1))
        assert all(abs(a[1] - b[1]) == 1 for a, b in itertools.pairwise(changes))
        for node in nodes:
            [count] = await Awaiting(node).counts([target], "heart")
            assert count == Count(target, changes[-1][1], changes[-1][0])
    for node in nodes:
        await node.close()


@pytest.mark.parametrize(
    ("forgetful", "message"),
    [
        ({}, "appendonly yes"),
        ({"appendonly": "yes", "appendfsync": "no"}, "appendfsync"),
        ({**DURABLE, "maxmemory-policy": "allkeys-lru"}, "noeviction"),
        ({**DURABLE, "cluster-enabled": "yes"}, "cluster"),
    ],
)
async def test_a_server_that_may_forget_hearts_is_refused(forgetful: dict[str, str], message: str) -> None:
    if "cluster-enabled" in forgetful:
        # By itself it takes the port 10,000 higher, which need not exist.
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            forgetful = {**forgetful, "cluster-port": str(free.getsockname()[1])}
    with RedisServer(settings=forgetful) as server:
        store = RedisHeartStore(server.url, clock=SystemClock())
        with pytest.raises(SettingsError, match=message):
            await store.open()
        await store.close()


async def test_a_server_that_does_not_tell_its_settings_is_refused() -> None:
    with RedisServer(settings=DURABLE) as server:
        store = RedisHeartStore(server.url, clock=SystemClock())
        await store._pipe.ask("ACL", "SETUSER", "default", "-config")
        with pytest.raises(SettingsError, match=r"hearts\.redis\.check"):
            await store.open()
        await store.close()


async def test_a_check_that_is_switched_off_takes_the_server_as_it_is() -> None:
    with RedisServer() as server:
        store = await opened(server.url, check=False)
        assert (await Awaiting(store).add([KEY], 1))[0].changed
        await store.close()


async def test_applications_share_a_server_by_prefix(redis: RedisServer) -> None:
    one, two = await opened(redis.url, prefix="one:"), await opened(redis.url, prefix="two:")
    await Awaiting(one).add([KEY], 1)
    assert await Awaiting(two).counts(["post"], "heart") == [Count("post", 0, 0)]
    assert [heart async for hearts in two.scan() for heart in hearts] == []
    await one.close()
    await two.close()


async def test_the_password_is_in_no_message() -> None:
    with RedisServer(settings={**DURABLE, "requirepass": "r1ght-w0rd"}) as server:
        wrong = RedisHeartStore(f"redis://:S3cr%40t-word@127.0.0.1:{server.port}/0", clock=SystemClock())
        with pytest.raises(StoreUnavailable) as refused:
            await wrong.open()
        await wrong.close()
        assert "S3cr" not in refused.value.detail
        right = await opened(f"redis://:r1ght-w0rd@127.0.0.1:{server.port}/3")
        assert (await Awaiting(right).add([KEY], 1))[0].changed
        await right.close()
    with pytest.raises(SettingsError) as malformed:
        RedisHeartStore("http://u:S3cr%40t-word@host", clock=SystemClock())
    assert "S3cr" not in malformed.value.detail


async def test_what_is_no_redis_is_unavailable() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = RedisHeartStore(f"redis://127.0.0.1:{port}", clock=SystemClock())
    with pytest.raises(StoreUnavailable):
        await store.open()
    await store.close()
    server.close()


async def test_beyond_the_queue_callers_are_told_to_come_back(redis: RedisServer) -> None:
    store = await opened(redis.url, queue_keys=500, prefix="queue:")
    answers: list[object] = []
    for user in range(600):
        store.add([HeartKey("post", f"u{user}")], 1, answers.append)
    assert store.refused == len(answers) == 100
    await store.close()
    assert sum(isinstance(answer, list) for answer in answers) == 500


@settings(max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.just(0)),
            st.tuples(st.just("remove"), st.integers(0, 30)),
            st.tuples(st.just("page"), st.integers(1, 4)),
        ),
        max_size=40,
    ),
    st.integers(0, 12),
)
def test_a_walk_gives_what_was_there_when_it_began(steps: list[tuple[str, int]], begun_with: int) -> None:
    """Against a plain dictionary, with changes anywhere between the pages."""
    numbers = itertools.count()

    def new() -> Heart:
        number = next(numbers)
        return Heart(f"{number:026d}", HeartKey("t", f"u{number}"), 1)

    there = {heart.id: heart for heart in (new() for _ in range(begun_with))}
    at_begin, walk, given_out = set(there), Walk(), []

    def page(size: int) -> bool:
        hearts = sorted(heart for heart in there.values() if heart.id > walk.reached)[:size]
        if hearts:
            walk.reached = hearts[-1].id
        given_out.extend(walk.keep(hearts))
        return bool(hearts)

    for what, number in steps:
        if what == "page":
            page(number)
        elif what == "add":
            heart = new()
            there[heart.id] = heart
            walk.note([Outcome(heart, 1, 1, True)], is_add=True)
        elif there:
            heart = there.pop(sorted(there)[number % len(there)])
            walk.note([Outcome(heart, 1, 1, True)], is_add=False)
    while page(3):
        pass
    given_out.extend(walk.rest())

    assert sorted(heart.id for heart in given_out) == sorted(at_begin)
