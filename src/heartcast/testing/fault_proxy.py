"""A TCP proxy that breaks on command: for testing what happens when a server does.

    async with FaultProxy("127.0.0.1", port) as proxy:
        ...                       # connect to proxy.port
        proxy.hang()              # connections stay open and nothing comes through
        await proxy.heal()

Faults take effect on connections that exist and on new ones.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Literal

Mode = Literal["pass", "refuse", "hang", "slow"]


class FaultProxy:
    """Forwards one local port to a server.

    Args:
        host: The server's host.
        port: The server's port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._mode: Mode = "pass"
        self._delay_s = 0.0
        self._opened = asyncio.Event()
        self._opened.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        """The local port, known once the proxy is entered."""
        self.accepted = 0
        """Connections taken from clients."""

    async def __aenter__(self) -> FaultProxy:
        await self._listen(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._unlisten()
        await self._cut()

    async def refuse(self) -> None:
        """Stop listening and cut what is connected: the server is dead."""
        self._mode = "refuse"
        await self._unlisten()
        await self._cut()

    def lead_to(self, host: str, port: int) -> None:
        """Send new connections to another server, as a load balancer does; those that exist stay."""
        self._target = host, port

    def hang(self) -> None:
        """Take everything and pass on nothing."""
        self._mode = "hang"
        self._opened.clear()

    def slow(self, delay_s: float) -> None:
        """Hold back every piece of an answer for so many seconds, > 0."""
        if not delay_s > 0:
            raise ValueError(f"delay_s: must be > 0, got {delay_s}")
        self._mode, self._delay_s = "slow", delay_s

    async def heal(self) -> None:
        """Pass everything again. Connections that hung are cut, as a server that comes back would."""
        hung, self._mode = self._mode == "hang", "pass"
        if hung:
            await self._cut()
        self._opened.set()
        if self._server is None:
            await self._listen(self.port)

    async def _listen(self, port: int) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _unlisten(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _cut(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for writer in list(self._writers):
            writer.close()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.accepted += 1
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._opened.wait()
                await self._forward(reader, writer)
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, server_writer))
                group.create_task(self._pump(server_reader, writer, is_answer=True))
        except* OSError:
            pass
        finally:
            server_writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        while chunk := await reader.read(65_536):
            await self._opened.wait()
            if is_answer and self._mode == "slow":
                await asyncio.sleep(self._delay_s)
            writer.write(chunk)
            await writer.drain()
        writer.close()
