"""Subscribers: what they say, and what they make of what they hear.

Each subscriber follows one channel in the client protocol's JSON. It keeps a ``Track``,
its position for recovery, and nothing else. What many of them receive alike is decoded
once: frames are looked up by their bytes, so that the millionth delivery of a broadcast
costs a dictionary look-up and not a parse.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from heartcast.loadtest.crowd import Crowd
from heartcast.loadtest.marks import PREFIX, Mark, Marker
from heartcast.loadtest.meter import Meter
from heartcast.loadtest.sockets import Client
from heartcast.loadtest.verdict import Ledger, Track

_CACHED_FRAMES = 4_096
_MARK_START = f'"{PREFIX}'.encode()
_CONNECT, _SUBSCRIBE, _HISTORY = 1, 2, 3
_PONG = b"{}"


class _Fields(Struct, gc=False):
    """An object that need only be there."""


class _Publication(Struct, gc=False):
    data: Raw = Raw(b"")
    offset: int = 0
    tags: dict[str, str] | None = None


class _Push(Struct, gc=False):
    channel: str = ""
    pub: _Publication | None = None
    unsubscribe: _Fields | None = None
    disconnect: _Fields | None = None
    join: _Fields | None = None
    leave: _Fields | None = None


class _Subscribed(Struct, gc=False):
    epoch: str = ""
    offset: int = 0
    was_recovering: bool = False
    recovered: bool = False
    publications: list[_Publication] = []


class _History(Struct, gc=False):
    publications: list[_Publication] = []
    offset: int = 0


class _Error(Struct, gc=False):
    code: int = 0
    message: str = ""
    temporary: bool = False


class _Line(Struct, gc=False):
    id: int = 0
    push: _Push | None = None
    connect: _Fields | None = None
    subscribe: _Subscribed | None = None
    history: _History | None = None
    error: _Error | None = None


class Heard(NamedTuple):
    """One publication out of a frame; ``mark`` None: it is damaged."""

    channel: str
    mark: Mark | None
    offset: int
    push_id: str
    is_again: bool
    data: bytes


_decode_line = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


class Audience:
    """What all subscribers of a run share.

    Args:
        delivery: Latencies of arrivals, from the intended moment.
        random: Jitter of reconnects.
    """

    def __init__(
        self,
        crowd: Crowd,
        ledger: Ledger,
        marker: Marker,
        *,
        delivery: Meter,
        random: Random,
        start_us: int,
    ) -> None:
        self.crowd = crowd
        self.ledger = ledger
        self.marker = marker
        self.delivery = delivery
        self.opening = Meter()
        """From the attempt to connect to the answered subscription."""
        self.start_us = start_us
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._cache: dict[bytes, list[Heard]] = {}
        self._reads: dict[bytes, tuple[int, list[Heard]]] = {}
        self.cached = True
        """Whether frames are the same for many subscribers."""
        self.acknowledges = False
        """Whether pushes are acknowledged."""
        self.is_cumulative = False
        """By the place in the inbox that was reached, and not by their ids."""
        self.reconnects_within_s = (0.1, 1.0)
        """A closed subscriber comes back after a time drawn from this range."""
        self.is_stopping = False
        self.listening = 0
        """Subscribers whose subscription was answered."""
        self.frames = 0
        self.reconnects = 0
        self.closes: dict[str, int] = {}
        """Connections that ended without our doing, by what was said."""
        self.failures: dict[str, int] = {}
        """Attempts to connect or subscribe that failed, by reason."""

    def now_us(self) -> int:
        return self.crowd.now_us()

    def at_s(self, now_us: int) -> float:
        return (now_us - self.start_us) / 1e6

    def read(self, payload: bytes) -> list[Heard]:
        """Publications in a frame of pushes only.

        Raises:
            ValueError: it is something else, or broken.
        """
        known = self._cache.get(payload)
        if known is not None:
            return known
        found = [self._pushed(line) for line in payload.split(b"\n")]
        if self.cached:
            if len(self._cache) >= _CACHED_FRAMES:
                self._cache.clear()
            self._cache[payload] = found
        return found

    def known_read(self, data: bytes) -> tuple[int, list[Heard]] | None:
        """(frames, publications) in these bytes of a socket, if another socket had the same."""
        return self._reads.get(data)

    def remember_read(self, data: bytes, found: list[tuple[int, bytes]]) -> None:
        """Keep what a read held, when it was publications only."""
        if not self.cached or len(found) < 2:
            return  # one frame alone is as quickly found by itself
        heard: list[Heard] = []
        for first, payload in found:
            known = self._cache.get(payload) if first == 0x81 else None
            if known is None:
                return
            heard += known
        if len(self._reads) >= _CACHED_FRAMES:
            self._reads.clear()
        self._reads[data] = (len(found), heard)

    def _pushed(self, line: bytes) -> Heard:
        push = _decode_line(line).push
        if push is None or push.pub is None:
            raise ValueError("no publication")
        return self.judge(push.channel, push.pub)

    def judge(self, channel: str, publication: _Publication) -> Heard:
        """What a publication says of itself."""
        data = bytes(publication.data)
        start = data.find(_MARK_START)
        mark = None
        if start >= 0:
            text = data[start + 1 : data.find(b'"', start + 1)].decode("utf-8", "replace")
            mark = self.marker.read(text)
        tags = publication.tags or {}
        return Heard(channel, mark, publication.offset, tags.get("id", ""), "redelivered" in tags, data)

    def fail(self, reason: str) -> None:
        self.failures[reason] = self.failures.get(reason, 0) + 1

    def lost_connection(self, client: Subscriber, code: int, reason: str) -> None:
        if self.is_stopping:
            return
        said = f"{code} {reason}".strip() if code else reason
        if client.was_answered:
            self.closes[said] = self.closes.get(said, 0) + 1
        else:
            self.fail(said)
        self.bring_back(client)

    def bring_back(self, client: Subscriber, after_s: float | None = None) -> None:
        """Connect again after a while, with the position it had; None: as long as jitter says."""
        if after_s is None:
            after_s = self._random.uniform(*self.reconnects_within_s)
        self._loop.call_later(after_s, self._reconnect, client)

    def _reconnect(self, client: Subscriber) -> None:
        if not self.is_stopping and client.state == 0:
            self.reconnects += client.was_answered
            self.crowd.connect(client)


class Subscriber(Client):
    """One client on one channel."""

    __slots__ = (
        "audience",
        "channel",
        "epoch",
        "excused",
        "is_listening",
        "offset",
        "stream",
        "token",
        "track",
        "unacknowledged",
        "was_answered",
        "was_told",
    )

    def __init__(
        self, audience: Audience, serial: int, channel: str, *, stream: int = -1, token: str = ""
    ) -> None:
        super().__init__(audience.crowd, serial)
        self.audience = audience
        self.channel = channel
        self.stream = stream
        """The ledger's number of what arrives here; -1: nothing of ours."""
        self.token = token
        self.track = Track()
        self.epoch: str | None = None
        self.offset = 0
        self.excused = False
        """It reads late on purpose: its latencies say nothing."""
        self.is_listening = False
        self.was_answered = False
        """Whether it ever had its subscription."""
        self.was_told = False
        """The server said that what was missed is gone; holds until the next arrival."""
        self.unacknowledged: int | None = None
        """What the server still kept when asked at the end; None: not asked or not answered."""

    # -- what it says ---------------------------------------------------------

    def opened(self) -> None:
        subscribe: dict[str, object] = {"channel": self.channel}
        if self.epoch is not None:
            subscribe |= {"recover": True, "epoch": self.epoch, "offset": self.offset}
        connect = {"token": self.token} if self.token else {}
        self.send(
            b'{"id":%d,"connect":%s}\n{"id":%d,"subscribe":%s}'
            % (_CONNECT, _encode(connect), _SUBSCRIBE, _encode(subscribe))
        )

    def acknowledge(self, push_ids: list[str]) -> None:
        if self.audience.is_cumulative and self.epoch is not None:
            place = _encode({"offset": self.offset, "epoch": self.epoch})
            self.send(b'{"send":{"data":{"ack_through":%s}}}' % place)
        else:
            self.send(b'{"send":{"data":{"ack":%s}}}' % _encode(push_ids))

    def ask_what_is_kept(self) -> None:
        """Have the server list what it holds for this user; ``unacknowledged`` says how much."""
        self.send(b'{"id":%d,"history":{"channel":%s,"limit":1000}}' % (_HISTORY, _encode(self.channel)))

    # -- what it hears --------------------------------------------------------

    def received_read(self, data: bytes) -> bool:
        known = self.audience.known_read(data)
        if known is None:
            return False
        self.audience.frames += known[0]
        self.take(known[1], is_recovered=False)
        return True

    def parsed(self, data: bytes, found: list[tuple[int, bytes]]) -> None:
        self.audience.remember_read(data, found)

    def received(self, payload: bytes) -> None:
        audience = self.audience
        audience.frames += 1
        if payload == _PONG:
            self.send(_PONG)
            return
        try:
            heard = audience.read(payload)
        except (ValueError, RecursionError):
            self._reply(payload)
            return
        self.take(heard, is_recovered=False)

    def take(self, heard: list[Heard], *, is_recovered: bool) -> None:
        """Publications came, in order."""
        audience, track, stream = self.audience, self.track, self.stream
        ledger, add, now_us = audience.ledger, audience.delivery.add, audience.now_us()
        is_plain = not (is_recovered or self.excused or self.was_told)
        wanted: list[str] = []
        for channel, mark, offset, push_id, is_again, _ in heard:
            if offset:
                self.offset = offset
            if mark is None or channel != self.channel or mark.stream != stream:
                self._odd(channel, mark, now_us)
                continue
            latency_us = now_us - mark.intended_us
            if is_plain and mark.sequence == track.top + 1 and 0 <= latency_us <= ledger.late_us:
                # What ``Ledger.arrived`` does when all is well, without the call: it is nearly all there is.
                track.top += 1
                ledger.delivered += 1
                add(latency_us)
            else:
                self._take_unusual(mark, now_us, is_again=is_again, is_recovered=is_recovered)
            if push_id:
                wanted.append(push_id)
        if wanted and audience.acknowledges:
            self.acknowledge(wanted)

    def _take_unusual(self, mark: Mark, now_us: int, *, is_again: bool, is_recovered: bool) -> None:
        audience = self.audience
        if self.was_told:
            self._forgive(mark.sequence)
        latency_us = 0 if self.excused else max(0, now_us - mark.intended_us)
        is_first = audience.ledger.arrived(
            self.track,
            self.stream,
            mark.sequence,
            latency_us,
            self.serial,
            audience.at_s(now_us),
            is_again=is_again,
            is_recovered=is_recovered,
        )
        if is_first and not is_recovered and not self.excused:
            audience.delivery.add(latency_us)

    def _forgive(self, sequence: int) -> None:
        self.was_told = False
        ledger = self.audience.ledger
        at_s = self.audience.at_s(self.audience.now_us())
        for number in self.track.missing(sequence - 1):
            if ledger.streams[self.stream].is_owed(number):
                ledger.note("told", self.stream, number, self.serial, at_s)
        self.track.forgive(sequence)

    def _odd(self, channel: str, mark: Mark | None, now_us: int) -> None:
        audience = self.audience
        if self.stream < 0:
            audience.ledger.foreign += 1
            return
        detail = "wrong checksum" if mark is None else f"came on {channel}"
        audience.ledger.damaged(self.track, self.stream, self.serial, audience.at_s(now_us), detail)

    def _reply(self, payload: bytes) -> None:
        for line in payload.split(b"\n"):
            try:
                answer = _decode_line(line)
            except (ValueError, RecursionError) as error:
                self._damaged(f"not JSON of the protocol: {error}")
                return  # one damaged frame counts once, into however many lines it fell
            self._answered(answer)

    def _answered(self, answer: _Line) -> None:
        push = answer.push
        if push is not None:
            if push.pub is not None:
                self.take([self.audience.judge(push.channel, push.pub)], is_recovered=False)
            elif (push.unsubscribe or push.disconnect or push.join or push.leave) is None:
                self._damaged("a push with nothing in it")
        elif answer.error is not None:
            self._refused(answer.id, answer.error)
        elif answer.subscribe is not None:
            self._subscribed(answer.subscribe)
        elif answer.history is not None:
            marks = (self.audience.judge(self.channel, p).mark for p in answer.history.publications)
            self.unacknowledged = sum(mark is not None for mark in marks)
        elif answer.connect is None:
            self._damaged("neither a push nor an answer")

    def _refused(self, command: int, error: _Error) -> None:
        self.audience.fail(f"{error.code} {error.message}")
        if command != _HISTORY:
            self.drop()
            if error.temporary:
                self.audience.bring_back(self)

    def _subscribed(self, answer: _Subscribed) -> None:
        audience = self.audience
        audience.listening += not self.is_listening
        self.is_listening = self.was_answered = True
        audience.opening.add(max(0, audience.now_us() - self.wait_us))
        if self.epoch is not None and answer.was_recovering and not answer.recovered:
            self.was_told = True
        if answer.epoch:
            self.epoch, self.offset = answer.epoch, answer.offset
        heard = [audience.judge(self.channel, publication) for publication in answer.publications]
        # What a first subscription brings was waiting, not missed: it is no recovery but late by nature.
        self.take(heard, is_recovered=True)

    def _damaged(self, detail: str) -> None:
        audience = self.audience
        audience.ledger.damaged(
            self.track, self.stream, self.serial, audience.at_s(audience.now_us()), detail
        )

    def broken(self, detail: str) -> None:
        self._damaged(detail)

    def closed(self, code: int, reason: str) -> None:
        self.not_listening()
        self.audience.lost_connection(self, code, reason)

    def drop(self) -> None:
        """Vanish, as a phone in a lift does."""
        self.cut()
        self.not_listening()

    def not_listening(self) -> None:
        self.audience.listening -= self.is_listening
        self.is_listening = False
