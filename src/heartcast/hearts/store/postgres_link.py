"""Connections that are opened when needed, dropped after a failure, and rested after a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from heartcast.backends import postgres
from heartcast.backends.postgres import FAILURES, Connection
from heartcast.core.errors import SettingsError, StoreBusy, StoreUnavailable

T = TypeVar("T")

_REST_S = 0.25
"""After a failed attempt to connect: meanwhile callers are told so at once, not one timeout each."""


class Link:
    """One connection for one user at a time.

    Args:
        timeout_s: Longest wait for a connection and for each answer, seconds.
    """

    def __init__(self, dsn: str, timeout_s: float) -> None:
        self._dsn = dsn
        self._timeout_s = timeout_s
        self._connection: Connection | None = None
        self._refusal: StoreUnavailable | SettingsError | None = None
        self._rests_until_s = 0.0

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Connection]:
        """The connection. After any failure inside the block it is dropped, since what the
        server did is not known.

        Raises:
            StoreUnavailable, SettingsError: there is no connection, or the server failed.
        """
        connection = await self._opened()
        try:
            yield connection
        except FAILURES as error:
            self._drop()
            raise postgres.unavailable(error, self._dsn) from error
        except BaseException:
            self._drop()
            raise

    async def _opened(self) -> Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        now_s = asyncio.get_running_loop().time()
        if self._refusal is not None and now_s < self._rests_until_s:
            raise self._refusal
        try:
            self._connection = await postgres.connect(self._dsn, timeout_s=self._timeout_s)
        except (StoreUnavailable, SettingsError) as refusal:
            self._refusal = refusal
            self._rests_until_s = asyncio.get_running_loop().time() + _REST_S
            raise
        self._refusal = None
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        self._drop()


class Links:
    """A few connections for lists, each used by one query at a time.

    Args:
        size: Most queries under way, >= 1; more wait for up to ``timeout_s``.
    """

    def __init__(self, dsn: str, timeout_s: float, size: int) -> None:
        self._timeout_s = timeout_s
        self._links = [Link(dsn, timeout_s) for _ in range(size)]
        self._free: asyncio.LifoQueue[Link] = asyncio.LifoQueue()
        for link in self._links:
            self._free.put_nowait(link)

    async def ask(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a query.

        Raises:
            StoreUnavailable: no connection became free in time, or the server failed.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                link = await self._free.get()
        except TimeoutError:
            raise StoreBusy("too many lists wait for the database; try again") from None
        try:
            async with link.use() as connection:
                return await query(connection)
        except SettingsError as error:
            raise StoreUnavailable(error.detail) from None
        finally:
            self._free.put_nowait(link)

    async def close(self) -> None:
        for link in self._links:
            await link.close()
