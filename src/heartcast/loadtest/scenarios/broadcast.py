"""Messages to channels that many subscribe to: alone, with a reconnect storm, with slow readers.

Messages are published over the server API; every subscriber of a channel is owed every
message that was accepted, in order and once.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from heartcast.loadtest.run import Run, Scene
from heartcast.loadtest.scenario import Fanout, Slow, Storm
from heartcast.loadtest.sessions import Subscriber
from heartcast.loadtest.target import may_send

_encode = msgspec.json.Encoder().encode
_ARRIVE_S = 5.0
"""How long messages may be on their way after the load."""


class _Sent(NamedTuple):
    stream: int
    sequence: int


class FanoutScene(Scene):
    """Publishes to ``channels`` in turn, by lot."""

    def __init__(self, run: Run, options: Fanout | Storm | Slow) -> None:
        self.run = run
        self.subscribers: list[Subscriber] = []
        self._options = options
        self._padding = run.marker.padding_for(options.payload_bytes)
        ledger = run.ledger
        for number in range(options.channels):
            ledger.open_stream(f"{options.namespace}:bench-{run.name}-{number}")
        self._heads = [b'{"channel":%s,"data":"' % _encode(name) for name in ledger.names]

    async def prepare(self) -> None:
        run, options = self.run, self._options
        await may_send(run.asker, run.target)
        for serial in range(options.subscribers):
            stream = serial % options.channels
            subscriber = run.kind(run.audience, serial, run.ledger.names[stream], stream=stream)
            self.subscribers.append(subscriber)
            run.audience.crowd.connect(subscriber)
        await run.everyone_listens(options.subscribers)

    def send(self, intended_us: int) -> None:
        run = self.run
        stream = run.random.randrange(self._options.channels)
        sequence = run.ledger.streams[stream].next()
        mark = run.marker.make(stream, sequence, intended_us, self._padding)
        body = b'%s%s"}' % (self._heads[stream], mark.encode())
        # One connection per stream: two could overtake each other, and that would be our doing.
        run.post(
            stream, _Sent(stream, sequence), run.target.request("POST", "/api/publish", body), intended_us
        )

    def answered(self, tag: _Sent, status: int, body: bytes) -> bool:
        stream = self.run.ledger.streams[tag.stream]
        is_taken = status == 200 and b'"error"' not in body[:20]
        if status == 0:
            stream.doubt(tag.sequence)
        elif not is_taken:
            stream.refuse(tag.sequence)
        return is_taken

    async def settle(self) -> None:
        run, ledger = self.run, self.run.ledger
        if run.ended_by is None:
            await run.until(self._is_complete, _ARRIVE_S)
        at_s = run.audience.at_s(run.now_us())
        for subscriber in self.subscribers:
            ledger.settle(subscriber.track, subscriber.stream, subscriber.serial, at_s)

    def _is_complete(self) -> bool:
        streams = self.run.ledger.streams
        return all(s.track.holes is None and s.track.top >= streams[s.stream].last for s in self.subscribers)


class StormScene(FanoutScene):
    """At one moment the connections of ``share`` of the subscribers break."""

    def __init__(self, run: Run, options: Storm) -> None:
        super().__init__(run, options)
        self._storm = options
        self._has_broken = False
        self._cut_us = 0
        self._is_back = False

    async def prepare(self) -> None:
        await super().prepare()
        # From here on it measures the storm alone.
        self.run.audience.opening.turn()
        self.run.audience.opening.is_warm = True

    def tick(self, at_s: float) -> None:
        run = self.run
        if not self._has_broken and at_s >= self._storm.at_s:
            self._has_broken = True
            self._cut_us = run.now_us()
            count = round(len(self.subscribers) * self._storm.share)
            for subscriber in run.chance.sample(self.subscribers, count):
                subscriber.drop()
                run.audience.bring_back(subscriber, run.chance.uniform(0, self._storm.within_s))
        elif self._has_broken and not self._is_back:
            self._note_return()

    def _note_return(self) -> None:
        run = self.run
        if run.audience.listening == len(self.subscribers):
            self._is_back = True
            took_s = (run.now_us() - self._cut_us) / 1e6
            run.notes.append(
                f"All {len(self.subscribers):,} were listening again {took_s:.1f} s after the storm began; "
                f"they came back at random moments within {self._storm.within_s:g} s."
            )


class SlowScene(FanoutScene):
    """Some subscribers stop reading for a while."""

    def __init__(self, run: Run, options: Slow) -> None:
        super().__init__(run, options)
        self._slow = options
        self._stalled: list[Subscriber] | None = None

    def tick(self, at_s: float) -> None:
        run, options = self.run, self._slow
        if self._stalled is None and at_s >= options.at_s:
            count = round(len(self.subscribers) * options.slow_share)
            self._stalled = run.chance.sample(self.subscribers, count)
            for subscriber in self._stalled:
                subscriber.excused = True
                run.audience.crowd.pause(subscriber, is_reading=False)
        elif self._stalled and at_s >= options.at_s + options.stall_s:
            for subscriber in self._stalled:
                run.audience.crowd.pause(subscriber, is_reading=True)
            run.notes.append(
                f"{len(self._stalled):,} of {len(self.subscribers):,} readers stood still for "
                f"{options.stall_s:g} s; what reached them then is not counted in the latencies."
            )
            self._stalled = []
