"""Fetching one small document over HTTP, for URLs that somebody else may have chosen.

Everything is bounded: the time of the whole exchange, so that a server cannot drip one
byte a second for ever; the size; and where it may lead. The name is resolved once, every
address is judged, and the connection goes to the address that was judged: a name that
resolves differently the second time gains nothing. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import httptools

from heartcast.core.errors import Unavailable

_MAX_HEAD_BYTES = 65_536
_CHUNK_BYTES = 16_384


class Bounds(NamedTuple):
    """How far a fetch may go."""

    timeout_s: float
    """Seconds from the look-up of the name to the last byte."""
    max_bytes: int
    """Of the body."""
    allow_private: bool = False
    """Whether addresses inside this machine and its networks may be asked, and only they by plain http."""


async def get(url: str, bounds: Bounds, tls: ssl.SSLContext | None = None) -> bytes:
    """The body of a 200 answer.

    Args:
        tls: Whose certificates are believed; None: the system's.

    Raises:
        Unavailable: code ``fetch_failed``; the address is refused, or there was no whole
            200 answer in time. The message never holds the query or credentials of the URL.
    """
    split = urlsplit(url)
    try:
        async with asyncio.timeout(bounds.timeout_s):
            return await _get(split, bounds, tls)
    except TimeoutError:
        reason = f"no whole answer within {bounds.timeout_s:g} s"
    except (OSError, httptools.HttpParserError, UnicodeError, ValueError) as error:
        reason = str(error) or type(error).__name__
    raise Unavailable(f"cannot fetch from {split.hostname}: {reason}", code="fetch_failed") from None


async def _get(url: SplitResult, bounds: Bounds, tls: ssl.SSLContext | None) -> bytes:
    host, is_tls = url.hostname or "", url.scheme == "https"
    port = url.port or (443 if is_tls else 80)
    address = await judged_address(host, port, bounds.allow_private, is_tls=is_tls)
    context = (tls or ssl.create_default_context()) if is_tls else None
    reader, writer = await asyncio.open_connection(
        address, port, ssl=context, server_hostname=host if is_tls else None
    )
    try:
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        authority = url.netloc.rpartition("@")[2]
        writer.write(
            f"GET {path} HTTP/1.1\r\nhost: {authority}\r\naccept: application/json\r\n"
            "accept-encoding: identity\r\nuser-agent: heartcast\r\nconnection: close\r\n\r\n".encode("ascii")
        )
        return await _read(reader, bounds.max_bytes)
    finally:
        # Not closed politely: a server that does not answer would not say goodbye either.
        writer.transport.abort()


async def judged_address(host: str, port: int, allow_private: bool, *, is_tls: bool) -> str:
    """The address to connect to for this name; all of its addresses must be allowed.

    Raises:
        ValueError: one of them may not be asked, or not in plain text.
        OSError: there is no such name.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    private = [address for address in addresses if not is_public(address)]
    if private and not allow_private:
        raise ValueError(f"it leads to {private[0]}, which is not a public address")
    if not is_tls and len(private) < len(addresses):
        raise ValueError("a public address is asked by https only")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, also when IPv6 wraps an IPv4 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _NAT64:
            inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF))
        if any(wrapped is not None and not is_public(str(wrapped)) for wrapped in inner):
            return False
        if ip.ipv4_mapped is not None:
            return True
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class _Answer:
    """What the parser reports."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.body = b""
        self.is_whole = False
        """Whether the last byte has come."""

    def on_body(self, data: bytes) -> None:
        self.body += data
        if len(self.body) > self._max_bytes:
            raise ValueError(f"the answer is longer than {self._max_bytes} bytes")

    def on_message_complete(self) -> None:
        self.is_whole = True


async def _read(reader: asyncio.StreamReader, max_bytes: int) -> bytes:
    answer = _Answer(max_bytes)
    parser = httptools.HttpResponseParser(answer)
    left = max_bytes + _MAX_HEAD_BYTES
    while data := await reader.read(_CHUNK_BYTES):
        left -= len(data)
        if left < 0:
            raise ValueError("the answer is too long")
        parser.feed_data(data)
        if answer.is_whole:
            return _checked(answer.body, parser.get_status_code())
    raise ValueError("the answer was cut off")


def _checked(body: bytes, status: int) -> bytes:
    if status != 200:
        raise ValueError(f"it answered {status}")
    return body
