"""The broker between nodes: Redis or Valkey sharded pub/sub, healed from the log.

Pub/sub loses what is sent while a connection is down, and says nothing. So a node keeps
its *place* in every channel it watches that has a log: the offset that arrived last. An
offset that does not follow, a new connection, and a look every few seconds each lead to
one question to the log, whose answer is handed on in order before anything newer. That
look is what finds the last message of a channel that then falls silent. When the log
does not have what is missing, or began another life, the channel is declared lost.

A message is the entry of the log with a head: ``<offset> <epoch>\\n<entry>``; offset 0
for what is in no log; ``!\\n<line>`` for who comes and goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from heartcast.backends.redis import Script
from heartcast.backends.redis_pipe import RedisPipe, pack
from heartcast.backends.redis_subscriber import RedisSubscriber
from heartcast.core.errors import StoreUnavailable
from heartcast.realtime.broker import Receiver, Sent, Watched
from heartcast.realtime.log import Complete, Gap, Position, Publication
from heartcast.realtime.log.redis import Names, RedisLog, entry_of, publication_of
from heartcast.realtime.once import TTL_S
from heartcast.realtime.rounds import Rounds

_EVERYTHING = 1 << 40
_MAX_EARLY = 10_000
"""Messages kept while the log is asked; of more, the log is asked again."""
_DOUBT_S = 0.1
"""What the log no longer has may be on its way by pub/sub: it is given so long before it counts as lost."""

# A publication that no log keeps, sent once per key. ARGV: channel, message, ms the key is kept.
_SEND_ONCE = Script(
    """
if redis.call('SET', KEYS[1], 1, 'NX', 'PX', ARGV[3]) then
  redis.call('SPUBLISH', ARGV[1], ARGV[2])
