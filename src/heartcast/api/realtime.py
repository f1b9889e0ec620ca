"""The server API for realtime, as stock clients of the Centrifugo server speak it.

``POST /api/<method>`` with a JSON body answers 200 with ``{"result": {…}}`` or
``{"error": {"code", "message"}}``; only a caller without a valid key gets a 401.
``batch`` runs several methods.

Among several nodes it does not matter which one is asked. Publications, history and
presence are shared; what is about sessions is done here and, by ``Others``, at every
other node, and answered when all have done it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec import Raw, Struct

from heartcast import __version__
from heartcast.api.problems import status_problem
from heartcast.api.route import Answer, Call, Parameter, Route
from heartcast.core.errors import HeartcastError, StoreUnavailable
from heartcast.realtime.log import Complete, Gap, Position
from heartcast.realtime.presence import Counts, Member
from heartcast.realtime.realtime import Realtime
from heartcast.realtime.recovery import Joined
from heartcast.realtime.session import Session
from heartcast.wire import codec, envelopes
from heartcast.wire.envelopes import Disconnect, Refusal

MAX_BATCH = 1_000
MAX_HISTORY_PAGE = 1_000

Done = Callable[[bytes | Refusal], None]
"""Takes the result as JSON, or the error; called exactly once."""


class Others(Protocol):
    """The other nodes of the installation."""

    def ask(self, subject: str, body: bytes, done: Callable[[list[bytes] | StoreUnavailable], None]) -> None:
        """Ask them all; ``done`` gets all answers, or the failure when one gave none."""
        ...

    def on(self, subject: str, handler: Callable[[bytes, Callable[[bytes], None]], None]) -> None:
        """Say who answers when another node asks."""
        ...


class PublishBody(Struct):
    channel: str
    data: Raw = msgspec.field(default_factory=Raw)
    skip_history: bool | None = None
    tags: dict[str, str] | None = None
    idempotency_key: str | None = None


class BroadcastBody(Struct):
    channels: list[str]
    data: Raw = msgspec.field(default_factory=Raw)
    skip_history: bool | None = None
    tags: dict[str, str] | None = None
    idempotency_key: str | None = None


class MembershipBody(Struct):
    """Which sessions are meant: all of a user, or one of them."""

    user: str
    channel: str
    client: str | None = None


class CloseCode(Struct):
    code: int = 0
    reason: str = ""


class DisconnectBody(Struct):
    user: str
    client: str | None = None
    whitelist: list[str] | None = None
    disconnect: CloseCode | None = None


class RefreshBody(Struct):
    user: str
    client: str | None = None
    expired: bool = False
    expire_at: int | None = None
    """Unix time in seconds; None: the connection does not end by itself any more."""


class ChannelBody(Struct):
    channel: str


class HistoryBody(Struct):
    channel: str
    limit: int | None = None
    since: codec.StreamPosition | None = None
    reverse: bool | None = None


class ChannelsBody(Struct):
    pattern: str | None = None


class InfoBody(Struct):
    pass


class BatchBody(Struct):
    commands: list[dict[str, Raw]]
    parallel: bool | None = None


class ErrorDocument(Struct):
    code: int
    message: str


class ServerApi:
    """The methods, by name. One for the whole process.

    Args:
        others: The other nodes; None: there are none, or they have channels of their own.
    """

    def __init__(self, realtime: Realtime, others: Others | None = None) -> None:
        self._realtime = realtime
        self._others = others
        self._hub = realtime.hub
        self._started_s = realtime.clock.monotonic_s()
        self.methods: dict[str, tuple[type[Any], Callable[[Any, Done], None], str]] = {
            "publish": (PublishBody, self.publish, "Publish to a channel."),
            "broadcast": (BroadcastBody, self.broadcast, "Publish the same data to several channels."),
            "subscribe": (MembershipBody, self.subscribe, "Subscribe a user's connections to a channel."),
            "unsubscribe": (
                MembershipBody,
                self.unsubscribe,
                "Unsubscribe a user's connections.",
            ),
            "disconnect": (DisconnectBody, self.disconnect, "Close a user's connections."),
            "refresh": (RefreshBody, self.refresh, "Let a user's connections end later, or now."),
            "history": (HistoryBody, self.history, "Read a channel's history."),
            "history_remove": (ChannelBody, self.history_remove, "Remove a channel's history."),
            "presence": (ChannelBody, self.presence, "Who is in a channel."),
            "presence_stats": (ChannelBody, self.presence_stats, "How many are in a channel."),
            "channels": (ChannelsBody, self.channels, "Channels with subscribers."),
            "info": (InfoBody, self.info, "The nodes of this installation."),
            "batch": (BatchBody, self.batch, "Run several commands."),
        }
        self._decoders = {
            name: msgspec.json.Decoder(body).decode for name, (body, _, _) in self.methods.items()
        }
        if others is not None:
            for name in ("publish", *_EVERYWHERE):
                others.on(f"api.{name}", partial(self._asked, name))

    def run(self, method: str, body: bytes, done: Done) -> None:
        """Run one method on its JSON body, at all nodes that it is about."""
        if method in _EVERYWHERE:
            done = self._at_others_too(method, body, done, _EVERYWHERE[method])
        self._run_here(method, body, done)

    def _at_others_too(self, method: str, body: bytes, done: Done, join: Join) -> Done:
        """What to call when this node has done its part, so that the others do theirs."""
        others = self._others
        if others is None:
            return done

        def done_here(answer: bytes | Refusal) -> None:
            if isinstance(answer, Refusal):
                done(answer)
            else:
                others.ask(f"api.{method}", body, partial(done_there, answer))

        def done_there(mine: bytes, answers: list[bytes] | StoreUnavailable) -> None:
            done(envelopes.INTERNAL if isinstance(answers, StoreUnavailable) else join([mine, *answers]))

        return done_here

    def _asked(self, method: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        """Another node asks."""
        if method == "publish":
            told = self._decoders[method](body)
            self._hub.publish(told.channel, bytes(told.data), tags=told.tags)
            answer(b"{}")
        else:
            self._run_here(
                method, body, lambda result: answer(result if isinstance(result, bytes) else b"{}")
            )

    def _run_here(self, method: str, body: bytes, done: Done) -> None:
        decode = self._decoders.get(method)
        if decode is None:
            done(envelopes.METHOD_NOT_FOUND)
            return
        try:
            request = decode(body or b"{}")
            self.methods[method][1](request, done)
        except HeartcastError as error:
            done(envelopes.refusal(error))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            done(envelopes.BAD_REQUEST._replace(message=f"bad request: {error}"))

    # -- publishing ---------------------------------------------------------------

    def publish(self, body: PublishBody, done: Done) -> None:
        if self._hub.options_of(body.channel).delivery == "assured":
            # Not 100: that one is temporary, and clients would try it again for ever.
            done(_PUSHES_ONLY)
            return

        def published(answer: Position | StoreUnavailable) -> None:
            done(envelopes.INTERNAL if isinstance(answer, StoreUnavailable) else _position(answer))

        data, key = bytes(body.data), body.idempotency_key or None
        if self._hub.is_seeded(body.channel):
            done = self._at_others_too("publish", codec.encode(body), done, _first)
        if body.skip_history:
            self._hub.publish_past_log(body.channel, data, body.tags, published, key=key)
        else:
            self._hub.publish(body.channel, data, tags=body.tags, done=published, key=key)

    def broadcast(self, body: BroadcastBody, done: Done) -> None:
        if not 1 <= len(body.channels) <= MAX_BATCH:
            done(envelopes.BAD_REQUEST)
            return
        one = PublishBody("", body.data, body.skip_history, body.tags, body.idempotency_key)
        _collect(
            [("publish", msgspec.structs.replace(one, channel=channel)) for channel in body.channels],
            self._run_decoded,
            lambda replies: done(b'{"responses":[%s]}' % b",".join(replies)),
        )

    def _run_decoded(self, method: str, body: Any, done: Done) -> None:
        try:
            self.methods[method][1](body, done)
        except HeartcastError as error:
            done(envelopes.refusal(error))

    def batch(self, body: BatchBody, done: Done) -> None:
        if len(body.commands) > MAX_BATCH or any(len(command) != 1 for command in body.commands):
            done(envelopes.BAD_REQUEST)
            return
        _collect(
            [next(iter(command.items())) for command in body.commands],
            self._run_in_batch,
            lambda replies: done(b'{"replies":[%s]}' % b",".join(replies)),
            named=True,
        )

    def _run_in_batch(self, method: str, body: Raw, done: Done) -> None:
        if method == "batch":
            done(envelopes.BAD_REQUEST)
        else:
            self.run(method, bytes(body), done)

    # -- sessions -------------------------------------------------------------------

    def _sessions(self, user: str, client: str | None) -> list[Session]:
        return [s for s in self._hub.sessions_of(user) if client is None or s.client_id == client]

    def subscribe(self, body: MembershipBody, done: Done) -> None:
        self._hub.log_of(body.channel)
        for session in self._sessions(body.user, body.client):
            if session.room(body.channel) is None and not session.is_stream:
                self._subscribe(session, body.channel)
        done(b"{}")

    def _subscribe(self, session: Session, channel: str) -> None:
        def joined(answer: Joined | Refusal) -> None:
            room = session.room(channel)
            if isinstance(answer, Joined) and room is not None:
                session.push_line(_subscribe_line(channel, answer))
                # A subscribe push has no place for them, and they count as sent: the
                # latest of a cache, what waits in an inbox.
                self._hub.push(session, room, answer.publications)

        self._hub.join(session, channel, None, joined)

    def unsubscribe(self, body: MembershipBody, done: Done) -> None:
        for session in self._sessions(body.user, body.client):
            room = session.room(body.channel)
            if room is not None:
                self._hub.leave(session, room)
                code, reason = envelopes.UNSUBSCRIBED_BY_SERVER
                session.push_line(codec.unsubscribe_line(body.channel, code, reason))
        done(b"{}")

    def disconnect(self, body: DisconnectBody, done: Done) -> None:
        chosen = body.disconnect
        reason = envelopes.FORCE_NO_RECONNECT
        if chosen is not None and chosen.code:
            if not 3000 <= chosen.code < 5000:
                done(envelopes.BAD_REQUEST)
                return
            reason = Disconnect(chosen.code, chosen.reason)
        for session in self._sessions(body.user, body.client):
            if session.client_id not in (body.whitelist or ()):
                session.close(reason)
        done(b"{}")

    def refresh(self, body: RefreshBody, done: Done) -> None:
        for session in self._sessions(body.user, body.client):
            if body.expired:
                session.close(envelopes.CONNECTION_EXPIRED)
            else:
                session.prolong(body.expire_at * 1000 if body.expire_at is not None else None)
        done(b"{}")

    # -- looking ----------------------------------------------------------------------

    def history(self, body: HistoryBody, done: Done) -> None:
        log = self._hub.log_of(body.channel)
        if log is None:
            done(envelopes.NOT_AVAILABLE)
            return
        after = Position(max(0, body.since.offset), body.since.epoch) if body.since is not None else None
        limit = body.limit or 0
        limit = limit if 0 <= limit <= MAX_HISTORY_PAGE else MAX_HISTORY_PAGE

        def answered(answer: Complete | Gap | StoreUnavailable) -> None:
            if isinstance(answer, StoreUnavailable):
                done(envelopes.INTERNAL)
            elif isinstance(answer, Gap):
                done(envelopes.UNRECOVERABLE)
            else:
                views = [codec.publication_view(*publication) for publication in answer.publications]
                done(codec.encode(codec.HistoryResult(views, *answer.top)))

        log.history(body.channel, after, limit, bool(body.reverse), answered)

    def history_remove(self, body: ChannelBody, done: Done) -> None:
        log = self._hub.log_of(body.channel)
        remove = getattr(log, "remove", None)
        if remove is None:
            done(envelopes.NOT_AVAILABLE)
            return
        remove(body.channel)
        done(b"{}")

    def _has_presence(self, channel: str) -> bool:
        self._hub.log_of(channel)
        return self._hub.options_of(channel).presence

    def presence(self, body: ChannelBody, done: Done) -> None:
        def answered(members: list[Member] | StoreUnavailable) -> None:
            if isinstance(members, StoreUnavailable):
                done(envelopes.INTERNAL)
            else:
                done(codec.encode(codec.presence_of(members)))

        if self._has_presence(body.channel):
            self._hub.presence.page(body.channel, answered)
        else:
            done(envelopes.NOT_AVAILABLE)

    def presence_stats(self, body: ChannelBody, done: Done) -> None:
        def answered(counts: Counts | StoreUnavailable) -> None:
            if isinstance(counts, StoreUnavailable):
                done(envelopes.INTERNAL)
            else:
                done(codec.encode(codec.PresenceStatsResult(*counts)))

        if self._has_presence(body.channel):
            self._hub.presence.count(body.channel, answered)
        else:
            done(envelopes.NOT_AVAILABLE)

    def channels(self, body: ChannelsBody, done: Done) -> None:
        found = {
            channel: {"num_clients": len(room)}
            for channel, room in self._hub.rooms().items()
            if body.pattern is None or fnmatchcase(channel, body.pattern)
        }
        done(codec.encode({"channels": found}))

    def info(self, body: InfoBody, done: Done) -> None:
        hub = self._hub
        node = {
            "uid": hub.node,
            "name": "heartcast",
            "version": __version__,
            "num_clients": hub.connections,
            "num_users": hub.user_count,
            "num_subs": hub.subscriptions,
            "num_channels": len(hub.rooms()),
            "uptime": int(self._realtime.clock.monotonic_s() - self._started_s),
        }
        done(codec.encode({"nodes": [node]}))


Join = Callable[[list[bytes]], bytes]
"""Makes one result of those of all nodes, this one's first."""


