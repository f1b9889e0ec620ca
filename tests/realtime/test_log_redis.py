"""The channel log in Redis keeps the port's promises, and survives what happens to servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.backends.redis_pipe import RedisPipe
from heartcast.core.errors import StoreUnavailable
from heartcast.realtime.log import Complete, Gap, Position, Publication
from heartcast.realtime.log.redis import SCRIPTS, Names, RedisLog, entry_of, publication_of
from heartcast.testing import ManualClock
from heartcast.testing.contracts.channel_log import (
    CHANNEL,
    HISTORY_SIZE,
    HISTORY_TTL_S,
    ChannelLogContract,
    append,
    history,
    since,
)
from heartcast.testing.eventually import eventually
from heartcast.testing.fault_proxy import FaultProxy
from heartcast.testing.redis_server import RedisServer


@pytest.fixture
async def pipe(redis: RedisServer) -> AsyncIterator[RedisPipe]:
    pipe = RedisPipe(redis.url, timeout_s=5.0, scripts=SCRIPTS)
    yield pipe
    await pipe.close()


@pytest.fixture
def log(pipe: RedisPipe, names: Names, clock: ManualClock) -> RedisLog:
    return RedisLog(pipe, lambda channel: (HISTORY_SIZE, HISTORY_TTL_S), names=names, now_ms=clock.wall_ms)


@pytest.fixture
def lose(log: RedisLog) -> Callable[[], RedisLog]:
    def forget() -> RedisLog:
        log.remove(CHANNEL)
        return log

    return forget


class Forgetful(FaultProxy):
    """In front of a server that loses its scripts whenever one is called."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__("127.0.0.1", server.port)
        self._redis = server
        self.is_forgetful = False
        self.forgotten = 0

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        while chunk := await reader.read(65_536):
            if self.is_forgetful and not is_answer and b"EVALSHA" in chunk:
                self._redis.command("SCRIPT", "FLUSH")
                self.forgotten += 1
            writer.write(chunk)
        writer.close()


class TestRedisLog(ChannelLogContract):
    """Runs every guarantee against the log in Redis."""


async def test_all_nodes_have_one_log(
    log: RedisLog, redis: RedisServer, names: Names, clock: ManualClock
) -> None:
    pipe = RedisPipe(redis.url, timeout_s=5.0, scripts=SCRIPTS)
    limits = (HISTORY_SIZE, HISTORY_TTL_S)
    other = RedisLog(pipe, lambda channel: limits, names=names, now_ms=clock.wall_ms)
    first = await append(log, b"1")
    second = await append(other, b"2")

    assert second == Position(2, first.epoch)
    assert await history(log, None, 10) == [b"1", b"2"]
    await pipe.close()


async def test_a_server_that_knows_less_than_a_node_begins_another_life(log: RedisLog) -> None:
    position = await append(log, b"1")
    log.witness = lambda channel: Position(position.offset + 3, position.epoch)

    after = await append(log, b"2")

    assert after.offset == 1
    assert after.epoch != position.epoch
    assert isinstance(await since(log, position), Gap)


async def test_a_clients_claim_does_not_end_a_life(log: RedisLog) -> None:
    position = await append(log, b"1")

    assert isinstance(await since(log, Position(1_000, position.epoch)), Gap)
    assert isinstance(await since(log, position), Complete)


async def test_flushed_scripts_are_loaded_again_and_the_order_of_appends_is_kept(
    log: RedisLog, pipe: RedisPipe
) -> None:
    await append(log, b"1")
    await pipe.ask("SCRIPT", "FLUSH")
    answers: list[Position | StoreUnavailable] = []
    for data in (b"2", b"3"):
        log.append(CHANNEL, data, None, None, answers.append, key=data.decode())
    await asyncio.sleep(0)  # these are on their way, the next one comes after them
    log.append(CHANNEL, b"4", None, None, answers.append)
    await eventually(lambda: len(answers) == 3)

    assert [answer.offset for answer in answers if isinstance(answer, Position)] == [2, 3, 4]
    assert pipe.connections == 2
    assert (await append(log, b"2", key="2")).offset == 2
    assert await history(log, None, 10) == [b"1", b"2", b"3", b"4"]


async def test_scripts_that_are_lost_again_and_again_fail_the_call_and_a_key_makes_the_retry_safe(
    redis: RedisServer, names: Names, clock: ManualClock
) -> None:
    async with Forgetful(redis) as proxy:
        pipe = RedisPipe(f"redis://127.0.0.1:{proxy.port}/0", timeout_s=5.0, scripts=SCRIPTS)
        log = RedisLog(pipe, lambda channel: (HISTORY_SIZE, HISTORY_TTL_S), names=names, now_ms=clock.wall_ms)
        await append(log, b"1")
        proxy.is_forgetful = True
        answers: list[Position | StoreUnavailable] = []
        log.append(CHANNEL, b"2", None, None, answers.append, key="k")
        await eventually(lambda: answers)
        assert isinstance(answers[0], StoreUnavailable)
        assert proxy.forgotten == 2

        proxy.is_forgetful = False
        assert (await append(log, b"2", key="k")).offset == 2
        assert (await append(log, b"2", key="k")).offset == 2
        assert await history(log, None, 10) == [b"1", b"2"]
        await pipe.close()


async def test_more_than_a_page_of_old_entries_leaves_with_one_question(
    log: RedisLog, clock: ManualClock
) -> None:
    for number in range(HISTORY_SIZE):
        await append(log, b"%d" % number)
    clock.advance(HISTORY_TTL_S)

    assert await history(log, None, 100) == []


_json_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


@settings(deadline=None)
@given(
    st.dictionaries(_json_text, _json_text, max_size=3),
    st.none() | _json_text,
    _json_text,
    st.integers(0, 1 << 53),
)
def test_an_entry_comes_back_as_it_was(
    tags: dict[str, str], client: str | None, text: str, offset: int
) -> None:
    info = json.dumps({"user": client}).encode() if client is not None else None
    publication = Publication(json.dumps(text).encode(), offset, tags or None, info)

    assert publication_of(entry_of(publication.data, tags, info), offset) == publication
