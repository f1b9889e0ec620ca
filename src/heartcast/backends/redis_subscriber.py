"""Redis or Valkey pub/sub on one connection that comes back by itself.

Pub/sub keeps nothing: what is published while the connection is away is lost. So whoever
subscribes is told each time the subscriptions hold again, and looks for what it missed.
A connection on which nothing comes for a while, not even the answer to a PING, is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import hiredis

from heartcast.backends.redis_address import RedisAddress
from heartcast.backends.redis_pipe import pack

_REST_S = 0.25
"""Between two attempts to connect."""
_READ_BYTES = 65_536


class RedisSubscriber:
    """Make it on a running loop, ``close`` it there.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``; never logged.
        on_message: Takes channel and message; what it raises is counted in ``failed``.
        on_subscribed: Called whenever all subscriptions hold, after each connect.
        on_confirmed: Called whenever one channel's subscription holds.
        on_lost: Called whenever the connection is lost, and after each vain attempt to make one.
        timeout_s: Longest wait for a connection, and for a sign of life after that long a silence.
        is_sharded: Use SSUBSCRIBE, which reaches only the shard of a cluster that has the channel.

    Raises:
        SettingsError: the URL is not one.
    """

    def __init__(
        self,
        url: str,
        *,
        on_message: Callable[[str, bytes], None],
        on_subscribed: Callable[[], None] = lambda: None,
        on_confirmed: Callable[[str], None] = lambda channel: None,
        on_lost: Callable[[], None] = lambda: None,
        timeout_s: float = 2.0,
        is_sharded: bool = False,
    ) -> None:
        self._address = RedisAddress(url)
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._on_confirmed = on_confirmed
        self._on_lost = on_lost
        self._timeout_s = timeout_s
        self._sub, self._unsub = (
            ("SSUBSCRIBE", "SUNSUBSCRIBE") if is_sharded else ("SUBSCRIBE", "UNSUBSCRIBE")
        )
        self._message = b"smessage" if is_sharded else b"message"
        self._channels: set[str] = set()
        self._unconfirmed: set[str] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._is_subscribed = asyncio.Event()
        self.connections = 0
        """Connections made."""
        self.failed = 0
        """Messages whose receiver raised."""
        # Started here and waited for in close(): it lives as long as the subscriber.
        self._task = asyncio.get_running_loop().create_task(self._keep(), name="redis-subscriber")

    def watch(self, channel: str) -> None:
        """Subscribe; holds from the next ``on_subscribed`` or ``subscribed`` on."""
        if channel not in self._channels:
            self._channels.add(channel)
            self._unconfirmed.add(channel)
            self._is_subscribed.clear()
            self._write([self._sub, channel])

    def unwatch(self, channel: str) -> None:
        """Messages that are under way may still arrive."""
        if channel in self._channels:
            self._channels.discard(channel)
            self._unconfirmed.discard(channel)
            self._write([self._unsub, channel])

    async def subscribed(self) -> None:
        """Wait until everything that is watched now is subscribed."""
        await self._is_subscribed.wait()

    def _write(self, command: Iterable[str]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(pack(*command))

    async def _keep(self) -> None:
        while True:
            # Whatever it was, another connection is tried.
            with contextlib.suppress(Exception):
                await self._connect_and_read()
            self._hang_up()
            self._on_lost()
            await asyncio.sleep(_REST_S)

    async def _connect_and_read(self) -> None:
        async with asyncio.timeout(self._timeout_s):
            reader, self._writer = await self._open()
        self.connections += 1
        replies = hiredis.Reader()
        if login := self._address.login:
            self._write(login)
        self._unconfirmed = set(self._channels)
        if self._channels:
            self._write([self._sub, *sorted(self._channels)])
        else:
            self._subscribed()
        is_asked = False
        while True:
            try:
                async with asyncio.timeout(self._timeout_s):
                    data = await reader.read(_READ_BYTES)
            except TimeoutError:
                if is_asked:
                    return  # asked, and still silent: nobody is there
                is_asked = True
                self._write(["PING"])
                continue
            if not data:
                return
            is_asked = False
            replies.feed(data)
            while (reply := replies.gets()) is not False:
                self._take(reply)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader = asyncio.StreamReader()
        transport, protocol = await self._address.connect(lambda: asyncio.StreamReaderProtocol(reader))
        return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())

    def _take(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        if not isinstance(reply, list):
            return  # the answer to AUTH
        kind = reply[0]
        if kind == self._message:
            try:
                self._on_message(reply[1].decode(), reply[2])
            except Exception:
                # One bad message must not take the others along.
                self.failed += 1
        elif kind in (b"subscribe", b"ssubscribe"):
            channel = reply[1].decode()
            self._unconfirmed.discard(channel)
            if channel in self._channels:
                self._on_confirmed(channel)
            if not self._unconfirmed:
                self._subscribed()

    def _subscribed(self) -> None:
        self._is_subscribed.set()
        self._on_subscribed()

    def _hang_up(self) -> None:
        self._is_subscribed.clear()
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None

    async def close(self) -> None:
        """Hang up. Repeating it does nothing."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._hang_up()
        await asyncio.sleep(0)  # the loop closes the socket in its next turn