def _first(results: list[bytes]) -> bytes:
    return results[0]


def _all_nodes(results: list[bytes]) -> bytes:
    return codec.encode({"nodes": [node for result in results for node in _read(result)["nodes"]]})


def _all_channels(results: list[bytes]) -> bytes:
    found: dict[str, dict[str, int]] = {}
    for result in results:
        for channel, numbers in _read(result)["channels"].items():
            known = found.setdefault(channel, {"num_clients": 0})
            known["num_clients"] += numbers["num_clients"]
    return codec.encode({"channels": found})


_read = msgspec.json.Decoder().decode
_EVERYWHERE: dict[str, Join] = {
    "subscribe": _first,
    "unsubscribe": _first,
    "disconnect": _first,
    "refresh": _first,
    "channels": _all_channels,
    "info": _all_nodes,
}
"""Methods that are about the sessions of all nodes, and what becomes of their results."""


def _subscribe_line(channel: str, joined: Joined) -> bytes:
    fields: dict[str, object] = {}
    if joined.position is not None:
        fields = {
            "recoverable": True,
            "positioned": True,
            "epoch": joined.position.epoch,
            "offset": joined.position.offset,
        }
    return codec.subscribe_line(channel, fields)


def _position(position: Position) -> bytes:
    if not position.offset:
        return b"{}"
    return b'{"offset":%d,"epoch":%s}' % (position.offset, codec.encode(position.epoch))


