"""A fault proxy for Redis that swallows pub/sub messages and nothing else.

async with PubSubProxy("127.0.0.1", port) as proxy:
    proxy.swallow(2)        # the next two messages never arrive
"""

from __future__ import annotations

import asyncio

from heartcast.testing.fault_proxy import FaultProxy

_KINDS = (b"message", b"smessage", b"pmessage")


class PubSubProxy(FaultProxy):
    """Forwards one local port to a Redis; what it answers passes reply by reply."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self._to_swallow = 0
        self.swallowed = 0
        """Messages that never arrived."""

    def swallow(self, messages: int) -> None:
        """Lose so many messages from now on, >= 0."""
        self._to_swallow = messages

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        if not is_answer:
            await super()._pump(reader, writer)
            return
        rest = b""
        while chunk := await reader.read(65_536):
            await self._opened.wait()
            rest += chunk
            while size := reply_size(rest):
                reply, rest = rest[:size], rest[size:]
                if self._to_swallow and reply.startswith(b"*") and _kind(reply) in _KINDS:
                    self._to_swallow -= 1
                    self.swallowed += 1
                else:
                    writer.write(reply)
            await writer.drain()
        writer.close()


def _kind(reply: bytes) -> bytes:
    parts = reply.split(b"\r\n", 3)
    return parts[2] if len(parts) == 4 else b""


def reply_size(data: bytes) -> int:
    """Bytes of the first whole reply in ``data`` (RESP2), 0 when it is not all there."""
    end, missing = 0, 1
    while missing:
        line_end = data.find(b"\r\n", end)
        if line_end < 0:
            return 0
        kind, count = data[end : end + 1], data[end + 1 : line_end]
        end = line_end + 2
        missing -= 1
        if kind == b"*":
            missing += max(0, int(count))
        elif kind == b"$" and int(count) >= 0:
            end += int(count) + 2
            if end > len(data):
                return 0
    return end
