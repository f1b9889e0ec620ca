"""The Centrifugo client protocol: what each command does.

A text message holds commands, one per line. Their replies leave together in one
frame; a command that must wait (a log that reads from disk) is answered when it can.
Breaking the protocol closes the connection with 3501, a refused command gets an error.

The first command is ``connect``. Whoever sends another one first, or a second
``connect``, is no client of this protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from heartcast import __version__
from heartcast.core.errors import HeartcastError, StoreUnavailable, Unauthenticated
from heartcast.core.names import user_text
from heartcast.realtime.log import Complete, Gap, Position
from heartcast.realtime.namespaces import is_channel_name, may_publish, may_subscribe
from heartcast.realtime.presence import Counts, Member
from heartcast.realtime.realtime import Claims, Realtime
from heartcast.realtime.recovery import Joined
from heartcast.wire import codec, envelopes
from heartcast.wire.codec import Command
from heartcast.wire.envelopes import Disconnect, Refusal

if TYPE_CHECKING:
    from heartcast.gateway.socket import WebSocket

MAX_COMMANDS_PER_MESSAGE = 1_000
MAX_HISTORY_PAGE = 1_000
_FLAG_REJECT_UNRECOVERED = 2

Replies = list[bytes]


class _DevUser(msgspec.Struct):
    """In dev mode a client without a token may say who it is: ``{"user": "u456"}``."""

    user: int | str | None = None


_read_dev_user = msgspec.json.Decoder(_DevUser).decode


class ProtocolBroken(Exception):
    """The client did what no client of this protocol does; close it."""

    def __init__(self, disconnect: Disconnect) -> None:
        super().__init__(disconnect.reason)
        self.disconnect = disconnect


class Centrifugo:
    """Answers commands. One for all connections."""

    def __init__(self, realtime: Realtime) -> None:
        self._realtime = realtime
        self._hub = realtime.hub
        self._options = realtime.options
        self.commands = 0
        self.errors = 0
        self._methods: tuple[tuple[str, Callable[[WebSocket, int, msgspec.Struct], bytes | None]], ...] = (
            tuple(
                (name, getattr(self, f"_{name}"))
                for name in Command.__struct_fields__
                if name not in ("id", "connect")
            )
        )

    def handle(self, session: WebSocket, message: bytes) -> None:
        """Take one text message of a client."""
        if message == codec.PONG_COMMAND:
            session.awaits_pong = False
            return
        self._collect(session, lambda replies: self._handle_lines(session, message, replies))

    def take(self, session: WebSocket, command: Command) -> None:
        """Take one command that came in another form than JSON."""

        def run(replies: Replies) -> None:
            answer = self._run(session, command)
            if answer is not None:
                replies.append(answer)

        self._collect(session, run)

    def _collect(self, session: WebSocket, run: Callable[[Replies], None]) -> None:
        """Send the replies of a message together, and close the session if it broke the protocol."""
        replies: Replies = []
        session.replies = replies
        try:
            run(replies)
        except ProtocolBroken as broken:
            self._write(session, replies)
            session.close(broken.disconnect)
            return
        finally:
            session.replies = None
        self._write(session, replies)

    def _handle_lines(self, session: WebSocket, message: bytes, replies: Replies) -> None:
        if not codec.is_utf8(message):
            raise ProtocolBroken(envelopes.BAD_COMMAND)
        lines = message.split(b"\n")
        if len(lines) > MAX_COMMANDS_PER_MESSAGE:
            raise ProtocolBroken(envelopes.BAD_COMMAND)
        for line in lines:
            if session.is_closing:
                return
            line = line.strip()
            if line == codec.PONG_COMMAND:
                session.awaits_pong = False
            elif line:
                answer = self._handle_line(session, line)
                if answer is not None:
                    replies.append(answer)

    @staticmethod
    def _write(session: WebSocket, replies: Replies) -> None:
        if replies:
            session.send_lines(replies)

    def _handle_line(self, session: WebSocket, line: bytes) -> bytes | None:
        try:
            command = codec.decode_command(line)
        except (msgspec.DecodeError, RecursionError):
            raise ProtocolBroken(envelopes.BAD_COMMAND) from None
        return self._run(session, command)

    def _run(self, session: WebSocket, command: Command) -> bytes | None:
        self.commands += 1
        is_connected = self._hub.is_connected(session)
        if (command.connect is None) != is_connected:
            raise ProtocolBroken(envelopes.BAD_COMMAND)
        if command.id <= 0 and command.send is None:
            raise ProtocolBroken(envelopes.BAD_COMMAND)
        try:
            if command.connect is not None:
                return self._connect(session, command.id, command.connect)
            return self._dispatch(session, command)
        except HeartcastError as error:
            return self._refuse(command.id, envelopes.refusal(error))

    def _dispatch(self, session: WebSocket, command: Command) -> bytes | None:
        for name, method in self._methods:
            request = getattr(command, name)
            if request is not None:
                return method(session, command.id, request)
        return self._refuse(command.id, envelopes.METHOD_NOT_FOUND)

    def _refuse(self, command_id: int, refusal: Refusal) -> bytes:
        self.errors += 1
        return codec.error_reply(command_id, refusal)

    # -- connection ----------------------------------------------------------------

    def _connect(self, session: WebSocket, command_id: int, request: codec.ConnectRequest) -> bytes:
        claims = self._claims(request.token) if request.token else None
        if claims is not None and claims.channel is not None:
            # A subscription token proves nothing about a connection.
            raise ProtocolBroken(envelopes.INVALID_TOKEN)
        user = claims.user if claims is not None else self._anonymous_user(request)
        self._hub.connected(session, user)
        ttl_s = self.expire(session, claims.expires_ms if claims is not None else None)
        result = codec.ConnectResult(
            client=session.client_id,
            version=f"heartcast {__version__}",
            expires=ttl_s > 0,
            ttl=ttl_s,
            ping=max(1, round(self._options.ping_interval_s)),
            pong=True,
        )
        return codec.reply(command_id, "connect", result)

    def _claims(self, token: str) -> Claims:
        try:
            return self._realtime.verify(token)
        except Unauthenticated as error:
            if error.code == "token_expired":
                raise
            raise ProtocolBroken(envelopes.INVALID_TOKEN) from None

    def _anonymous_user(self, request: codec.ConnectRequest) -> str | None:
        data = bytes(request.data)
        if self._realtime.mode == "dev":
            try:
                named = _read_dev_user(data).user if data else None
            except msgspec.DecodeError:
                return None
            return user_text(named, "/data/user") if named is not None else None
        if not self._options.allow_anonymous:
            raise ProtocolBroken(envelopes.FORBIDDEN_CONNECTION)
        return None

    def expire(self, session: WebSocket, expires_ms: int | None) -> int:
        """Arrange for the end of a connection whose token ends; gives the seconds left, 0: it does not."""
        session.expires_ms = expires_ms
        if expires_ms is None:
            return 0
        ttl_s = self._seconds_left(expires_ms)
        # The client refreshes when its ttl is over; it gets as long again as a ping round.
        self._hub.after(ttl_s + self._options.ping_interval_s, lambda: self._close_expired(session))
        return ttl_s

    def _seconds_left(self, expires_ms: int) -> int:
        return max(1, (expires_ms - self._realtime.clock.wall_ms()) // 1000)

    def _close_expired(self, session: WebSocket) -> None:
        if session.expires_ms is not None and session.expires_ms <= self._realtime.clock.wall_ms():
            session.close(envelopes.CONNECTION_EXPIRED)

    def _refresh(self, session: WebSocket, command_id: int, request: codec.TokenRequest) -> bytes:
        claims = self._claims(request.token)
        if claims.channel is not None or claims.user != session.user:
            raise ProtocolBroken(envelopes.INVALID_TOKEN)
        ttl_s = self.expire(session, claims.expires_ms)
        result = codec.RefreshResult(
            client=session.client_id, version=f"heartcast {__version__}", expires=ttl_s > 0, ttl=ttl_s
        )
        return codec.reply(command_id, "refresh", result)

    def _ping(self, session: WebSocket, command_id: int, request: codec.EmptyRequest) -> bytes:
        return codec.reply(command_id, "ping")

    # -- channels --------------------------------------------------------------------

    def _subscribe(
        self, session: WebSocket, command_id: int, request: codec.SubscribeRequest
    ) -> bytes | None:
        channel = request.channel
        refusal = self._why_no_subscription(session, channel)
        if refusal is not None:
            return self._refuse(command_id, refusal)
        ttl_s = 0
        if request.token:
            claims = self._channel_claims(session, channel, request.token)
            if isinstance(claims, Refusal):
                return self._refuse(command_id, claims)
            ttl_s = self._expire_subscription(session, channel, claims)
        elif not may_subscribe(self._hub.options_of(channel), channel, session.user, self._realtime.mode):
            return self._refuse(command_id, envelopes.PERMISSION_DENIED)
        position = Position(max(0, request.offset), request.epoch) if request.recover else None

        def joined(answer: Joined | Refusal) -> None:
            session.answer(self._subscribed(session, command_id, request, answer, ttl_s))

        self._hub.join(session, channel, position, joined, tells=request.join_leave)
        return None

    def _why_no_subscription(self, session: WebSocket, channel: str) -> Refusal | None:
        if not is_channel_name(channel):
            return envelopes.BAD_REQUEST
        if not self._hub.has_namespace(channel):
            return envelopes.UNKNOWN_CHANNEL
        if session.room(channel) is not None:
            return envelopes.ALREADY_SUBSCRIBED
        if session.channel_count >= self._options.max_channels_per_connection:
            return envelopes.LIMIT_EXCEEDED
        return None

    def _channel_claims(self, session: WebSocket, channel: str, token: str) -> Claims | Refusal:
        try:
            claims = self._realtime.verify(token)
        except Unauthenticated as error:
            return envelopes.TOKEN_EXPIRED if error.code == "token_expired" else envelopes.PERMISSION_DENIED
        if claims.channel != channel or claims.user not in (None, session.user):
            return envelopes.PERMISSION_DENIED
        return claims

    def _expire_subscription(self, session: WebSocket, channel: str, claims: Claims) -> int:
        if claims.expires_ms is None:
            return 0
        ttl_s = self._seconds_left(claims.expires_ms)
        session.note_end(channel, claims.expires_ms)
        self._hub.after(
            ttl_s + self._options.ping_interval_s, lambda: self._end_subscription(session, channel)
        )
        return ttl_s

    def _end_subscription(self, session: WebSocket, channel: str) -> None:
        room = session.room(channel)
        ends_ms = session.end_of(channel)
        if room is not None and ends_ms is not None and ends_ms <= self._realtime.clock.wall_ms():
            self._hub.leave(session, room)
            code, reason = envelopes.UNSUBSCRIBED_EXPIRED
            session.push_line(codec.unsubscribe_line(channel, code, reason))

    def _subscribed(
        self,
        session: WebSocket,
        command_id: int,
        request: codec.SubscribeRequest,
        answer: Joined | Refusal,
        ttl_s: int,
    ) -> bytes:
        if isinstance(answer, Refusal):
            return self._refuse(command_id, answer)
        if answer.position is None:
            return codec.reply(command_id, "subscribe", codec.SubscribeResult(expires=ttl_s > 0, ttl=ttl_s))
        if answer.was_recovering and not answer.recovered and request.flag & _FLAG_REJECT_UNRECOVERED:
            room = session.room(request.channel)
            if room is not None:
                self._hub.leave(session, room)
            return self._refuse(command_id, envelopes.UNRECOVERABLE)
        recovers = self._hub.options_of(request.channel)
        result = codec.SubscribeResult(
            expires=ttl_s > 0,
            ttl=ttl_s,
            recoverable=recovers.recovery != "none" or recovers.delivery == "assured",
            positioned=recovers.recovery != "none" or recovers.delivery == "assured",
            epoch=answer.position.epoch,
            offset=answer.position.offset,
            was_recovering=answer.was_recovering,
            recovered=answer.recovered,
            publications=[codec.publication_view(*_fields(p)) for p in answer.publications],
        )
        return codec.reply(command_id, "subscribe", result)

    def _unsubscribe(self, session: WebSocket, command_id: int, request: codec.ChannelRequest) -> bytes:
        if not is_channel_name(request.channel):
            return self._refuse(command_id, envelopes.BAD_REQUEST)
        room = session.room(request.channel)
        if room is not None:
            self._hub.leave(session, room)
        return codec.reply(command_id, "unsubscribe")

    def _sub_refresh(self, session: WebSocket, command_id: int, request: codec.TokenRequest) -> bytes:
        if session.room(request.channel) is None:
            return self._refuse(command_id, envelopes.PERMISSION_DENIED)
        claims = self._channel_claims(session, request.channel, request.token)
        if isinstance(claims, Refusal):
            return self._refuse(command_id, claims)
        ttl_s = self._expire_subscription(session, request.channel, claims)
        return codec.reply(command_id, "sub_refresh", codec.RefreshResult(expires=ttl_s > 0, ttl=ttl_s))

    def _publish(self, session: WebSocket, command_id: int, request: codec.PublishRequest) -> bytes | None:
        channel, data = request.channel, bytes(request.data)
        if not data or not is_channel_name(channel):
            return self._refuse(command_id, envelopes.BAD_REQUEST)
        if not self._hub.has_namespace(channel):
            return self._refuse(command_id, envelopes.UNKNOWN_CHANNEL)
        if not may_publish(self._hub.options_of(channel), channel, session.user, self._realtime.mode):
            return self._refuse(command_id, envelopes.PERMISSION_DENIED)
        info = codec.encode(codec.ClientInfo(session.user or "", session.client_id))

        def published(answer: Position | StoreUnavailable) -> None:
            is_kept = isinstance(answer, Position)
            reply = (
                codec.reply(command_id, "publish")
                if is_kept
                else self._refuse(command_id, envelopes.INTERNAL)
            )
            session.answer(reply)

        self._hub.publish(channel, data, client=info, done=published)
        return None

    def _history(self, session: WebSocket, command_id: int, request: codec.HistoryRequest) -> bytes | None:
        if session.room(request.channel) is None:
            return self._refuse(command_id, envelopes.PERMISSION_DENIED)
        log = self._hub.log_of(request.channel)
        if log is None:
            return self._refuse(command_id, envelopes.NOT_AVAILABLE)
        since = request.since
        after = Position(max(0, since.offset), since.epoch) if since is not None else None
        limit = request.limit if 0 <= request.limit <= MAX_HISTORY_PAGE else MAX_HISTORY_PAGE

        def answered(answer: Complete | Gap | StoreUnavailable) -> None:
            session.answer(self._history_reply(command_id, answer))

        log.history(request.channel, after, limit, request.reverse, answered)
        return None

    def _history_reply(self, command_id: int, answer: Complete | Gap | StoreUnavailable) -> bytes:
        if isinstance(answer, StoreUnavailable):
            return self._refuse(command_id, envelopes.INTERNAL)
        if isinstance(answer, Gap):
            return self._refuse(command_id, envelopes.UNRECOVERABLE)
        views = [codec.publication_view(*_fields(p)) for p in answer.publications]
        return codec.reply(command_id, "history", codec.HistoryResult(views, *answer.top))

    def _presence(self, session: WebSocket, command_id: int, request: codec.ChannelRequest) -> bytes | None:
        refusal = self._why_no_presence(session, request.channel)
        if refusal is not None:
            return self._refuse(command_id, refusal)

        def answered(members: list[Member] | StoreUnavailable) -> None:
            if isinstance(members, StoreUnavailable):
                session.answer(self._refuse(command_id, envelopes.INTERNAL))
            else:
                session.answer(codec.reply(command_id, "presence", codec.presence_of(members)))

        self._hub.presence.page(request.channel, answered)
        return None

    def _presence_stats(
        self, session: WebSocket, command_id: int, request: codec.ChannelRequest
    ) -> bytes | None:
        refusal = self._why_no_presence(session, request.channel)
        if refusal is not None:
            return self._refuse(command_id, refusal)

        def answered(counts: Counts | StoreUnavailable) -> None:
            if isinstance(counts, StoreUnavailable):
                session.answer(self._refuse(command_id, envelopes.INTERNAL))
            else:
                session.answer(codec.reply(command_id, "presence_stats", codec.PresenceStatsResult(*counts)))

        self._hub.presence.count(request.channel, answered)
        return None

    def _why_no_presence(self, session: WebSocket, channel: str) -> Refusal | None:
        if not self._hub.has_namespace(channel):
            return envelopes.UNKNOWN_CHANNEL
        if session.room(channel) is None:
            return envelopes.PERMISSION_DENIED
        return None if self._hub.options_of(channel).presence else envelopes.NOT_AVAILABLE

    # -- the application ---------------------------------------------------------------

    def _send(self, session: WebSocket, command_id: int, request: codec.SendRequest) -> None:
        self._hub.on_send(session.user, bytes(request.data))

    def _rpc(self, session: WebSocket, command_id: int, request: codec.RpcRequest) -> bytes | None:
        handler = self._hub.rpc.get(request.method)
        if handler is None:
            return self._refuse(command_id, envelopes.METHOD_NOT_FOUND)

        def answered(answer: bytes | Refusal) -> None:
            if isinstance(answer, Refusal):
                session.answer(self._refuse(command_id, answer))
            else:
                session.answer(
                    codec.reply(command_id, "rpc", codec.RpcResult(msgspec.Raw(codec.compact(answer))))
                )

        handler(session, bytes(request.data), answered)
        return None


def _fields(
    publication: tuple[bytes, int, dict[str, str] | None, bytes | None],
) -> tuple[bytes, int, dict[str, str] | None, bytes | None]:
    return publication