def _reply(answer: bytes | Refusal) -> bytes:
    if isinstance(answer, bytes):
        return b'{"result":%s}' % answer
    return b'{"error":%s}' % codec.encode(ErrorDocument(answer.code, answer.message))


def _collect(
    commands: Sequence[tuple[str, Any]],
    run: Callable[[str, Any, Done], None],
    done: Callable[[list[bytes]], None],
    *,
    named: bool = False,
) -> None:
    """Run all, and hand over their replies in order once the last is there."""
    replies: list[bytes] = [b""] * len(commands)
    missing = len(commands)
    if not commands:
        done(replies)

    def keep(index: int, method: str, answer: bytes | Refusal) -> None:
        nonlocal missing
        if named and isinstance(answer, bytes):
            replies[index] = b'{"%s":%s}' % (method.encode(), answer)
        else:
            replies[index] = _reply(answer)
        missing -= 1
        if not missing:
            done(replies)

    for index, (method, body) in enumerate(commands):
        run(method, body, partial(keep, index, method))


_PUSHES_ONLY = envelopes.NOT_AVAILABLE._replace(
    message="not available: inboxes take pushes only, by POST /push"
)
_UNAUTHORIZED = Answer(401, _reply(envelopes.UNAUTHORIZED))


def _batch_reply(answer: bytes | Refusal) -> bytes:
    # A batch has no envelope of its own: its replies have theirs.
    return answer if isinstance(answer, bytes) else _reply(answer)


