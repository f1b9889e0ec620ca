"""Commands of the client protocol: what each answers, and that none can break the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from heartcast.core.errors import Forbidden, Unauthenticated
from heartcast.core.ids import IdSource
from heartcast.gateway.socket import WebSocket
from heartcast.gateway.websocket import WebSocketGateway
from heartcast.realtime.namespaces import Mode
from heartcast.realtime.options import NamespaceOptions, RealtimeOptions
from heartcast.realtime.realtime import Realtime
from heartcast.testing import ManualClock
from heartcast.testing.realtime import RealtimeServer, realtime_server
from heartcast.wire.codec import Command


class Token(msgspec.Struct):
    """What the tests' tokens say; a token is this as JSON."""

    user: str | None = None
    expires_ms: int | None = None
    channel: str | None = None


NOW_MS = 1_700_000_000_000


def verify(token: str) -> Token:
    if token == "expired":
        raise Unauthenticated("the token has expired", code="token_expired")
    try:
        return msgspec.json.decode(token, type=Token)
    except msgspec.DecodeError:
        raise Unauthenticated("the token is invalid", code="token_invalid") from None


def token(**claims: Any) -> str:
    return json.dumps(claims)


class Client:
    """Speaks the protocol by hand."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.lines: list[dict[str, Any]] = []
        self._last_id = 0

    async def next(self) -> dict[str, Any]:
        while not self.lines:
            self.lines += [json.loads(line) for line in str(await self.socket.recv()).split("\n")]
        return self.lines.pop(0)

    async def ask(self, method: str, /, **fields: Any) -> dict[str, Any]:
        """Send a command; give its result, or its error under ``error``."""
        self._last_id += 1
        await self.socket.send(json.dumps({"id": self._last_id, method: fields}))
        pushed = []
        while (line := await self.next()).get("id") != self._last_id:
            pushed.append(line)
        self.lines = pushed + self.lines
        return dict(line["error"]) if "error" in line else dict(line[method])

    async def close_code(self) -> int | None:
        with suppress(ConnectionClosed):
            while True:
                await self.socket.recv()
        return self.socket.close_code


@pytest.fixture
async def start(clock: ManualClock) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:

        async def start(
            *, mode: Mode = "dev", user: str | None = None, token: str = "", **options: Any
        ) -> tuple[RealtimeServer, Client]:
            server = await stack.enter_async_context(
                realtime_server(RealtimeOptions(**options), mode=mode, clock=clock, verify=verify)
            )
            client = Client(await stack.enter_async_context(connect(server.websocket_url)))
            data = {"user": user} if user is not None else {}
            client.connected = await client.ask("connect", token=token, data=data)  # type: ignore[attr-defined]
            return server, client

        yield start


def pass_time(server: RealtimeServer, seconds: float) -> None:
    """Let time pass for clients that answer their pings."""
    for _ in range(round(seconds / 0.5)):
        server.advance(0.5)
        for session in server.hub.sessions():
            session.awaits_pong = False


# -- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "fields", "code"),
    [
        ("subscribe", {"channel": "nowhere:a"}, 102),
        ("subscribe", {"channel": "nocolon"}, 102),
        ("subscribe", {"channel": ""}, 107),
        ("subscribe", {"channel": "public:\u00fc"}, 107),
        ("subscribe", {"channel": "public:" + "x" * 2_000}, 107),
        ("subscribe", {"channel": "inbox:#other"}, 103),
        ("subscribe", {"channel": "inbox:everybody"}, 103),
        ("subscribe", {"channel": "feed:#other"}, 103),
        ("publish", {"channel": "nowhere:a", "data": 1}, 102),
        ("publish", {"channel": "hearts:a", "data": 1}, 103),
        ("publish", {"channel": "inbox:#u1", "data": 1}, 103),
        ("publish", {"channel": "public:a"}, 107),
        ("history", {"channel": "feed:unsubscribed"}, 103),
        ("presence", {"channel": "nowhere:a"}, 102),
        ("presence", {"channel": "public:unsubscribed"}, 103),
        ("presence_stats", {"channel": "public:unsubscribed"}, 103),
        ("rpc", {"method": "nothing"}, 104),
        ("sub_refresh", {"channel": "public:unsubscribed", "token": "x"}, 103),
        ("unsubscribe", {"channel": "\u0000"}, 107),
    ],
)
async def test_a_refused_command_gets_its_code_and_the_connection_stays(
    start: Any, method: str, fields: dict[str, Any], code: int
) -> None:
    _, client = await start(user="u1")

    assert (await client.ask(method, **fields))["code"] == code
    assert await client.ask("ping") == {}


async def test_an_unknown_method_is_refused(start: Any) -> None:
    _, client = await start()
    await client.socket.send('{"id":9,"teleport":{}}')

    assert (await client.next())["error"]["code"] == 104


async def test_subscribing_twice_and_too_often_is_refused(start: Any) -> None:
    _, client = await start(max_channels_per_connection=2)
    await client.ask("subscribe", channel="public:a")

    assert (await client.ask("subscribe", channel="public:a"))["code"] == 105
    await client.ask("subscribe", channel="public:b")
    assert (await client.ask("subscribe", channel="public:c"))["code"] == 106
    await client.ask("unsubscribe", channel="public:a")
    assert await client.ask("subscribe", channel="public:c") == {}


async def test_what_a_namespace_does_not_have_is_not_available(start: Any) -> None:
    _, client = await start()
    await client.ask("subscribe", channel="hearts:a")
    await client.ask("subscribe", channel="public:a")

    assert (await client.ask("presence", channel="hearts:a"))["code"] == 108
    assert (await client.ask("history", channel="public:a"))["code"] == 108


async def test_a_message_that_is_too_long_to_publish_is_refused(start: Any) -> None:
    _, client = await start(max_publication_bytes=100)

    assert (await client.ask("publish", channel="public:a", data="x" * 200))["code"] == 107


@pytest.mark.parametrize("user", ["\u0007", "x" * 201, "", -1])
async def test_an_absurd_user_is_refused_at_connect(clock: ManualClock, user: Any) -> None:
    async with realtime_server(clock=clock) as server, connect(server.websocket_url) as socket:
        client = Client(socket)
        assert (await client.ask("connect", data={"user": user}))["code"] == 107
        assert "client" in await client.ask("connect", data={"user": "u1"})


# -- who may what ----------------------------------------------------------------------------


async def test_in_production_a_client_publishes_nowhere_and_reads_what_is_open(start: Any) -> None:
    _, client = await start(mode="prod", user="somebody")

    assert await client.ask("subscribe", channel="public:a") == {}
    assert (await client.ask("publish", channel="public:a", data=1))["code"] == 103
    assert (await client.ask("subscribe", channel="inbox:#somebody"))["code"] == 103


async def test_a_token_opens_ones_own_inbox_and_no_other(start: Any) -> None:
    server, client = await start(mode="prod", token=token(user="u 1"))
    server.hub.use_log("inbox", server.realtime.log)

    assert (await client.ask("subscribe", channel="inbox:#u%201"))["recoverable"]
    assert (await client.ask("subscribe", channel="inbox:#u2"))["code"] == 103


async def test_a_subscription_token_opens_its_channel_only(start: Any) -> None:
    options = {"vip": NamespaceOptions(subscribe="token")}
    _, client = await start(mode="prod", token=token(user="u1"), namespaces=options)

    assert (await client.ask("subscribe", channel="vip:a"))["code"] == 103
    assert (await client.ask("subscribe", channel="vip:a", token=token(channel="vip:b")))["code"] == 103
    assert (await client.ask("subscribe", channel="vip:a", token=token(channel="vip:a", user="u2")))[
        "code"
    ] == 103
    assert (await client.ask("subscribe", channel="vip:a", token="expired"))["code"] == 109
    assert (await client.ask("subscribe", channel="vip:a", token="rubbish"))["code"] == 103
    assert await client.ask("subscribe", channel="vip:a", token=token(channel="vip:a", user="u1")) == {}


@pytest.mark.parametrize(
    ("given", "outcome"),
    [("rubbish", 3500), (token(user="u1", channel="public:a"), 3500), ("expired", 109)],
)
async def test_a_bad_connection_token_is_told_apart(clock: ManualClock, given: str, outcome: int) -> None:
    async with realtime_server(clock=clock, verify=verify) as server, connect(server.websocket_url) as socket:
        client = Client(socket)
        if outcome == 109:
            assert (await client.ask("connect", token=given))["code"] == 109
        else:
            await socket.send(json.dumps({"id": 1, "connect": {"token": given}}))
            assert await client.close_code() == outcome


async def test_anonymous_clients_can_be_kept_out(clock: ManualClock) -> None:
    options = RealtimeOptions(allow_anonymous=False)
    async with (
        realtime_server(options, mode="prod", clock=clock, verify=verify) as server,
        connect(server.websocket_url) as socket,
    ):
        await socket.send('{"id":1,"connect":{}}')
        assert await Client(socket).close_code() == 3507


# -- time --------------------------------------------------------------------------------------


async def test_a_connection_ends_with_its_token_unless_it_is_refreshed(
    start: Any, clock: ManualClock
) -> None:
    ends_ms = clock.wall_ms() + 60_000
    server, client = await start(token=token(user="u1", expires_ms=ends_ms), ping_interval_s=100.0)
    assert client.connected["expires"]
    assert client.connected["ttl"] == 60

    refreshed = await client.ask("refresh", token=token(user="u1", expires_ms=ends_ms + 2_000_000))
    assert refreshed["ttl"] == 2_060
    pass_time(server, 300.0)
    assert await client.ask("ping") == {}


async def test_a_connection_that_is_not_refreshed_is_closed(start: Any, clock: ManualClock) -> None:
    server, client = await start(
        token=token(user="u1", expires_ms=clock.wall_ms() + 5_000), ping_interval_s=20.0
    )
    pass_time(server, 25.5)

    assert await client.close_code() == 3005


async def test_somebody_elses_token_does_not_refresh(start: Any) -> None:
    _, client = await start(token=token(user="u1", expires_ms=NOW_MS + 10_000))
    await client.socket.send(json.dumps({"id": 5, "refresh": {"token": token(user="u2")}}))

    assert await client.close_code() == 3500


async def test_a_subscription_ends_with_its_token(start: Any, clock: ManualClock) -> None:
    server, client = await start(ping_interval_s=20.0)
    ends_ms = clock.wall_ms() + 5_000
    answer = await client.ask(
        "subscribe", channel="public:a", token=token(channel="public:a", expires_ms=ends_ms)
    )
    pass_time(server, 25.5)
    while not (line := await client.next()):
        continue  # pings

    assert (answer["expires"], answer["ttl"]) == (True, 5)
    assert line["push"]["unsubscribe"]["code"] == 2501


async def test_who_answers_no_ping_is_closed(start: Any) -> None:
    server, client = await start(ping_interval_s=4.0, pong_timeout_s=2.0)
    server.advance(8.0)

    assert await client.close_code() == 3012


async def test_who_never_connects_is_closed_as_stale(clock: ManualClock) -> None:
    async with realtime_server(clock=clock) as server, connect(server.websocket_url) as socket:
        server.advance(27.0)
        assert await Client(socket).close_code() == 3502


# -- order and batches ----------------------------------------------------------------------------


async def test_batched_commands_are_answered_in_order_and_before_what_follows(start: Any) -> None:
    server, client = await start()
    server.hub.rpc["echo"] = lambda session, data, done: done(data)
    await client.socket.send(
        "\n".join(
            [
                '{"id":11,"subscribe":{"channel":"feed:a"}}',
                '{"id":12,"publish":{"channel":"feed:a","data":1}}',
                "{}",
                '{"id":13,"rpc":{"method":"echo","data":{"a":[1]}}}',
                '{"id":14,"presence_stats":{"channel":"feed:a"}}',
                "",
            ]
        )
    )
    lines = [await client.next() for _ in range(5)]

    assert [line.get("id") for line in lines] == [11, 12, 13, 14, None]
    assert lines[2]["rpc"] == {"data": {"a": [1]}}
    assert lines[4]["push"]["pub"]["data"] == 1


async def test_an_rpc_may_answer_later_and_may_refuse(start: Any) -> None:
    server, client = await start()
    waiting: list[Any] = []

    def refuse(session: Any, data: bytes, done: Any) -> None:
        raise Forbidden("not you")

    server.hub.rpc["later"] = lambda session, data, done: waiting.append(done)
    server.hub.rpc["never"] = refuse
    await client.socket.send('{"id":21,"rpc":{"method":"later","data":1}}')
    refused = await client.ask("rpc", method="never")
    waiting[0](b'"done"')

    assert refused["code"] == 103
    assert "not you" in refused["message"]
    assert await client.next() == {"id": 21, "rpc": {"data": "done"}}


async def test_an_unrecovered_subscribe_is_refused_where_the_client_asks_for_that(start: Any) -> None:
    server, client = await start()
    fields = {"channel": "feed:a", "recover": True, "offset": 7, "epoch": "gone"}

    assert (await client.ask("subscribe", **fields, flag=2))["code"] == 112
    assert not server.hub.is_watched("feed:a")
    answer = await client.ask("subscribe", **fields)
    assert answer["was_recovering"]
    assert "recovered" not in answer


# -- fuzz -----------------------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
METHODS = [name for name in Command.__struct_fields__ if name != "id"]
methods = st.sampled_from(METHODS)
channels = (
    st.sampled_from(["public:a", "feed:b", "hearts:c", "inbox:#u1", "inbox:#x", "no:d", "", "#"]) | st.text()
)
requests = st.fixed_dictionaries(
    {},
    optional={
        "channel": channels,
        "data": values,
        "token": st.text(max_size=10),
        "recover": st.booleans(),
        "offset": st.integers(-5, 2**66),
        "epoch": st.text(max_size=5),
        "limit": st.integers(-5, 2_000),
        "since": values,
        "reverse": st.booleans(),
        "method": st.text(max_size=5),
        "flag": st.integers(0, 7),
    },
)
commands = st.builds(
    lambda number, method, request: json.dumps({"id": number, method: request}).encode(),
    st.integers(-1, 5),
    methods,
    requests | values,
)
messages = st.lists(commands | st.just(b"{}") | st.binary(max_size=40), min_size=1, max_size=4).map(
    b"\n".join
)


@given(st.lists(messages, max_size=8))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_sequence_of_messages_breaks_the_server(sent: list[bytes]) -> None:
    """Whatever arrives: an answer per command or a close code, never an exception, never a leak."""

    class Sink(asyncio.Transport):
        def __init__(self) -> None:
            super().__init__()
            self.wire = b""

        def write(self, data: Any) -> None:
            self.wire += data

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

        def get_write_buffer_size(self) -> int:
            return 0

    async def run() -> None:
        clock = ManualClock()
        realtime = Realtime(
            RealtimeOptions(), clock, asyncio.get_running_loop(), IdSource(clock), verify=verify, mode="dev"
        )
        gateway, sink = WebSocketGateway(realtime), Sink()
        session = WebSocket(realtime, gateway.engine, sink)
        gateway.engine.handle(session, b'{"id":1,"connect":{"data":{"user":"u1"}}}')
        for message in sent:
            if not session.is_closing:
                gateway.engine.handle(session, message)
        realtime.hub.flush()
        assert session.replies is None
        session.connection_lost(None)
        assert (realtime.hub.connections, realtime.hub.subscriptions) == (0, 0)
        assert realtime.hub.rooms() == {}

    asyncio.run(run())
