"""Fetching from servers that answer well, badly, slowly or from where nobody should ask."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from heartcast.backends.fetch import Bounds, get, is_public
from heartcast.core.errors import Unavailable

BOUNDS = Bounds(timeout_s=0.5, max_bytes=1000, allow_private=True)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: bytes | Serve) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(answer, bytes):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
            else:
                await answer(reader, writer)
        except OSError:
            pass  # the client may hang up whenever it likes
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/keys?a=b"
    finally:
        listening.close()
        await listening.wait_closed()


async def test_the_body_of_a_good_answer_is_given() -> None:
    asked = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked = await reader.readuntil(b"\r\n\r\n")
        for piece in (OK[:20], OK[20:-1], OK[-1:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    async with server(serve) as url:
        assert await get(url, BOUNDS) == b"{}"
    assert asked.startswith(b"GET /keys?a=b HTTP/1.1\r\nhost: 127.0.0.1:")


async def test_a_chunked_answer_is_joined() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
    async with server(chunked) as url:
        assert await get(url, BOUNDS) == b"{}"


BAD = {
    "a redirect": b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n",
    "an error": b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\n{}",
    "too long": b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n" + b"x" * 5000,
    "an endless head": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200_000,
    "cut off": OK[:-1],
    "nothing": b"",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
async def test_a_bad_answer_is_unavailable(answer: bytes) -> None:
    async with server(answer) as url:
        with pytest.raises(Unavailable) as caught:
            await get(url, BOUNDS)
    assert caught.value.code == "fetch_failed"
    assert "a=b" not in caught.value.detail


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nx: ", OK[:-1]], ids=["silent", "head", "body"])
async def test_a_server_that_drips_is_left_in_time(begin: bytes) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while begin.endswith(b": ") and not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)
        await reader.read()

    async with server(drip) as url:
        started_s = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable, match=r"within 0\.5 s|reset|cut off"):
            await get(url, BOUNDS)
        assert asyncio.get_running_loop().time() - started_s < 2


async def test_nobody_there_is_unavailable() -> None:
    async with server(OK) as url:
        pass
    with pytest.raises(Unavailable):
        await get(url, BOUNDS)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "[::1]", "2130706433"]
)
async def test_inner_addresses_are_not_asked_unless_allowed(scheme: str, host: str) -> None:
    with pytest.raises(Unavailable, match="not a public address"):
        await get(f"{scheme}://{host}:9/keys", BOUNDS._replace(allow_private=False))


async def test_a_public_address_is_not_asked_by_plain_http() -> None:
    with pytest.raises(Unavailable, match="https only"):
        await get("http://8.8.8.8/keys", BOUNDS)


async def test_a_certificate_nobody_vouches_for_is_refused() -> None:
    async with server(OK) as url:
        with pytest.raises(Unavailable):
            await get(url.replace("http:", "https:"), BOUNDS)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "240.0.0.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::"),
    ],
)
def test_inner_addresses_are_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_known(address: str) -> None:
    assert is_public(address)