def _handler(api: ServerApi, method: str) -> Callable[[Call], Answer | None]:
    render = _batch_reply if method == "batch" else _reply

    def handle(call: Call) -> Answer | None:
        if not call.identity.is_server:
            return _UNAUTHORIZED
        answers: list[Answer] = []
        is_late = False

        def done(answer: bytes | Refusal) -> None:
            if is_late:
                call.respond(Answer(200, render(answer)))
            else:
                answers.append(Answer(200, render(answer)))

        api.run(method, call.body, done)
        is_late = True
        return answers[0] if answers else None

    return handle


def _speaks_websocket(call: Call) -> Answer:
    upgrade = ((b"upgrade", b"websocket"),)
    return status_problem(426, "this path speaks WebSocket", "websocket_refused", headers=upgrade)


def _faces() -> list[Route]:
    """What clients connect to. The gateway takes these over; here they are described, and
    whoever comes with another method or without an upgrade is told so."""
    return [
        Route(
            method="GET",
            path="/api/v1/stream",
            handler=lambda call: Answer(200, content_type=b"text/event-stream; charset=utf-8"),
            summary="Channels and counts as server-sent events; `Last-Event-ID` continues all of them.",
            tag="realtime",
            answers={200: None},
            parameters=(
                Parameter(name="channel", summary="A channel to read.", is_list=True),
                Parameter(
                    name="target", summary="A target whose count to watch, up to 500 of them.", is_list=True
                ),
                Parameter(name="token", summary="A token, where no Authorization header can be sent."),
                Parameter(
                    name="last_event_id", summary="As the header, for a page that opens a new EventSource."
                ),
            ),
            is_public=True,
        ),
        Route(
            method="GET",
            path="/connection/websocket",
            handler=_speaks_websocket,
            summary="The Centrifugo client protocol (JSON), or `heartcast.v1`, over WebSocket.",
            tag="realtime",
            answers={101: None},
            is_public=True,
        ),
    ]


def routes(realtime: Realtime, others: Others | None = None) -> list[Route]:
    """``POST /api/<method>`` for every method, and what clients connect to."""
    api = ServerApi(realtime, others)
    methods = [
        Route(
            method="POST",
            path=f"/api/{name}",
            handler=_handler(api, name),
            summary=summary,
            tag="realtime",
            body=body,
            answers={200: None},
            hot=name in ("publish", "broadcast", "batch"),
        )
        for name, (body, _, summary) in api.methods.items()
    ]
    return [*methods, *_faces()]
