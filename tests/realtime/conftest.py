"""A hub without sockets: transports that remember what was written."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from heartcast.core.ids import IdSource
from heartcast.realtime.log import Position, Publication
from heartcast.realtime.log.redis import Names
from heartcast.realtime.options import RealtimeOptions
from heartcast.realtime.realtime import Realtime
from heartcast.realtime.recovery import Joined
from heartcast.realtime.room import Room
from heartcast.realtime.session import Session
from heartcast.testing import ManualClock
from heartcast.testing.redis_server import RedisServer
from heartcast.wire.envelopes import Disconnect, Refusal
from heartcast.wire.frames import frame


class FakeTransport(asyncio.Transport):
    """Takes what is written, until told that its peer stopped reading."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.buffered = 0
        self.is_reading = True
        self.is_broken = False
        self.is_closed = False
        self.high = 65_536
        self.protocol: Any = None

    def write(self, data: Any) -> None:
        if self.is_broken:
            raise RuntimeError("the transport is gone")
        if self.is_reading:
            self.written.append(bytes(data))
            return
        was_low = self.buffered <= self.high
        self.buffered += len(data)
        if was_low and self.buffered > self.high:
            self.protocol.pause_writing()

    def read_all(self) -> None:
        """The peer reads again."""
        self.is_reading = True
        self.buffered = 0
        self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high or 0

    def close(self) -> None:
        self.is_closed = True

    abort = close


class FakeSession(Session):
    """A session that writes pushes as WebSocket frames and remembers its close code."""

    __slots__ = ("closed_with",)

    def __init__(self, realtime: Realtime, user: str | None = None) -> None:
        transport = FakeTransport()
        super().__init__(realtime.hub, transport)
        transport.protocol = self
        self.closed_with: int | None = None
        self.hub.connected(self, user)

    def ping(self) -> None:
        self.awaits_pong = True
        self.send(frame(b"{}"))

    def push_line(self, line: bytes) -> None:
        self.send(frame(line))

    def farewell(self, disconnect: Disconnect) -> bytes:
        self.closed_with = disconnect.code
        return b""

    @property
    def socket(self) -> FakeTransport:
        assert isinstance(self.transport, FakeTransport)
        return self.transport

    def pushes(self) -> list[dict[str, Any]]:
        """Publications written so far, in order."""
        return [push["pub"] for push in self._lines() if "pub" in push]

    def data(self) -> list[Any]:
        return [publication["data"] for publication in self.pushes()]

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [push[kind] for push in self._lines() if kind in push]

    def _lines(self) -> list[dict[str, Any]]:
        wire, lines = b"".join(self.socket.written), []
        while wire:
            size, head = wire[1], 2
            if size == 126:
                size, head = int.from_bytes(wire[2:4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(wire[2:10], "big"), 10
            lines += [json.loads(line) for line in wire[head : head + size].split(b"\n")]
            wire = wire[head + size :]
        return [line["push"] for line in lines if "push" in line]


class Stage:
    """A hub, its clock, and shorthands."""

    def __init__(self, clock: ManualClock, options: RealtimeOptions) -> None:
        self.clock = clock
        loop = asyncio.get_running_loop()
        self.realtime = Realtime(options, clock, loop, IdSource(clock), mode="dev")
        self.hub = self.realtime.hub

    def session(self, *channels: str, user: str | None = None) -> FakeSession:
        session = FakeSession(self.realtime, user)
        for channel in channels:
            self.join(session, channel)
        return session

    def join(
        self, session: Session, channel: str, position: Position | None = None, *, tells: bool = False
    ) -> list[Joined | Refusal]:
        """Subscribe; the list gets the answer when it is there."""
        answers: list[Joined | Refusal] = []
        self.hub.join(session, channel, position, answers.append, tells=tells)
        return answers

    def publish(self, channel: str, data: bytes) -> None:
        self.hub.publish(channel, data)

    def room(self, channel: str) -> Room:
        room = self.hub.room_of(channel)
        assert room is not None
        return room

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            self.clock.advance(0.1)
            self.realtime.wheel.advance(self.clock.monotonic_s())


@pytest.fixture
async def make_stage(clock: ManualClock) -> Callable[..., Stage]:
    return lambda **options: Stage(clock, RealtimeOptions(**options))


@pytest.fixture
async def stage(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage()


@pytest.fixture
def publication() -> type[Publication]:
    return Publication


_BINARIES = ["valkey", *(["redis"] if shutil.which("redis-server") else [])]


@pytest.fixture(scope="session", params=_BINARIES)
def redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Valkey from the test requirements, and Debian's Redis where it is installed."""
    binary = shutil.which("redis-server") if request.param == "redis" else None
    with RedisServer(binary) as running:
        yield running


@pytest.fixture
def names() -> Names:
    """Keys that no other test has."""
    return Names(uuid.uuid4().hex)
