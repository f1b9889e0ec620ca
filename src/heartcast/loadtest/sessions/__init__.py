"""Subscribers: one client on one channel, whatever it speaks.

A subscriber keeps a ``Track``, its position for recovery, and nothing else. What it hears
is judged here; how it is said is the business of one file for each protocol.

    centrifugo  the client protocol in JSON, as stock SDKs speak it
    binary      ``heartcast.v1``, the same in protobuf
    sse         server-sent events, which have no way back
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from heartcast.loadtest.audience import Audience, Follower, Heard
from heartcast.loadtest.marks import Mark
from heartcast.loadtest.verdict import Track


class Subscriber(Follower):
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
        "was_told",
    )

    subprotocol: ClassVar[str] = ""
    """Asked for in the handshake; "": none."""

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
        self.was_told = False
        """The server said that what was missed is gone; holds until the next arrival."""
        self.unacknowledged: int | None = None
        """What the server still kept when asked at the end; None: not asked or not answered."""

    @abstractmethod
    def acknowledge(self, push_ids: list[str]) -> None:
        """Tell the server that these pushes arrived."""

    @abstractmethod
    def ask_what_is_kept(self) -> None:
        """Have the server say what it holds for this user; ``unacknowledged`` then says how much."""

    @abstractmethod
    def answered(self, payload: bytes) -> None:
        """A message came that is not all publications."""

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
        try:
            heard = audience.read(payload)
        except (ValueError, RecursionError):
            self.answered(payload)
            return
        self.take(heard, is_recovered=False)

    def take(self, heard: list[Heard], *, is_recovered: bool) -> None:
        """Publications came, in order."""
        audience, track, stream = self.audience, self.track, self.stream
        ledger, add, now_us = audience.ledger, audience.delivery.add, audience.now_us()
        is_plain = not (is_recovered or self.excused or self.was_told)
        wanted: list[str] = []
        for channel, mark, offset, push_id, is_again, _, _ in heard:
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

    def subscribed(self, heard: list[Heard], *, epoch: str, offset: int, is_gone: bool) -> None:
        """The server took the subscription.

        Args:
            heard: What it gave along.
            is_gone: It said that it cannot give all that was missed.
        """
        self.listens()
        if self.epoch is not None and is_gone:
            self.was_told = True
        if epoch:
            self.epoch, self.offset = epoch, offset
        # What a first subscription brings was waiting, not missed: it is no recovery but late by nature.
        self.take(heard, is_recovered=True)

    def listens(self) -> None:
        audience = self.audience
        audience.listening += not self.is_listening
        self.is_listening = self.was_answered = True
        audience.opening.add(max(0, audience.now_us() - self.wait_us))

    def refused(self, reason: str, *, is_temporary: bool) -> None:
        """The server did not take the subscription."""
        self.audience.fail(reason)
        self.drop()
        if is_temporary:
            self.audience.bring_back(self)

    def damaged(self, detail: str) -> None:
        audience = self.audience
        audience.ledger.damaged(
            self.track, self.stream, self.serial, audience.at_s(audience.now_us()), detail
        )

    def broken(self, detail: str) -> None:
        self.damaged(detail)

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
