"""Messages by Redis or Valkey pub/sub: one channel per node, and one for all.

What is sent while a node's subscription is away is lost to it; the server says to how many
it handed a message, so that whoever waits for an answer need not wait for nobody.
"""

from __future__ import annotations

import asyncio

from heartcast.backends.redis_pipe import RedisPipe, pack
from heartcast.backends.redis_subscriber import RedisSubscriber
from heartcast.cluster.carrier import Arrived, Handed
from heartcast.core.errors import StoreUnavailable


class RedisCarrier:
    """Implements ``Carrier``. Make it on a running loop, ``close`` it there.

    Args:
        url: ``redis://…``; never logged.
        prefix: In front of every channel. Databases of one server share their channels, so two
            applications on one server need two prefixes.
        timeout_s: Longest wait for one answer.

    Raises:
        SettingsError: the URL is not one.
    """

    def __init__(self, url: str, *, prefix: str = "hc", timeout_s: float = 1.0) -> None:
        self._pipe = RedisPipe(url, timeout_s=timeout_s)
        self._subscriber = RedisSubscriber(url, on_message=self._took, timeout_s=timeout_s)
        self._all = f"{{{prefix}}}:post"
        self._timeout_s = timeout_s
        self._arrived: Arrived = _nobody

    async def enter(self, node_id: str, arrived: Arrived) -> None:
        self._arrived = arrived
        self._subscriber.watch(self._all)
        self._subscriber.watch(f"{self._all}:{node_id}")
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                await self._subscriber.subscribed()
        except TimeoutError:
            raise StoreUnavailable("redis: no subscription") from None

    def _took(self, channel: str, message: bytes) -> None:
        self._arrived(message)

    def send(self, node_id: str, message: bytes, done: Handed) -> None:
        self._pipe.send(pack("PUBLISH", f"{self._all}:{node_id}", message), done)

    def send_all(self, message: bytes, done: Handed) -> None:
        self._pipe.send(pack("PUBLISH", self._all, message), done)

    async def close(self) -> None:
        await self._subscriber.close()
        await self._pipe.close()


def _nobody(message: bytes) -> None:
    """Before anybody entered."""