end
"""
)
SCRIPTS = (_SEND_ONCE,)


class _Place:
    """Where this node stands in a channel it watches."""

    __slots__ = (
        "doubted_s",
        "early",
        "is_asking",
        "is_confirmed",
        "is_live",
        "must_ask",
        "position",
        "waiting",
    )

    def __init__(self) -> None:
        self.position: Position | None = None
        """What arrived last; None: not known yet, or the channel has no log."""
        self.is_confirmed = False
        """The pub/sub connection brings what is published from now on."""
        self.is_live = False
        """Confirmed, and nothing before is missing."""
        self.is_asking = False
        self.must_ask = False
        """The answer under way may come too early: more happened since the question."""
        self.doubted_s: float | None = None
        """Since when something seems to be lost (the loop's time); None: nothing does."""
        self.early: list[tuple[Position, str]] = []
        """Position and entry of what arrived while the log was asked and does not follow ours."""
        self.waiting: list[Watched] = []

    def answer(self, failure: StoreUnavailable | None) -> None:
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done(failure)


class RedisBroker:
    """Implements ``Broker``. Make it on a running loop, ``start`` it, ``close`` it there.

    Args:
        url: ``redis://…``; never logged.
        pipe: Made with ``SCRIPTS``; shared with the log.
        log: Where publications with offsets are kept and announced.
        is_logged: Whether a channel's publications are in the log.
        timeout_s: Longest wait for the pub/sub connection, seconds, > 0.
        compare_s: Seconds in which every watched channel's place is compared once, > 0.
    """

    def __init__(
        self,
        url: str,
        *,
        pipe: RedisPipe,
        log: RedisLog,
        is_logged: Callable[[str], bool],
        timeout_s: float,
        compare_s: float = 5.0,
        names: Names | None = None,
    ) -> None:
        self._pipe = pipe
        self._log = log
        log.witness = self._witness
        self._is_logged = is_logged
        self._names = names or Names()
        self._feed = RedisSubscriber(
            url,
            timeout_s=timeout_s,
            on_message=self._received,
            on_confirmed=self._confirmed,
            on_lost=self._unreachable,
            is_sharded=True,
        )
        self._places: dict[str, _Place] = {}
        self._comparisons = Rounds(self._logged, self._compare, compare_s)
        self._receiver: Receiver | None = None
        self.healed = 0
        """Publications that pub/sub lost and the log gave."""
        self.losses = 0
        """Channels declared lost."""

    # -- the port ------------------------------------------------------------------

    def follow(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def watch(self, channel: str, done: Watched) -> None:
        place = self._places.get(channel)
        if place is None:
            place = self._places[channel] = _Place()
            self._feed.watch(self._names.of("pub", channel))
        if place.is_live:
            done(None)
        else:
            place.waiting.append(done)

    def unwatch(self, channel: str) -> None:
        place = self._places.pop(channel, None)
        if place is not None:
            self._feed.unwatch(self._names.of("pub", channel))
            place.answer(StoreUnavailable(f"{channel} is no longer watched"))

    def publish(self, channel: str, publication: Publication, done: Sent, *, key: str | None = None) -> None:
        data, offset, tags, client = publication
        self._send(channel, f"{offset} \n{entry_of(data, tags, client)}", done, key)

    def announce(self, channel: str, line: bytes) -> None:
        self._send(channel, f"!\n{line.decode()}", lambda failure: None, None)

    def _send(self, channel: str, message: str, done: Sent, key: str | None) -> None:
        name = self._names.of("pub", channel)

        def replied(reply: Any) -> None:
            done(reply if isinstance(reply, StoreUnavailable) else None)

        if key is None:
            self._pipe.send(pack("SPUBLISH", name, message), replied)
        else:
            once = f"{self._names.of('once', channel)} {key}"
            ttl_ms = int(TTL_S * 1000)
            self._pipe.send(pack("EVALSHA", _SEND_ONCE.sha, 1, once, name, message, ttl_ms), replied)

    # -- arriving ------------------------------------------------------------------

    def _received(self, name: str, message: bytes) -> None:
        channel = _channel_of(name)
        place = self._places.get(channel)
        receiver = self._receiver
        if place is None or receiver is None:
            return
        head, _, entry = message.decode().partition("\n")
        if head == "!":
            receiver.announced(channel, entry.encode())
            return
        number, _, epoch = head.partition(" ")
        position = Position(int(number), epoch)
        if not position.offset:
            receiver.arrived(channel, publication_of(entry, 0))
        elif not self._takes(channel, place, position, entry) and not _is_old(place.position, position):
            # Kept, because on a busy channel more would arrive, and be missed, with every question.
            if len(place.early) < _MAX_EARLY:
                place.early.append((position, entry))
            else:
                place.must_ask = True
            if not place.is_asking and place.position is not None:
                self._ask(channel, place)

    def _takes(self, channel: str, place: _Place, position: Position, entry: str) -> bool:
        """Hand on what follows our place."""
        ours = place.position
        if ours is None or position != ours._replace(offset=ours.offset + 1):
            return False
        assert self._receiver is not None
        place.position = position
        place.doubted_s = None
        self._receiver.arrived(channel, publication_of(entry, position.offset))
        return True

    def _confirmed(self, name: str) -> None:
        channel = _channel_of(name)
        place = self._places.get(channel)
        if place is None:
            return
        place.is_confirmed = True
        if self._is_logged(channel):
            self._ask(channel, place)
        else:
            place.is_live = True
            place.answer(None)

    def _unreachable(self) -> None:
        failure = StoreUnavailable("redis: no pub/sub connection")
        for place in list(self._places.values()):
            place.is_confirmed = place.is_live = False
            place.answer(failure)

    # -- healing -------------------------------------------------------------------

    def _witness(self, channel: str) -> Position | None:
        place = self._places.get(channel)
        return place.position if place is not None else None

    def _ask(self, channel: str, place: _Place) -> None:
        """Ask the log what came after our place."""
        if place.is_asking:
            place.must_ask = True
            return
        place.is_asking = True
        place.must_ask = False
        asked = place.position

        def answered(answer: Complete | Gap | StoreUnavailable) -> None:
            place.is_asking = False
            if self._places.get(channel) is not place:
                return
            if isinstance(answer, StoreUnavailable):
                # The next look asks again.
                place.answer(answer)
            else:
                self._heal(channel, place, asked, answer)

        self._log.since(channel, place.position, _EVERYTHING, answered)

    def _heal(self, channel: str, place: _Place, asked: Position | None, answer: Complete | Gap) -> None:
        """Bring our place to where the log is, or declare that it cannot be."""
        receiver, ours = self._receiver, place.position
        assert receiver is not None
        if ours is None:
            place.position = answer.top
        elif ours.epoch == answer.top.epoch and ours.offset >= answer.top.offset:
            pass  # what followed arrived by itself meanwhile
        elif isinstance(answer, Complete):
            place.position = answer.top
            missed = [publication for publication in answer.publications if publication.offset > ours.offset]
            self.healed += len(missed)
            for publication in missed:
                receiver.arrived(channel, publication)
        elif ours != asked and ours.epoch == answer.top.epoch:
            place.must_ask = True  # we have moved since: what came before that is not missing
        elif ours.epoch == answer.top.epoch and not self._is_certain(channel, place):
            return  # asked again a little later
        else:
            place.position = answer.top
            self.losses += 1
            receiver.lost(channel)
        place.doubted_s = None
        if self._places.get(channel) is place:
            self._go_on(channel, place)

    def _is_certain(self, channel: str, place: _Place) -> bool:
        """Whether what the log no longer has had its time to arrive by itself."""
        loop = asyncio.get_running_loop()
        if place.doubted_s is None:
            place.doubted_s = loop.time()
            loop.call_later(_DOUBT_S, self._compare, channel)
        return loop.time() >= place.doubted_s + 0.9 * _DOUBT_S  # timers may fire a little early

    def _go_on(self, channel: str, place: _Place) -> None:
        early, place.early = place.early, []
        for position, entry in early:
            if not self._takes(channel, place, position, entry) and not _is_old(place.position, position):
                place.must_ask = True
        if place.must_ask:
            self._ask(channel, place)
        elif place.is_confirmed:
            place.is_live = True
            place.answer(None)

    def _logged(self) -> list[str]:
        return [channel for channel in self._places if self._is_logged(channel)]

    def _compare(self, channel: str) -> None:
        place = self._places.get(channel)
        if place is not None and place.is_confirmed:
            self._ask(channel, place)

    def start(self) -> None:
        """Start the comparisons."""
        self._comparisons.start()

    async def close(self) -> None:
        self._comparisons.stop()
        await self._feed.close()


def _is_old(ours: Position | None, other: Position) -> bool:
    """Whether we are beyond this position already."""
    return ours is not None and other.epoch == ours.epoch and other.offset <= ours.offset


def _channel_of(name: str) -> str:
    return name.partition("}:pub:")[2]
