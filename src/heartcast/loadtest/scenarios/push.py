"""Pushes to users: accepted over REST, delivered to inbox sockets, acknowledged.

What the server answered with 202 is owed to its user, in order, whatever happens to the
connection. Some connections are cut without a goodbye and come back; some users are
away and come only after the load. At the end every user's inbox is asked what it still
holds: what was acknowledged must be gone.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from heartcast.core.names import channel_part
from heartcast.loadtest.run import Run, Scene
from heartcast.loadtest.scenario import Push
from heartcast.loadtest.sessions import Subscriber
from heartcast.loadtest.target import may_send, tokens

_encode = msgspec.json.Encoder().encode


class Pushed(NamedTuple):
    """A push on its way."""

    stream: int
    sequence: int


class _Result(msgspec.Struct):
    status: int


class _Results(msgspec.Struct):
    results: list[_Result]


_decode_results = msgspec.json.Decoder(_Results).decode


class Inboxes:
    """Users with a socket each, and pushes to them. Also a part of other scenes."""

    def __init__(self, run: Run, count: int, *, template: str, payload_bytes: int) -> None:
        self.run = run
        self._padding = run.marker.padding_for(payload_bytes)
        self._first = len(run.ledger.streams)
        self.users = [f"bench-{run.name}-{number}" for number in range(count)]
        for user in self.users:
            run.ledger.open_stream(f"inbox:#{channel_part(user)}")
        self._heads = [
            b'{"user_id":%s,"template":%s,"payload":{"title":"' % (_encode(user), _encode(template))
            for user in self.users
        ]
        self.sockets: list[Subscriber] = []
        self.cut = 0

    async def log_in(self, first_serial: int = 0) -> None:
        """Make a socket for each user, not connected yet."""
        run = self.run
        run.phase(f"getting tokens for {len(self.users):,} users")
        wall_ms = run.clock.wall_ms()
        passes = await tokens(run.asker, run.target, self.users, wall_ms)
        for number, token in enumerate(passes):
            stream = self._first + number
            channel = run.ledger.names[stream]
            self.sockets.append(
                run.kind(run.audience, first_serial + number, channel, stream=stream, token=token)
            )

    def send(self, number: int, intended_us: int) -> None:
        """One push to the user of this number."""
        pushed, body = self._made(number, intended_us)
        run = self.run
        run.post(pushed.stream, pushed, run.target.request("POST", "/push", body), intended_us)

    def send_together(self, numbers: list[int], line: int, intended_us: int) -> None:
        """A push to each of these users, in one request."""
        made = [self._made(number, intended_us) for number in numbers]
        body = b'{"items":[%s]}' % b",".join([body for _, body in made])
        run = self.run
        request = run.target.request("POST", "/api/v1/pushes/batch", body)
        run.post(line, [pushed for pushed, _ in made], request, intended_us)

    def _made(self, number: int, intended_us: int) -> tuple[Pushed, bytes]:
        stream = self._first + number
        sequence = self.run.ledger.streams[stream].next()
        mark = self.run.marker.make(stream, sequence, intended_us, self._padding)
        return Pushed(stream, sequence), b'%s%s"}}' % (self._heads[number], mark.encode())

    def answered(self, tag: Pushed, status: int) -> bool:
        """Note the answer; whether the push was taken."""
        stream = self.run.ledger.streams[tag.stream]
        if status == 0:
            stream.doubt(tag.sequence)
        elif status != 202:
            stream.refuse(tag.sequence)
        return status == 202

    def answered_together(self, tags: list[Pushed], status: int, body: bytes) -> bool:
        """The same of a batch; whether all were taken."""
        statuses = [status] * len(tags)
        if status == 200:
            statuses = [result.status for result in _decode_results(body).results]
        return all(self.answered(tag, each) for tag, each in zip(tags, statuses, strict=True))

    def connect(self, sockets: list[Subscriber]) -> None:
        for socket in sockets:
            self.run.audience.crowd.connect(socket)

    def cut_one(self) -> None:
        """Break some user's connection; it comes back within half a second."""
        socket = self.run.chance.choice(self.sockets)
        if socket.is_open and socket.is_listening:
            socket.drop()
            self.cut += 1
            self.run.audience.bring_back(socket, self.run.chance.uniform(0.05, 0.5))

    def is_complete(self) -> bool:
        streams = self.run.ledger.streams
        return all(s.track.holes is None and s.track.top >= streams[s.stream].last for s in self.sockets)

    async def settle(self, timeout_s: float, *, acknowledges: bool) -> None:
        """Wait for arrivals, ask what is still kept, and settle."""
        run = self.run
        if run.ended_by is None:
            await run.until(lambda: run.audience.listening >= len(self.sockets), timeout_s)
            await run.until(self.is_complete, timeout_s)
            if acknowledges:
                await self._ask_what_is_kept(timeout_s)
        at_s = run.audience.at_s(run.now_us())
        for socket in self.sockets:
            run.ledger.settle(socket.track, socket.stream, socket.serial, at_s)
            if acknowledges:
                self._settle_acknowledgements(socket, at_s)

    async def _ask_what_is_kept(self, timeout_s: float) -> None:
        run = self.run
        run.phase("asking every inbox what it still holds")
        asked = [socket for socket in self.sockets if socket.is_listening]
        for socket in asked:
            socket.ask_what_is_kept()
        await run.until(lambda: all(s.unacknowledged is not None for s in asked), timeout_s)
        if silent := sum(s.unacknowledged is None for s in self.sockets):
            run.notes.append(f"{silent:,} inboxes did not say what they still hold.")

    def _settle_acknowledgements(self, socket: Subscriber, at_s: float) -> None:
        # What never arrived is lost, and is not charged a second time for being kept.
        ledger = self.run.ledger
        sent = ledger.streams[socket.stream]
        absent = sum(1 for number in socket.track.missing(sent.last) if sent.is_owed(number))
        for _ in range(max(0, (socket.unacknowledged or 0) - absent)):
            ledger.note("unacknowledged", socket.stream, None, socket.serial, at_s)


