"""Redis or Valkey on one connection: all commands of a tick go out in one write.

Callers give a command and a callback; replies come in the order of the commands, so no
task and no future is needed per command. Scripts are loaded with each connection; a call
of one that the server has lost goes to the next connection by itself, once. When the
connection is lost, or an answer takes too long, everything under way is answered with
``StoreUnavailable``, and the next command opens a new connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import hiredis

from heartcast.backends.redis import Script
from heartcast.backends.redis_address import RedisAddress
from heartcast.core.errors import StoreUnavailable

Done = Callable[[Any], None]
"""Takes a reply (text or bytes, int, list or None) or a ``StoreUnavailable``."""

Sent = tuple[bytes, Done, bool]
"""A packed command, who takes its reply, and whether it may be sent once more."""

T = TypeVar("T")

_REST_S = 0.25
"""After a failed attempt to connect: meanwhile callers are told so at once."""

# After these errors another connection may lead to a server that can do it.
_LEAVE_AFTER = ("NOSCRIPT", "READONLY", "MASTERDOWN", "LOADING")


def pack(*command: str | int | bytes) -> bytes:
    """A command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub asks for one-tuples
    return packed


class RedisPipe:
    """Make it on a running loop, ``close`` it there.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``; never logged.
        timeout_s: Longest wait for a connection and for each answer, seconds, > 0.
        scripts: Loaded whenever a connection is made.
        is_text: Whether replies are UTF-8 text; False: they are bytes.

    Raises:
        SettingsError: the URL is not one.
    """

    def __init__(
        self, url: str, *, timeout_s: float, scripts: Sequence[Script] = (), is_text: bool = True
    ) -> None:
        self._address = RedisAddress(url)
        self._timeout_s = timeout_s
        self._scripts = scripts
        self._is_text = is_text
        self._loop = asyncio.get_running_loop()
        self._shas = {script.sha.encode() for script in scripts}
        self._waiting: list[Sent] = []
        self._again: list[Sent] = []
        self._wire: _Wire | None = None
        self._is_flush_due = False
        self._rests_until_s = 0.0
        self._refusal = StoreUnavailable("redis: not connected")
        self._wanted = asyncio.Event()
        # Started here and waited for in close(): it lives as long as the pipe.
        self._task = self._loop.create_task(self._keep_connected(), name="redis-pipe")
        self.connections = 0
        """Connections made."""

    def send(self, command: bytes, done: Done) -> None:
        """Send a packed command; ``done`` is called exactly once, later on the loop."""
        self._waiting.append((command, done, True))
        self._ask_for_flush()

    def _ask_for_flush(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    async def ask(self, *command: str | int | bytes) -> Any:
        """A command's reply.

        Raises:
            StoreUnavailable: no connection, no answer in time, or an error of the server.
        """
        return await self.ask_then(command, _as_it_is)

    async def ask_then(self, command: Sequence[str | int | bytes], then: Callable[[Any], T]) -> T:
        """What ``then`` makes of a reply, at the moment it comes: before any later reply.

        Raises:
            StoreUnavailable: as ``ask``; what ``then`` raises is raised here.
        """
        future: asyncio.Future[T] = self._loop.create_future()

        def replied(reply: Any) -> None:
            if future.cancelled():
                return
            if isinstance(reply, StoreUnavailable):
                future.set_exception(reply)
                return
            try:
                future.set_result(then(reply))
            except Exception as error:
                future.set_exception(error)

        self.send(pack(*command), replied)
        return await future

    def _flush(self) -> None:
        self._is_flush_due = False
        if self._wire is not None and self._wire.is_open:
            self._wire.send(self._take_waiting())
        elif self._loop.time() < self._rests_until_s or self._task.done():
            self._fail_waiting(self._refusal)
        else:
            self._wanted.set()

    def _fail_waiting(self, failure: StoreUnavailable) -> None:
        for _, done, _ in self._take_waiting():
            done(failure)

    def _take_waiting(self) -> list[Sent]:
        # What is sent again was there before all others.
        waiting = self._again + self._waiting if self._again else self._waiting
        self._again, self._waiting = [], []
        return waiting

    def _script_missing(self, sent: Sent) -> bool:
        """Whether the command is sent again: it calls a script that the next connection loads."""
        command, done, may_again = sent
        parts = command.split(b"\r\n", 5)
        if not may_again or len(parts) < 6 or parts[4] not in self._shas:
            return False
        self._again.append((command, done, False))
        self._ask_for_flush()
        return True

    async def _keep_connected(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._wire is not None and self._wire.is_open:
                continue
            try:
                async with asyncio.timeout(self._timeout_s):
                    self._wire = await self._connected()
            except Exception as error:
                # Whatever it was, those who wait are told, and the next command tries again.
                self._refusal = StoreUnavailable(f"redis: {self._said(error)}")
                self._rests_until_s = self._loop.time() + _REST_S
                self._fail_waiting(self._refusal)
            else:
                self._flush()

    async def _connected(self) -> _Wire:
        _, wire = await self._address.connect(self._make_wire)
        try:
            await self._greet(wire)
        except BaseException:
            wire.abort()
            raise
        self.connections += 1
        return wire

    def _make_wire(self) -> _Wire:
        return _Wire(self._loop, self._timeout_s, self._script_missing, is_text=self._is_text)

    async def _greet(self, wire: _Wire) -> None:
        if login := self._address.login:
            await wire.ask(*login)
        if database := self._address.database:
            await wire.ask("SELECT", database)
        for script in self._scripts:
            await wire.ask("SCRIPT", "LOAD", script.text)

    def _said(self, error: BaseException) -> str:
        return self._address.hide(str(error) or type(error).__name__)

    async def close(self) -> None:
        """Wait for what is under way, then hang up. Repeating it does nothing."""
        if self._task.done():
            return
        with contextlib.suppress(StoreUnavailable):
            await self.ask("PING")  # replies come in order: all others are given before it
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._refusal = StoreUnavailable("redis: closed")
        self._fail_waiting(self._refusal)
        if self._wire is not None:
            self._wire.abort()


class _Wire(asyncio.Protocol):
    """One connection: what was sent and not answered yet."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout_s: float,
        script_missing: Callable[[Sent], bool],
        *,
        is_text: bool,
    ) -> None:
        self._loop = loop
        self._timeout_s = timeout_s
        self._script_missing = script_missing
        self._reader = hiredis.Reader(encoding="utf-8", errors="replace") if is_text else hiredis.Reader()
        self._sent: deque[tuple[Sent, float]] = deque()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._why = "the connection was lost"
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by behaviour, not by class.
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def send(self, commands: Sequence[Sent]) -> None:
        """Send packed commands in one write."""
        assert self._transport is not None
        if not commands:
            return
        now_s = self._loop.time()
        self._sent.extend([(sent, now_s) for sent in commands])
        self._transport.write(b"".join([command for command, _, _ in commands]))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._look)

    async def ask(self, *command: str | int) -> Any:
        future: asyncio.Future[Any] = self._loop.create_future()
        self.send([(pack(*command), lambda reply: _resolve(future, reply), False)])
        return await future

    def _look(self) -> None:
        # One timer for all: it looks at the oldest, and comes back when that would be late.
        self._timer = None
        if not self._sent:
            return
        late_s = self._sent[0][1] + self._timeout_s
        if late_s <= self._loop.time():
            self._why = f"no answer within {self._timeout_s:g} s"
            self.abort()
        else:
            self._timer = self._loop.call_at(late_s, self._look)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                sent, _ = self._sent.popleft()
                if isinstance(reply, hiredis.ReplyError):
                    self._refused(sent, str(reply))
                else:
                    sent[1](reply)
            if not self.is_open and not self._sent:
                self.abort()
        except (hiredis.ProtocolError, IndexError):
            self._why = "it does not speak the protocol"
            self.abort()

    def _refused(self, sent: Sent, text: str) -> None:
        if text.startswith(_LEAVE_AFTER):
            self._why = text
            # Nothing more goes out here; what was sent is still answered, within its time.
            self.is_open = False
        if not text.startswith("NOSCRIPT") or not self._script_missing(sent):
            sent[1](StoreUnavailable(f"redis: {text}"))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self.connection_lost(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        failure = StoreUnavailable(f"redis: {self._why}")
        while self._sent:
            (_, done, _), _ = self._sent.popleft()
            done(failure)


def _as_it_is(reply: Any) -> Any:
    return reply


def _resolve(future: asyncio.Future[Any], reply: Any) -> None:
    if future.cancelled():
        return
    if isinstance(reply, StoreUnavailable):
        future.set_exception(reply)
    else:
        future.set_result(reply)
