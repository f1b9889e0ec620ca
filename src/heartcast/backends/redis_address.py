"""Where a Redis or Valkey listens, and how a raw connection begins there.

For connections that speak the protocol by themselves (``RedisPipe``, ``RedisSubscriber``);
those of redis-py read the URL on their own.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import SSLConnection, parse_url

from heartcast.core.errors import SettingsError

P = TypeVar("P", bound=asyncio.Protocol)


class RedisAddress:
    """One server's address.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``; never logged.

    Raises:
        SettingsError: the URL is not one.
    """

    __slots__ = ("_url", "_where")

    def __init__(self, url: str) -> None:
        try:
            self._where = parse_url(url)
        except ValueError:
            # The parser's words would quote the URL, and the password with it.
            raise SettingsError("must be like redis://user:password@host:6379/0") from None
        self._url = url

    @property
    def login(self) -> tuple[str, ...]:
        """The AUTH command a connection begins with; empty: none is needed."""
        where = self._where
        if "password" not in where:
            return ()
        user = (where["username"],) if where.get("username") else ()
        return ("AUTH", *user, where["password"])

    @property
    def database(self) -> int:
        """The database to SELECT; 0: the one that every connection is in."""
        return int(self._where.get("db", 0))

    async def connect(self, make: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """Open a connection and give it to the protocol that ``make`` makes.

        Raises:
            OSError: nobody listens there, or TLS was refused.
        """
        loop, where = asyncio.get_running_loop(), self._where
        if "path" in where:
            return await loop.create_unix_connection(make, where["path"])
        tls = ssl.create_default_context() if where.get("connection_class") is SSLConnection else None
        host, port = where.get("host", "localhost"), where.get("port", 6379)
        return await loop.create_connection(make, host, port, ssl=tls)

    def hide(self, text: str) -> str:
        """The text without the password of the URL."""
        password = urlsplit(self._url).password
        for secret in {password, unquote(password or "")} - {None, ""}:
            text = text.replace(str(secret), "[hidden]")
        return text