class PushScene(Scene):
    """The whole way of a push."""

    def __init__(self, run: Run, options: Push) -> None:
        self._run = run
        self._options = options
        self._inboxes = Inboxes(
            run, options.users, template=options.template, payload_bytes=options.payload_bytes
        )
        self._away = round(options.users * options.offline_share)
        self._next_cut_s = 0.0
        self._number = 0
        self._left = 0
        """Pushes that are still due to the user of this number."""
        self._batches: list[list[int]] = [[] for _ in range(options.load.connections)]

    async def prepare(self) -> None:
        run = self._run
        run.audience.cached = False
        run.audience.acknowledges = self._options.acknowledge
        run.audience.is_cumulative = self._options.cumulative
        await may_send(run.asker, run.target)
        await self._inboxes.log_in()
        present = self._inboxes.sockets[self._away :]
        self._inboxes.connect(present)
        await run.everyone_listens(len(present))

    def send(self, intended_us: int) -> None:
        if not self._left:
            self._number = self._run.random.randrange(self._options.users)
            self._left = self._options.burst
        self._left -= 1
        if self._options.batch == 1:
            self._inboxes.send(self._number, intended_us)
            return
        # Pushes to one user share a connection, so that they are taken in their order.
        line = self._number % len(self._batches)
        batch = self._batches[line]
        batch.append(self._number)
        if len(batch) >= self._options.batch:
            # The whole batch is as late as its last push; the earlier ones waited for it by choice.
            self._inboxes.send_together(batch, line, intended_us)
            self._batches[line] = []

    def answered(self, tag: Pushed | list[Pushed], status: int, body: bytes) -> bool:
        if isinstance(tag, Pushed):
            return self._inboxes.answered(tag, status)
        return self._inboxes.answered_together(tag, status, body)

    def tick(self, at_s: float) -> None:
        rate_per_s = self._options.churn_per_s
        while rate_per_s and self._next_cut_s <= at_s < self._options.load.seconds:
            self._next_cut_s += self._run.chance.expovariate(rate_per_s)
            self._inboxes.cut_one()

    async def settle(self) -> None:
        run, options = self._run, self._options
        absent = self._inboxes.sockets[: self._away]
        if run.ended_by is None and absent:
            run.phase(f"{len(absent):,} users who were away come back")
            self._inboxes.connect(absent)
        await self._inboxes.settle(options.ack_timeout_s, acknowledges=options.acknowledge)
        if absent:
            run.notes.append(
                f"{len(absent):,} of {options.users:,} users were away during the load; what waited for "
                "them counts as recovered, not in the latencies."
            )
        if self._inboxes.cut:
            run.notes.append(f"{self._inboxes.cut:,} connections were cut without a goodbye.")
