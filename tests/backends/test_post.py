"""Posting to servers that answer well, badly, late, never, or from where nobody should be posted to."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.backends.exchange import Reply, retry_after_s
from heartcast.backends.fetch import Bounds
from heartcast.backends.post import Poster, check_url
from heartcast.core.errors import InvalidInput, Unavailable
from heartcast.testing import ManualClock
from heartcast.testing.providers import Answer, Receiver, hung, resetting, slow_start, storm, throttling

BOUNDS = Bounds(timeout_s=2.0, max_bytes=1000, allow_private=True)
SHORT = BOUNDS._replace(timeout_s=0.2)


@asynccontextmanager
async def poster(bounds: Bounds = BOUNDS, **options: Any) -> AsyncIterator[Poster]:
    made = Poster(bounds, **options)
    try:
        yield made
    finally:
        made.close()


@asynccontextmanager
async def raw_server(*answers: bytes, ends: bool = False) -> AsyncIterator[str]:
    """Answers one request after the other with these bytes."""
    tasks: set[Any] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with suppress(OSError, asyncio.IncompleteReadError):
            for answer in answers:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
            if not ends:
                await reader.read()
        writer.transport.abort()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/hook"
    finally:
        listening.close()
        if tasks:
            # The poster has left by now, so they end by themselves.
            await asyncio.wait(tasks, timeout=2)


async def test_body_and_headers_arrive_and_the_answer_comes_back() -> None:
    async with Receiver() as receiver, poster() as post:
        receiver.behave = lambda request: Answer(202, body=b"thanks")
        reply = await post.post(f"{receiver.url}?a=b", b'{"a": 1}', {"webhook-id": "id"})
    assert reply == Reply(202, None, b"thanks")
    (request,) = receiver.received
    assert (request.path, request.body, request.id) == ("/hook?a=b", b'{"a": 1}', "id")
    assert request.headers["host"] == receiver.url.split("/")[2]


async def test_one_connection_carries_many_posts() -> None:
    async with Receiver() as receiver, poster() as post:
        for number in range(20):
            assert (await post.post(receiver.url, b"%d" % number, {})).status == 204
        assert receiver.connections == post.opened == post.connections == 1


async def test_a_host_gets_no_more_connections_than_its_bound() -> None:
    async with Receiver() as receiver, poster(per_host=3) as post:
        receiver.behave = lambda request: Answer(after_s=0.01)
        replies = await asyncio.gather(*(post.post(receiver.url, b"", {}) for _ in range(30)))
        assert [reply.status for reply in replies] == [204] * 30
        assert receiver.connections == 3


async def test_waiting_for_a_connection_counts_against_the_time() -> None:
    async with Receiver() as receiver, poster(SHORT, per_host=1) as post:
        receiver.behave = hung
        results = await asyncio.gather(
            *(post.post(receiver.url, b"", {}) for _ in range(3)), return_exceptions=True
        )
        assert all(isinstance(result, Unavailable) for result in results)
        receiver.behave = lambda request: Answer()
        assert (await post.post(receiver.url, b"", {})).status == 204


async def test_every_status_is_an_answer_and_redirects_are_not_followed() -> None:
    async with Receiver() as receiver, poster() as post:
        for status in (200, 302, 404, 410, 500, 503):
            receiver.behave = storm(100, status)
            assert (await post.post(receiver.url, b"", {})).status == status
    assert len(receiver.received) == 6


async def test_retry_after_is_read() -> None:
    async with Receiver() as receiver, poster() as post:
        receiver.behave = throttling(1, retry_after_s=7)
        assert await post.post(receiver.url, b"", {}) == Reply(429, 7.0, b"")


async def test_a_server_that_never_answers_is_left_in_time() -> None:
    async with Receiver() as receiver, poster(SHORT) as post:
        receiver.behave = hung
        with pytest.raises(Unavailable, match=r"no whole answer within 0\.2 s") as caught:
            await post.post(receiver.url, b"", {})
        assert caught.value.code == "post_failed"
        assert post.connections == 0


async def test_a_server_that_is_slow_at_first_is_waited_for() -> None:
    async with Receiver() as receiver, poster() as post:
        receiver.behave = slow_start(0.1, requests=5)
        statuses = [(await post.post(receiver.url, b"", {})).status for _ in range(6)]
    assert statuses == [204] * 6


async def test_a_cut_connection_is_no_answer() -> None:
    async with Receiver() as receiver, poster() as post:
        receiver.behave = resetting
        with pytest.raises(Unavailable, match="no answer"):
            await post.post(receiver.url, b"", {})


async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced() -> None:
    async with Receiver() as receiver, poster() as post:
        await post.post(receiver.url, b"1", {})
        receiver.behave = lambda request: Answer(resets=request.body == b"2" and receiver.connections == 1)
        assert (await post.post(receiver.url, b"2", {})).status == 204
    # It was sent twice: the first may have been read before the cut.
    assert [request.body for request in receiver.received] == [b"1", b"2", b"2"]


async def test_a_server_that_lowers_its_limit_gets_the_rest_later() -> None:
    async with Receiver() as receiver, poster(per_host=4) as post:
        receiver.behave = lambda request: Answer(after_s=0.02)
        await asyncio.gather(*(post.post(receiver.url, b"", {}) for _ in range(8)))
        receiver.limit(1)
        results = await asyncio.gather(
            *(post.post(receiver.url, b"", {}) for _ in range(8)), return_exceptions=True
        )
        assert any(isinstance(result, Unavailable) for result in results)
        assert any(isinstance(result, Reply) for result in results)
        assert (await post.post(receiver.url, b"", {})).status == 204


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
BAD = {
    "an endless head": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200_000,
    "cut off": OK[:-1],
    "nothing": b"",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
async def test_what_is_no_answer_is_unavailable(answer: bytes) -> None:
    async with raw_server(answer, ends=True) as url, poster() as post:
        with pytest.raises(Unavailable) as caught:
            await post.post(f"{url}?secret=s", b"", {})
        assert "secret" not in caught.value.detail
        assert post.connections == 0


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nretry-after: 9\r\n\r\n" + OK,
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    ],
    ids=["length", "until the end", "chunked", "after others", "1.0"],
)
async def test_every_form_of_answer_is_understood(answer: bytes) -> None:
    async with raw_server(answer, ends=True) as url, poster() as post:
        assert await post.post(url, b"", {}) == Reply(200, None, b"{}")


async def test_of_a_long_answer_the_beginning_is_kept_and_the_connection_is_not() -> None:
    async with Receiver() as receiver, poster() as post:
        receiver.behave = lambda request: Answer(200, body=b"x" * 500_000)
        assert await post.post(receiver.url, b"", {}) == Reply(200, None, b"x" * 1000)
        assert post.connections == 0


async def test_a_second_answer_to_one_post_is_not_taken_for_the_next_ones() -> None:
    async with raw_server(OK + b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n") as url, poster() as post:
        assert (await post.post(url, b"", {})).status == 200
        assert (await post.post(url, b"", {})).status == 200
        assert post.opened == 2


async def test_old_and_idle_connections_are_not_used_again() -> None:
    clock = ManualClock()
    async with Receiver() as receiver, poster(clock=clock, idle_s=20, max_age_s=30) as post:
        for wait_s, opened in ((0, 1), (19, 1), (12, 2), (21, 3)):
            clock.advance(wait_s)
            await post.post(receiver.url, b"", {})
            assert post.opened == opened
        assert post.connections == 1


async def test_no_more_idle_connections_are_kept_than_allowed() -> None:
    async with Receiver() as one, Receiver() as two, poster(max_idle=1) as post:
        await post.post(one.url, b"", {})
        await post.post(two.url, b"", {})
        assert post.connections == 1


async def test_a_post_that_is_given_up_frees_its_place() -> None:
    async with Receiver() as receiver, poster(per_host=1) as post:
        receiver.behave = hung
        posts = [asyncio.create_task(post.post(receiver.url, b"", {})) for _ in range(3)]
        async with asyncio.timeout(2):
            while not receiver.received:
                await asyncio.sleep(0)
        receiver.behave = lambda request: Answer()
        posts[1].cancel()
        posts[0].cancel()
        assert (await posts[2]).status == 204


async def test_closing_ends_what_is_under_way() -> None:
    async with Receiver() as receiver:
        receiver.behave = hung
        post = Poster(BOUNDS, per_host=1)
        posts = [asyncio.create_task(post.post(receiver.url, b"", {})) for _ in range(2)]
        async with asyncio.timeout(2):
            while not receiver.received:
                await asyncio.sleep(0)
        post.close()
        results = await asyncio.gather(*posts, return_exceptions=True)
        assert all(isinstance(result, Unavailable | asyncio.CancelledError) for result in results)
        with pytest.raises(Unavailable):
            await post.post(receiver.url, b"", {})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254", "[::1]", "2130706433"])
async def test_inner_addresses_are_not_posted_to_unless_allowed(host: str) -> None:
    async with poster(BOUNDS._replace(allow_private=False)) as post:
        with pytest.raises(Unavailable, match="not a public address"):
            await post.post(f"https://{host}:9/hook", b"", {})


async def test_a_name_is_resolved_once_and_the_judged_address_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    async def resolve(host: str, port: int, **_: object) -> list[Any]:
        # The first answer is harmless, the second is what an attacker hopes for.
        asked.append(host)
        address = "8.8.8.8" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    connected: list[str] = []

    async def connect(make: object, host: str, port: int, **_: object) -> None:
        connected.append(host)
        raise OSError("stopped here")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    monkeypatch.setattr(loop, "create_connection", connect)
    async with poster(BOUNDS._replace(allow_private=False)) as post:
        with pytest.raises(Unavailable, match="stopped here"):
            await post.post("https://rebinding.example/hook", b"", {})
    assert (asked, connected) == (["rebinding.example"], ["8.8.8.8"])


@pytest.mark.parametrize(
    "headers", [{"a": "b\r\nc: d"}, {"a b": "c"}, {"Host": "x"}, {"content-length": "1"}, {"a": "\x00"}]
)
async def test_headers_that_would_change_the_request_are_not_sent(headers: dict[str, str]) -> None:
    async with Receiver() as receiver, poster() as post:
        with pytest.raises(ValueError, match="cannot be sent"):
            await post.post(receiver.url, b"", headers)
        assert receiver.received == []


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("", "webhook_url"),
        ("ftp://example.com/", "webhook_url"),
        ("https://", "webhook_url"),
        ("https://user:pass@example.com/", "webhook_url"),
        ("https://example.com:0/", "webhook_url"),
        ("https://example.com:99999/", "webhook_url"),
        ("https://example.com/a b", "webhook_url"),
        ("https://example.com/\r\nx: y", "webhook_url"),
        ("https://exämple.com/", "webhook_url"),
        ("https://example.com/" + "a" * 2000, "webhook_url"),
        ("http://example.com/", "webhook_url"),
        ("https://127.0.0.1/", "webhook_private_address"),
        ("https://[::ffff:10.0.0.1]/", "webhook_private_address"),
        ("https://localhost:8443/", "webhook_private_address"),
    ],
)
def test_urls_that_may_not_be_posted_to_are_refused(url: str, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_url(url, allow_private=False, pointer="/url")
    assert (caught.value.code, caught.value.pointer) == (code, "/url")


def test_private_urls_are_fine_where_they_are_allowed() -> None:
    check_url("https://example.com/hook?a=b", allow_private=False)
    check_url("http://127.0.0.1:8000/hook", allow_private=True)


@given(st.text(max_size=100))
def test_any_text_is_judged(url: str) -> None:
    with suppress(InvalidInput):
        check_url(url, allow_private=False)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 3 ", 3.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("Tue, 99 Nov 2023 22:00:00 GMT", None),
    ],
)
def test_both_forms_of_retry_after_are_understood(value: str, seconds: float | None) -> None:
    assert retry_after_s(value, 1_700_000_000_000) == seconds


@given(st.text(max_size=60))
def test_any_retry_after_is_survived(value: str) -> None:
    seconds = retry_after_s(value, 1_700_000_000_000)
    assert seconds is None or seconds >= 0
