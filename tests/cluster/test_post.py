"""The post between nodes: on one street of memory, with the loop's real clock."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.cluster import post as module
from heartcast.cluster.carrier.memory import MemoryCarrier, MemoryStreet
from heartcast.cluster.carrier.redis import RedisCarrier
from heartcast.cluster.post import Answer, Post
from heartcast.core.errors import StoreUnavailable
from heartcast.testing.redis_server import RedisServer


@pytest.fixture
async def posts() -> AsyncIterator[dict[str, Post]]:
    loop = asyncio.get_running_loop()
    street = MemoryStreet(loop.call_soon)
    posts = {name: Post(name, MemoryCarrier(street), loop.call_later) for name in ("a", "b", "c")}
    for post in posts.values():
        await post.open()
    yield posts
    for post in posts.values():
        await post.close()


async def asked(post: Post, node: str, subject: str, body: bytes, timeout_s: float = 2.0) -> Any:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    post.call(node, subject, body, future.set_result, timeout_s)
    return await future


async def test_what_one_node_is_told_arrives_in_order_with_its_sender(posts: dict[str, Post]) -> None:
    seen: list[tuple[str, bytes]] = []
    posts["b"].on("news", lambda sender, body, answer: seen.append((sender, body)))
    for n in range(5):
        posts["a"].tell("b", "news", bytes([n]))
    posts["b"].tell("b", "news", b"own")
    posts["a"].tell("c", "news", b"nobody takes it there")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen == [("a", bytes([n])) for n in range(5)] + [("b", b"own")]


async def test_telling_all_means_everybody_else(posts: dict[str, Post]) -> None:
    seen: list[str] = []
    for name, post in posts.items():
        post.on("news", lambda sender, body, answer, name=name: seen.append(name))  # type: ignore[misc]
    posts["a"].tell_all("news", b"x")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sorted(seen) == ["b", "c"]


async def test_a_call_is_answered_also_later_and_by_oneself(posts: dict[str, Post]) -> None:
    waiting: list[Answer] = []
    posts["b"].on("double", lambda sender, body, answer: answer(2 * body))
    posts["b"].on("later", lambda sender, body, answer: waiting.append(answer))
    assert await asked(posts["a"], "b", "double", b"x") == b"xx"
    assert await asked(posts["b"], "b", "double", b"y") == b"yy"
    later = asyncio.ensure_future(asked(posts["c"], "b", "later", b""))
    while not waiting:
        await asyncio.sleep(0)
    waiting[0](b"first")
    waiting[0](b"second")
    assert await later == b"first"


async def test_a_call_ends_when_the_other_is_gone_refuses_raises_or_is_silent(
    posts: dict[str, Post],
) -> None:
    def broken(sender: str, body: bytes, answer: Answer) -> None:
        raise KeyError("what it looked for")

    posts["b"].on("broken", broken)
    posts["b"].on("silent", lambda sender, body, answer: None)
    for node, subject, words in (
        ("z", "double", "the other node is gone"),
        ("b", "unknown", "nobody takes 'unknown'"),
        ("b", "broken", "KeyError"),
        ("b", "silent", "did not answer within 0.01 s"),
    ):
        answer = await asked(posts["a"], node, subject, b"", timeout_s=0.01)
        assert isinstance(answer, StoreUnavailable)
        assert words in answer.detail
    assert posts["b"].failed == 1


async def test_more_calls_than_may_wait_are_refused(
    posts: dict[str, Post], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CALLS", 2)
    posts["b"].on("silent", lambda sender, body, answer: None)
    answers: list[Any] = []
    for _ in range(2):
        posts["a"].call("b", "silent", b"", answers.append)
    assert "too many" in (await asked(posts["a"], "b", "silent", b"")).detail
    assert answers == []
    await posts["a"].close()
    assert [answer.detail for answer in answers] == ["this node is stopping"] * 2


@given(st.binary(max_size=60))
def test_bytes_that_nobody_of_ours_wrote_are_counted_and_dropped(noise: bytes) -> None:
    street = MemoryStreet(lambda callback: None)
    post = Post("a", MemoryCarrier(street), lambda delay, callback: None)  # type: ignore[arg-type, return-value]
    post._arrived(noise)
    assert post.failed in (0, 1)


async def test_two_answers_to_one_subject_are_refused(posts: dict[str, Post]) -> None:
    posts["a"].on("news", lambda sender, body, answer: None)
    with pytest.raises(ValueError, match="has a handler already"):
        posts["a"].on("news", lambda sender, body, answer: None)


async def test_calls_go_through_a_real_server(valkey: RedisServer, prefix: str) -> None:
    loop = asyncio.get_running_loop()
    posts = [Post(name, RedisCarrier(valkey.url, prefix=prefix), loop.call_later) for name in ("a", "b")]
    for post in posts:
        await post.open()
    posts[1].on("double", lambda sender, body, answer: answer(2 * body))
    assert await asked(posts[0], "b", "double", b"\xff\x00") == b"\xff\x00\xff\x00"
    assert "is gone" in (await asked(posts[0], "z", "double", b"")).detail
    for post in posts:
        await post.close()
