"""One target and everybody watches it: what a change of its count costs the hub.

Sessions are real, their sockets take everything and keep nothing: what the kernel does
for a write is in ``fanout``.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any

from heartcast.core.clock import SystemClock
from heartcast.core.ids import IdSource
from heartcast.gateway.centrifugo import Centrifugo
from heartcast.gateway.socket import WebSocket
from heartcast.hearts.live import channel_of
from heartcast.realtime.log import Publication
from heartcast.realtime.options import RealtimeOptions
from heartcast.realtime.realtime import Realtime
from heartcast.realtime.room import Room

WATCHERS = 100_000
CHANGES = 20


class _Socket(asyncio.Transport):
    """Takes everything at once."""

    __slots__ = ()

    def write(self, data: Any) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


def _measure(realtime: Realtime, watch: Callable[[WebSocket], None]) -> dict[str, Any]:
    hub, engine, socket = realtime.hub, Centrifugo(realtime), _Socket()
    for _ in range(WATCHERS):
        session = WebSocket(realtime, engine, socket)
        hub.connected(session, None)
        watch(session)
    encodings, spent_s = 0, []

    def counted(room: Room, publications: list[Publication]) -> list[bytes]:
        nonlocal encodings
        encodings += 1
        return lines(room, publications)

    lines = Room.lines
    setattr(Room, "lines", counted)  # noqa: B010
    for change in range(1, CHANGES + 1):
        hub.publish(channel_of("hot"), b'{"target_id":"hot","count":%d,"version":%d}' % (change, change))
        began_s = time.perf_counter()
        hub.flush()
        spent_s.append(time.perf_counter() - began_s)
    setattr(Room, "lines", lines)  # noqa: B010
    return {
        "watchers": WATCHERS,
        "encodings_per_change": encodings / CHANGES,
        "ms_per_change": round(statistics.median(spent_s) * 1000, 1),
        "us_per_watcher": round(statistics.median(spent_s) / WATCHERS * 1e6, 3),
    }


def _realtime() -> Realtime:
    clock = SystemClock()
    realtime = Realtime(RealtimeOptions(), clock, asyncio.get_running_loop(), IdSource(clock))
    realtime.hub.seed("hearts", lambda channel, done: done(None))
    return realtime


async def _run() -> dict[str, Any]:
    def subscribe(session: WebSocket) -> None:
        session.hub.join(session, channel_of("hot"), None, lambda answer: None)

    def track(session: WebSocket) -> None:
        for target_id in ("hot", "calm", "quiet"):
            session.hub.join(session, channel_of(target_id), None, lambda answer: None, is_tracked=True)

    return {
        "subscribed_to_it": _measure(_realtime(), subscribe),
        "tracked_with_two_others": _measure(_realtime(), track),
    }


def run() -> dict[str, Any]:
    return asyncio.run(_run())
