"""Realtime as one thing to wire: a hub, its adapters, and their one timer.

::

    realtime = Realtime(options, clock, loop, ids, verify=authenticator.verify, mode="dev")
    realtime.start()
    …
    await realtime.stop()
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import SystemRandom
from typing import Protocol

from heartcast.core.clock import Clock
from heartcast.core.errors import Unauthenticated
from heartcast.core.ids import IdSource
from heartcast.core.wheel import TimingWheel
from heartcast.realtime.broker import Broker
from heartcast.realtime.broker.memory import MemoryBroker
from heartcast.realtime.drain import drain
from heartcast.realtime.hub import Hub
from heartcast.realtime.log import ChannelLog
from heartcast.realtime.log.memory import MemoryLog
from heartcast.realtime.namespaces import Mode, history_limits
from heartcast.realtime.options import RealtimeOptions

_TICK_S = 0.1
_STOP_PATIENCE_S = 3.0


class Claims(Protocol):
    """What a valid token says."""

    @property
    def user(self) -> str | None: ...
    @property
    def expires_ms(self) -> int | None: ...
    @property
    def channel(self) -> str | None: ...


Verify = Callable[[str], Claims]
"""Checks a token; raises ``Unauthenticated`` with code ``token_invalid`` or ``token_expired``."""


def no_tokens(token: str) -> Claims:
    """For a server without keys: no token is valid."""
    raise Unauthenticated("this server has no keys to check tokens with", code="token_invalid")


class Shared(Protocol):
    """Adapters for several processes, started and stopped with the hub (``realtime.shared``)."""

    @property
    def log(self) -> ChannelLog: ...
    @property
    def broker(self) -> Broker: ...
    def follow(self, hub: Hub) -> None:
        """The hub is made: count its members."""
        ...

    def repairs(self) -> dict[str, int]:
        """What had to be put right since the start, by kind."""
        ...

    def start(self) -> None: ...
    async def close(self) -> None: ...


class Realtime:
    """Channels, sessions and their timer.

    Args:
        verify: Checks connection and subscription tokens.
        mode: ``dev`` lets everybody subscribe to everything but the inboxes of others;
            the caller makes sure that it only listens on loopback then.
        shared: What several processes have together; None: there is only this one.
    """

    def __init__(
        self,
        options: RealtimeOptions,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        ids: IdSource,
        *,
        verify: Verify = no_tokens,
        mode: Mode = "prod",
        shared: Shared | None = None,
    ) -> None:
        self.options = options
        self.clock = clock
        self.loop = loop
        self.verify = verify
        self.mode = mode
        self.wheel = TimingWheel(_TICK_S, 512, clock.monotonic_s())
        self.log = MemoryLog(clock, history_limits(options), max_channels=options.max_logged_channels)
        """What is kept in this process alone."""
        self.shared = shared
        self.hub = Hub(
            options,
            clock,
            loop,
            log=shared.log if shared is not None else self.log,
            broker=shared.broker if shared is not None else MemoryBroker(clock),
            local_log=self.log,
            wheel=self.wheel,
            node=ids.next().lower(),
            mode=mode,
        )
        if shared is not None:
            shared.follow(self.hub)
        self._timer: asyncio.TimerHandle | None = None
        self.is_stopping = False

    def start(self) -> None:
        """Start the timer behind pings and deadlines, and what keeps shared things true."""
        if self.shared is not None:
            self.shared.start()
        self._turn()

    def _turn(self) -> None:
        self.wheel.advance(self.clock.monotonic_s())
        self._timer = self.loop.call_later(_TICK_S, self._turn)

    async def stop(self) -> None:
        """Close every session with 3001, which stock clients answer by connecting elsewhere; many
        of them over some time (``realtime.drain``).

        Returns when all are gone, or three seconds after the last was told, with the rest cut off.
        """
        self.is_stopping = True
        emptied = asyncio.Event()
        self.hub.on_empty = emptied.set
        over_s = drain(self.hub, self.options.drain_s, SystemRandom())
        if self.hub.connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(emptied.wait(), over_s + _STOP_PATIENCE_S)
        for session in self.hub.sessions():
            session.transport.abort()
        if self._timer is not None:
            self._timer.cancel()
        if self.shared is not None:
            await self.shared.close()
