"""The hub: which sessions are in which channel, and how a publication reaches them.

A publication is encoded and framed once per tick, not per subscriber. A session that
is in one channel only and keeps up (nearly all are, nearly always) gets the channel's
bytes by a bare ``transport.write``; sessions in several channels have the pieces of a
tick joined first, so that there is one write per session and tick; slow ones have
their backlog. No session owns a task or a timer.

Calls are plain functions on one thread, the event loop's. ``publish`` returns at once
and says what became of it by ``done``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import msgspec

from heartcast.core.clock import Clock
from heartcast.core.errors import InvalidInput, NotFound, StoreUnavailable
from heartcast.core.wheel import TimingWheel
from heartcast.realtime.broker import Broker, Sent
from heartcast.realtime.broker.memory import MemoryBroker
from heartcast.realtime.joining import JoinDone, Joining
from heartcast.realtime.log import Appended, ChannelLog, Position, Publication
from heartcast.realtime.namespaces import Mode, is_channel_name, namespace_of
from heartcast.realtime.options import NamespaceOptions, RealtimeOptions
from heartcast.realtime.outbound import Ticker
from heartcast.realtime.presence import Member, Presence
from heartcast.realtime.presence.memory import MemoryPresence
from heartcast.realtime.room import Namespace, Room, Source, frames_of
from heartcast.realtime.session import Session
from heartcast.wire.codec import ClientInfo, compact, join_line, unsubscribe_line
from heartcast.wire.envelopes import (
    INSUFFICIENT_STATE,
    NO_PONG,
    STALE,
    UNSUBSCRIBED_FOR_STATE,
    Disconnect,
    Refusal,
)

Rpc = Callable[[Session, bytes, Callable[[bytes | Refusal], None]], None]
"""Answers a client's rpc: ``handler(session, data, done)``; ``done`` is called exactly once."""

MAX_PENDING_BYTES = 4_194_304
"""More than this does not wait for the end of a rest."""


class _Versioned(msgspec.Struct, gc=False):
    version: int = -1


_read_version = msgspec.json.Decoder(_Versioned).decode


_Outboxes = dict[Session, bytes | list[bytes]]
"""What each session gets in a tick. A list only where there is more than one piece: a hundred
thousand of them would make the garbage collector walk over everything, tick by tick."""


class Hub:
    """All channels and sessions of this process.

    Args:
        log: Keeps the history of every namespace that has one and is not ``assured``.
        broker: Carries publications to the other processes, and back to this one.
        local_log: Keeps the latest of seeded channels, which every process fills by itself.
        node: A few characters that no other process of the installation has.
    """

    def __init__(
        self,
        options: RealtimeOptions,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        *,
        log: ChannelLog,
        broker: Broker,
        local_log: ChannelLog,
        wheel: TimingWheel,
        node: str,
        mode: Mode,
    ) -> None:
        self.options = options
        self.clock = clock
        self.mode = mode
        self.node = node
        self.wheel = wheel
        self._broker = broker
        self._canary = ""
        self._heard: Callable[[], None] = lambda: None
        broker.follow(self)
        self._local_log, self._local_broker = local_log, MemoryBroker(clock)
        self._local_broker.follow(self)
        self.presence: Presence = MemoryPresence(self.members)
        """Who is in channels of namespaces with presence; the others' are not kept."""
        self._namespaces = {
            name: Namespace(name, namespace, log if namespace.history_size else None, broker)
            for name, namespace in options.all_namespaces().items()
        }
        self._rooms: dict[str, Room] = {}
        self._dirty: list[Room] = []
        self._pending_bytes = 0
        self._seeding: dict[str, list[Callable[[], None]]] = {}
        self._users: dict[str, set[Session]] = {}
        self._unconnected: dict[Session, float] = {}
        self._serial = 0
        self._buckets: list[set[Session]] = [set() for _ in range(max(1, int(options.ping_interval_s)))]
        self.ticker = Ticker(
            loop,
            clock,
            self.flush,
            rest_ratio=options.tick_rest_ratio,
            max_rest_s=options.tick_max_s,
        )
        self.on_send: Callable[[str | None, bytes], None] = lambda user, data: None
        """Takes what clients ``send``: (user, data)."""
        self.on_empty: Callable[[], None] = lambda: None
        """Told when the last session left."""
        self.rpc: dict[str, Rpc] = {}
        """Handlers of the clients' rpc, by method."""

        # Counters since start; observability reads them when it is scraped.
        self.connections = 0
        self.streams = 0
        """How many of the connections are event streams."""
        self.connections_total = 0
        self.subscriptions = 0
        self.publications = 0
        self.deliveries = 0
        self.bytes_out = 0
        self.flushes = 0
        self.dropped = 0
        self.slow_disconnects = 0
        self.failed_writes = 0
        self.recovered = 0
        self.unrecovered = 0
        self.stale_versions = 0
        self.closes: dict[int, int] = {}
        self.lag_buckets = [0] * 40
        """Ticks by the time from the oldest publication to the end of its writes: bucket ``n`` counts
        those under ``2**n`` microseconds that are not in a lower one."""

        self._start_pings()

    # -- what the rest of the program calls ------------------------------------

    def publish(
        self,
        channel: str,
        data: bytes,
        *,
        tags: dict[str, str] | None = None,
        client: bytes | None = None,
        done: Appended | None = None,
        key: str | None = None,
    ) -> None:
        """Publish to everyone who is subscribed, and to the history if there is one.

        Args:
            data: A JSON document.
            client: The publishing client's info as JSON; None: a server publishes.
            done: Called once with the position (offset 0: no history), or with the
                error that kept the log or the broker from taking it; whether anybody
                gets it is open then.
            key: Recognised for five minutes: a publication that is handed in again
                after such an error is not published twice.

        Raises:
            NotFound: the namespace does not exist (code ``unknown_channel``).
            InvalidInput: the data is too long or not JSON in UTF-8.
        """
        room = self._rooms.get(channel)
        namespace = room.namespace if room is not None else self._namespace(channel)
        data = self._checked(data)
        self.publications += 1
        log, broker = namespace.log, namespace.broker
        done = done or _nobody
        if log is None:
            broker.publish(channel, Publication(data, 0, tags, client), _unlogged(done), key=key)
            return
        if namespace.source is not None and not self._is_news(room, data):
            done(Position(0, ""))
            return
        if log.announces:
            log.append(channel, data, tags, client, done, key=key)
            return

        def appended(answer: Position | StoreUnavailable) -> None:
            if isinstance(answer, Position):
                # The key is the offset's too: what was appended before is not sent again.
                broker.publish(channel, Publication(data, answer.offset, tags, client), _sent, key=key)
            done(answer)

        log.append(channel, data, tags, client, appended, key=key)

    def publish_past_log(
        self,
        channel: str,
        data: bytes,
        tags: dict[str, str] | None,
        done: Appended,
        *,
        key: str | None = None,
    ) -> None:
        """Publish to everyone who is subscribed, in every process, and keep nothing.

        Raises:
            NotFound: as ``publish``.
            InvalidInput: the data is too long or not JSON in UTF-8.
        """
        broker, data = self._namespace(channel).broker, self._checked(data)
        self.publications += 1
        broker.publish(channel, Publication(data, 0, tags), _unlogged(done), key=key)

    def deliver(self, channel: str, publication: Publication) -> int:
        """Send to whoever is subscribed now, without a word to the log.

        Returns:
            Sessions reached.
        """
        room = self._rooms.get(channel)
        if room is None:
            return 0
        self._enqueue(room, publication)
        return len(room)

    def listen_for_canary(self, channel: str, heard: Callable[[], None]) -> None:
        """Call ``heard`` for each ``send_canary`` that comes back. No client can subscribe to the
        channel: its namespace does not exist."""
        self._canary, self._heard = channel, heard
        self._broker.watch(channel, _sent)

    def send_canary(self) -> None:
        """Publish to oneself, on the way that all publications take."""
        self._broker.publish(self._canary, Publication(b"{}", 0), _sent)

    def is_watched(self, channel: str) -> bool:
        """Whether anyone is subscribed in this process."""
        return channel in self._rooms

    def seed(self, namespace: str, source: Source) -> None:
        """Let ``source`` supply the latest value of a cache channel that has none.

        Such a channel is only kept while somebody is subscribed, and a publication
        whose ``version`` is not above the latest one is ignored. Every process has a
        source of its own, so nothing of these channels travels between them.
        """
        seeded = self._namespaces[namespace]
        seeded.source, seeded.log, seeded.broker = source, self._local_log, self._local_broker

    def is_seeded(self, channel: str) -> bool:
        """Whether every process fills this channel by itself."""
        return self._namespace(channel).source is not None

    def use_log(self, namespace: str, log: ChannelLog) -> None:
        """Bind the log of an ``assured`` namespace."""
        self._namespaces[namespace].log = log

    def log_of(self, channel: str) -> ChannelLog | None:
        """The log a channel's history is in. Raises ``NotFound`` as ``publish`` does."""
        return self._namespace(channel).log

    def has_namespace(self, channel: str) -> bool:
        return namespace_of(channel) in self._namespaces

    def options_of(self, channel: str) -> NamespaceOptions:
        """The options of a channel's namespace; those of a plain one for "" and unknown ones."""
        namespace = self._namespaces.get(namespace_of(channel))
        return namespace.options if namespace is not None else _PLAIN

    def room_of(self, channel: str) -> Room | None:
        return self._rooms.get(channel)

    def rooms(self) -> dict[str, Room]:
        """All channels with subscribers. Read only."""
        return self._rooms

    def sessions_of(self, user: str) -> list[Session]:
        return list(self._users.get(user, ()))

    def sessions(self) -> Iterator[Session]:
        for bucket in self._buckets:
            yield from tuple(bucket)

    @property
    def user_count(self) -> int:
        return len(self._users)

    @property
    def waiting_bytes(self) -> int:
        """Bytes for sessions that do not keep up, in their backlogs and sockets. Looks at every session."""
        return sum(
            session.backlog.size + session.transport.get_write_buffer_size()
            for session in self.sessions()
            if session.backlog is not None
        )

    def client_id(self, serial: int) -> str:
        """A client's id: unlike those of other processes and of this one before its restart."""
        return f"{self.node}-{serial:x}"

    def _namespace(self, channel: str) -> Namespace:
        namespace = self._namespaces.get(namespace_of(channel))
        if namespace is None:
            raise NotFound(f"there is no namespace for channel {channel[:80]!r}", code="unknown_channel")
        if not is_channel_name(channel):
            raise InvalidInput("a channel is 1 to 1024 characters of printable ASCII", code="invalid_channel")
        return namespace

    def _checked(self, data: bytes) -> bytes:
        if len(data) > self.options.max_publication_bytes:
            raise InvalidInput(
                f"data must be at most {self.options.max_publication_bytes} bytes, got {len(data)}",
                pointer="/data",
                code="publication_too_large",
            )
        if not data:
            raise InvalidInput("data is required", pointer="/data")
        try:
            return compact(data)
        except ValueError as error:
            raise InvalidInput(f"data must be JSON in UTF-8: {error}", pointer="/data") from None

    # -- fan-out ---------------------------------------------------------------

    def arrived(self, channel: str, publication: Publication) -> None:
        """Called by the broker (``broker.Receiver``)."""
        room = self._rooms.get(channel)
        if room is not None:
            self._enqueue(room, publication)
        elif channel == self._canary:
            self._heard()

    def announced(self, channel: str, line: bytes) -> None:
        """Called by the broker: somebody came or went."""
        room = self._rooms.get(channel)
        if room is not None:
            for member in tuple(room.tellings or ()):
                member.push_line(line)

    def lost(self, channel: str) -> None:
        """Called by the broker: members must come again, and are told that they cannot recover."""
        room = self._rooms.get(channel)
        if room is None:
            return
        self._flush_before_change(room)
        code, reason = UNSUBSCRIBED_FOR_STATE
        line = unsubscribe_line(channel, code, reason)
        for session in tuple(room.members()):
            if session.is_stream:
                session.close(INSUFFICIENT_STATE)
            else:
                self.leave(session, room)
                session.push_line(line)

    def _enqueue(self, room: Room, publication: Publication) -> None:
        pending = room.pending
        if not pending:
            self._dirty.append(room)
        pending.append(publication)
        if room.joining:
            self._keep_for_joining(room, publication)
        self.ticker.request()
        self._pending_bytes += len(publication.data)
        if self._pending_bytes > MAX_PENDING_BYTES:
            self.ticker.hurry()

    def flush(self) -> None:
        """Write everything that is pending, now."""
        dirty, self._dirty = self._dirty, []
        self._pending_bytes = 0
        outboxes: _Outboxes = {}
        for room in dirty:
            self._flush_room(room, outboxes)
        _send(outboxes)
        self.flushes += 1
        lag_us = int((self.clock.monotonic_s() - self.ticker.asked_s) * 1e6)
        self.lag_buckets[min(lag_us.bit_length(), 39)] += 1

    def _flush_room(self, room: Room, outboxes: _Outboxes) -> None:
        publications = room.pending
        if not publications:
            return
        room.pending = []
        # Taken before the first write: a session that a write turns slow moves from
        # `plain` to `others` and must not be served twice.
        plain, others = tuple(room.plain), tuple(room.others)
        piece = frames_of(room.lines(publications))
        for session in plain:
            try:
                session.transport.write(piece)
            except Exception:
                # One closing socket must not stop the others.
                self.failed_writes += 1
        for session in others:
            own = session.wire(room, publications, piece)
            if session.backlog is not None:
                session.put(room.channel, own)
            else:
                before = outboxes.get(session)
                if before is None:
                    outboxes[session] = own
                elif isinstance(before, list):
                    before.append(own)
                else:
                    outboxes[session] = [before, own]
        room.binary = room.events = None
        count = len(plain) + len(others)
        self.deliveries += count * len(publications)
        self.bytes_out += count * len(piece)

    def _flush_before_change(self, room: Room) -> None:
        """Write a room's pending messages to its members as they are now."""
        outboxes: _Outboxes = {}
        self._flush_room(room, outboxes)
        _send(outboxes)
        if room in self._dirty:
            self._dirty.remove(room)

    def push(self, session: Session, room: Room, publications: list[Publication]) -> None:
        if not publications:
            return
        session.settle()
        piece = session.wire(room, publications, frames_of(room.lines(publications)))
        if session.backlog is not None:
            session.put(room.channel, piece)
        else:
            session.send(piece)
        self.deliveries += len(publications)
        self.bytes_out += len(piece)

    def _is_news(self, room: Room | None, data: bytes) -> bool:
        """Whether a seeded channel has someone to tell, and the data is newer than what they have."""
        if room is None:
            return False
        try:
            version = _read_version(data).version
        except msgspec.DecodeError:
            version = -1
        if version >= 0 and version <= room.version:
            self.stale_versions += 1
            return False
        room.version = max(room.version, version)
        return True

    # -- joining and leaving ----------------------------------------------------

    def join(
        self,
        session: Session,
        channel: str,
        position: Position | None,
        done: JoinDone,
        *,
        tells: bool = False,
        is_tracked: bool = False,
    ) -> None:
        """Make a session a member of a channel. Whether it may is the caller's business.

        Args:
            position: Where the client stands; None: it does not ask for recovery.
            done: Called once, before anything of the channel is pushed. It is not
                called when the session leaves first.
            tells: Whether to tell it who joins and leaves.
            is_tracked: Neither count it as one of the session's channels nor look for what the
                channel has: the caller knows that, for many channels at once.
        """
        room = self._rooms.get(channel)
        if room is None:
            room = self._rooms[channel] = Room(channel, self._namespace(channel))
        was_plain = session.is_plain
        if is_tracked:
            session.track(room)
        else:
            session.enter(room)
        self.subscriptions += 1
        self._place_elsewhere(session, was_plain)
        log = None if is_tracked else room.namespace.log
        joining = Joining(self, room, log, session, position, done, tells)
        room.namespace.broker.watch(channel, joining.watched)

    def leave(self, session: Session, room: Room) -> None:
        """End a membership, or a join that is still on its way."""
        was_member = session in room.plain or session in room.others
        room.plain.discard(session)
        room.others.discard(session)
        if room.joining is not None:
            room.joining.pop(session, None)
        if room.tellings is not None:
            room.tellings.discard(session)
        was_plain = session.is_plain
        session.leave(room)
        self.subscriptions -= 1
        self._place_elsewhere(session, was_plain)
        if was_member:
            if room.options.presence:
                self.presence.leave(room.channel, _member(session))
            self.tell(room, session, is_leave=True)
        if not len(room):
            self._close_room(room)

    def leave_all(self, session: Session) -> None:
        for room in tuple(session.rooms()):
            self.leave(session, room)

    def admit(self, room: Room, session: Session, tells: bool) -> None:
        # What is pending was published before: newcomers have it in their answer or not at all.
        self._flush_before_change(room)
        if room.joining is not None:
            room.joining.pop(session, None)
            room.joining = room.joining or None
        room.place(session)
        if room.options.presence:
            self.presence.enter(room.channel, _member(session))
        if tells and room.options.join_leave:
            room.tellings = room.tellings or set()
            room.tellings.add(session)

    def _place_elsewhere(self, session: Session, was_plain: bool) -> None:
        # Only then: a session with hundreds of rooms would look at all of them for each.
        if session.is_plain != was_plain:
            for room in session.rooms():
                self._place_again(room, session)

    def _place_again(self, room: Room, session: Session) -> None:
        if session in room.plain or session in room.others:
            room.place(session)

    def _close_room(self, room: Room) -> None:
        del self._rooms[room.channel]
        room.pending = []
        room.namespace.broker.unwatch(room.channel)
        if room.namespace.source is not None:
            forget = getattr(room.namespace.log, "remove", None)
            if forget is not None:
                forget(room.channel)

    def _keep_for_joining(self, room: Room, publication: Publication) -> None:
        for arrived in (room.joining or {}).values():
            arrived.append(publication)

    def tell(self, room: Room, session: Session, *, is_leave: bool) -> None:
        """Tell those who asked for it, in every process, who came or went."""
        if room.options.join_leave:
            info = ClientInfo(session.user or "", session.client_id)
            room.namespace.broker.announce(room.channel, join_line(room.channel, info, is_leave=is_leave))

    def members(self, channel: str) -> Iterator[Member]:
        """Everyone who is in a channel in this process."""
        room = self._rooms.get(channel)
        if room is not None:
            yield from map(_member, room.members())

    def fill_from_source(self, room: Room, log: ChannelLog, source: Source, then: Callable[[], None]) -> None:
        """Ask for a cache channel's first value, once for all who wait for it."""
        waiting = self._seeding.get(room.channel)
        if waiting is not None:
            waiting.append(then)
            return
        self._seeding[room.channel] = [then]

        def answered(data: bytes | None) -> None:
            self._seeded(room, log, data)
            for call in self._seeding.pop(room.channel, []):
                call()

        source(room.channel, answered)

    def _seeded(self, room: Room, log: ChannelLog, data: bytes | None) -> None:
        # A live value that came first is newer: its version was noted then.
        if data is not None and self._rooms.get(room.channel) is room and self._is_news(room, data):
            log.append(room.channel, compact(data), None, None, lambda position: None)

    # -- sessions -----------------------------------------------------------------

    def enter(self, session: Session) -> int:
        """Note a new session; gives its number."""
        self._serial += 1
        self._buckets[self._serial % len(self._buckets)].add(session)
        self._unconnected[session] = self.clock.monotonic_s() + self.options.connect_timeout_s
        self.connections += 1
        self.streams += session.is_stream
        self.connections_total += 1
        return self._serial

    def connected(self, session: Session, user: str | None) -> None:
        """The client said who it is."""
        self._unconnected.pop(session, None)
        session.user = user
        if user is not None:
            self._users.setdefault(user, set()).add(session)

    def is_connected(self, session: Session) -> bool:
        return session not in self._unconnected

    def exit(self, session: Session) -> None:
        """Forget a session whose socket is gone."""
        bucket = self._buckets[session.serial % len(self._buckets)]
        if session not in bucket:
            return
        bucket.discard(session)
        self._unconnected.pop(session, None)
        self.leave_all(session)
        self.connections -= 1
        self.streams -= session.is_stream
        if not self.connections:
            self.on_empty()
        if session.user is not None:
            others = self._users.get(session.user)
            if others is not None:
                others.discard(session)
                if not others:
                    del self._users[session.user]

    def closed_with(self, code: int) -> None:
        self.closes[code] = self.closes.get(code, 0) + 1

    def after(self, delay_s: float, callback: Callable[[], None]) -> None:
        self.wheel.at(self.clock.monotonic_s() + delay_s, callback)

    def slowed(self, session: Session) -> None:
        """A socket is full: look at its channels' messages one by one from now on."""
        for room in session.rooms():
            self._place_again(room, session)
        backlog = session.backlog
        if backlog is None:
            return
        backlog.seen_bytes = session.transport.get_write_buffer_size()

        def look() -> None:
            if session.check_progress(backlog):
                self.after(self.options.write_deadline_s, look)

        self.after(self.options.write_deadline_s, look)

    def recovered_pace(self, session: Session) -> None:
        """A socket that was full has taken everything."""
        for room in session.rooms():
            self._place_again(room, session)

    def _start_pings(self) -> None:
        interval_s = self.options.ping_interval_s
        now_s = self.clock.monotonic_s()
        for index in range(len(self._buckets)):
            self.wheel.at(now_s + interval_s * (index + 1) / len(self._buckets), self._pinger(index))
        self.after(1.0, self._close_unconnected)

    def _pinger(self, index: int) -> Callable[[], None]:
        bucket = self._buckets[index]

        def ping() -> None:
            for session in tuple(bucket):
                if not session.is_closing and session not in self._unconnected:
                    session.ping()
            self.after(self.options.pong_timeout_s, check)
            self.after(self.options.ping_interval_s, ping)

        def check() -> None:
            for session in tuple(bucket):
                if session.awaits_pong:
                    session.close(NO_PONG)

        return ping

    def _close_unconnected(self) -> None:
        now_s = self.clock.monotonic_s()
        # Insertion order is deadline order, because the time given is the same for all.
        for session, deadline_s in list(self._unconnected.items()):
            if deadline_s > now_s:
                break
            session.close(STALE)
        self.after(1.0, self._close_unconnected)

    def close_all(self, disconnect: Disconnect) -> None:
        """Close every session; they leave as their peers answer."""
        self.flush()
        for session in self.sessions():
            session.close(disconnect)


def _send(outboxes: _Outboxes) -> None:
    for session, pieces in outboxes.items():
        session.send(pieces if isinstance(pieces, bytes) else b"".join(pieces))


def _member(session: Session) -> Member:
    return Member(session.client_id, session.user or "")


def _unlogged(done: Appended) -> Sent:
    """A broker's answer as that of a log which keeps nothing."""
    return lambda failure: done(failure if failure is not None else Position(0, ""))


def _nobody(answer: Position | StoreUnavailable) -> None:
    """For publishers that do not want to know."""


def _sent(failure: StoreUnavailable | None) -> None:
    """The log has it: whoever did not get it will."""


_PLAIN = NamespaceOptions()
