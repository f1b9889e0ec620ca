"""``heartcast.v1`` over a real socket: the same rules as JSON, in other bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets.exceptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from heartcast.realtime.log import Publication
from heartcast.realtime.options import NamespaceOptions, RealtimeOptions
from heartcast.testing.realtime import RealtimeServer, realtime_server
from heartcast.wire import v1

PATIENCE_S = 10


class Client:
    """A client of the binary protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._number = 0

    async def send(self, **body: Any) -> int:
        self._number += 1
        await self.socket.send(v1.write(v1.ClientFrame(self._number, **body)))
        return self._number

    async def read(self) -> v1.ServerFrame:
        async with asyncio.timeout(PATIENCE_S):
            message = await self.socket.recv()
        assert isinstance(message, bytes)
        return v1.read_server(message)

    async def ask(self, **body: Any) -> v1.Reply:
        number = await self.send(**body)
        reply = (await self.read()).reply
        assert reply is not None
        assert reply.id == number
        return reply

    async def batch(self) -> v1.Batch:
        batch = (await self.read()).batch
        assert batch is not None
        return batch

    async def subscribe(self, channel: str, resume: v1.Position | None = None) -> v1.Subscribed:
        reply = await self.ask(subscribe=v1.Subscribe(channel, resume=resume))
        assert reply.subscribed is not None, reply
        return reply.subscribed


@asynccontextmanager
async def client(server: RealtimeServer, user: str = "u1") -> AsyncIterator[Client]:
    async with connect(server.websocket_url, subprotocols=[Subprotocol("heartcast.v1")]) as socket:
        assert socket.subprotocol == "heartcast.v1"
        made = Client(socket)
        welcome = (await made.ask(hello=v1.Hello(user=user))).welcome
        assert welcome is not None
        assert welcome.client
        assert welcome.ping_s == 25
        yield made


@pytest.fixture
async def server() -> AsyncIterator[RealtimeServer]:
    async with realtime_server() as server:
        yield server


async def closed_with(socket: ClientConnection) -> int:
    async def read_on() -> None:
        while True:
            await socket.recv()

    with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
        await asyncio.wait_for(read_on(), PATIENCE_S)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


async def test_a_client_that_offers_both_gets_the_first(server: RealtimeServer) -> None:
    both = [Subprotocol("centrifuge-json"), Subprotocol("heartcast.v1")]
    async with connect(server.websocket_url, subprotocols=both) as socket:
        assert socket.subprotocol == "centrifuge-json"


async def test_publications_arrive_in_batches_with_their_offsets(server: RealtimeServer) -> None:
    async with client(server) as one:
        place = await one.subscribe("feed:a")
        assert place.position is not None
        for number in range(3):
            server.hub.publish("feed:a", b"%d" % number, tags={"ab": "x"})
        messages = list[v1.Published]()
        while len(messages) < 3:
            batch = await one.batch()
            assert batch.channel == "feed:a"
            messages += batch.messages

    assert [(made.offset, made.data, made.tags) for made in messages] == [
        (1, b"0", {"ab": "x"}),
        (2, b"1", {"ab": "x"}),
        (3, b"2", {"ab": "x"}),
    ]


async def test_json_and_binary_clients_are_in_one_room_and_each_form_is_made_once(
    server: RealtimeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    write = v1.published
    monkeypatch.setattr(v1, "published", lambda *fields: made.append(fields) or write(*fields))
    async with (
        client(server) as first,
        client(server) as second,
        connect(server.websocket_url) as json_socket,
    ):
        await json_socket.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"public:a"}}')
        await json_socket.recv()
        await first.subscribe("public:a")
        await second.subscribe("public:a")
        server.hub.publish("public:a", b'"x"')
        assert '"data":"x"' in str(await json_socket.recv())
        assert (await first.batch()).messages == (await second.batch()).messages
    assert len(made) == 1


async def test_a_client_resumes_where_it_was_or_is_told_that_it_cannot(server: RealtimeServer) -> None:
    async with client(server) as one:
        place = (await one.subscribe("feed:a")).position
    for number in range(2):
        server.hub.publish("feed:a", b"%d" % number)
    async with client(server) as one:
        back = await one.subscribe("feed:a", place)
    async with client(server) as one:
        lost = await one.subscribe("feed:a", v1.Position(1, "another epoch"))

    assert (back.was_resuming, back.resumed) == (True, True)
    assert [made.data for made in back.messages] == [b"0", b"1"]
    assert (lost.was_resuming, lost.resumed, lost.messages) == (True, False, [])


async def test_acknowledgements_and_refusals_reach_the_push_domain(server: RealtimeServer) -> None:
    said: list[tuple[str | None, bytes]] = []
    server.hub.on_send = lambda user, data: said.append((user, data))
    async with client(server, "u7") as one:
        done = [
            await one.ask(ack=v1.Ack(v1.Position(41, "e"), ["01A"])),
            await one.ask(nak=v1.Nak("01B", retry_after_ms=500)),
            await one.ask(nak=v1.Nak("01C", reject=True, reason="no")),
        ]

    assert all(reply.done is not None for reply in done)
    assert said == [
        ("u7", b'{"ack":["01A"],"ack_through":{"offset":41,"epoch":"e"}}'),
        ("u7", b'{"nak":[{"id":"01B","reason":"","retry_after_ms":500}]}'),
        ("u7", b'{"nak":[{"id":"01C","reason":"no","reject":true}]}'),
    ]


async def test_a_redelivery_is_marked_and_has_no_offset(server: RealtimeServer) -> None:
    async with client(server) as one:
        await one.subscribe("public:a")
        server.hub.deliver("public:a", Publication(b"1", 0, {"id": "01A", "redelivered": "1"}))
        [made] = (await one.batch()).messages

    assert (made.offset, made.id, made.redelivered, made.tags) == (0, "01A", True, {})


async def test_it_publishes_and_unsubscribes_and_is_refused_as_in_json(server: RealtimeServer) -> None:
    async with client(server, "u7") as one:
        await one.subscribe("public:a")
        await one.send(publish=v1.Publish("public:a", b'{"n":1}'))
        frames = [await one.read(), await one.read()]
        [batch] = [frame.batch for frame in frames if frame.batch is not None]
        assert b'"user":"u7"' in batch.messages[0].publisher
        assert (await one.ask(publish=v1.Publish("hearts:a", b"1"))).error == v1.Error(
            103, "permission denied"
        )
        assert (await one.ask(subscribe=v1.Subscribe("nothing:a"))).error == v1.Error(102, "unknown channel")
        assert (await one.ask(publish=v1.Publish("public:a", b"{"))).error is not None
        assert (await one.ask(unsubscribe=v1.Unsubscribe("public:a"))).done is not None
        assert server.hub.room_of("public:a") is None


async def test_a_lost_channel_is_told_with_a_code_that_says_come_again(server: RealtimeServer) -> None:
    async with client(server) as one:
        await one.subscribe("feed:a")
        server.hub.lost("feed:a")
        left = (await one.read()).left

    assert left == v1.Left("feed:a", 2500, "insufficient state")


async def test_a_server_subscription_comes_with_its_place(server: RealtimeServer) -> None:
    async with client(server, "u7") as one:
        body = b'{"user":"u7","channel":"feed:a"}'
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"POST /api/subscribe HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        )
        subscribed = (await one.read()).subscribed
        writer.close()

    assert subscribed is not None
    assert subscribed.channel == "feed:a"
    assert subscribed.position is not None


async def test_a_silent_client_is_closed_and_an_answering_one_is_not() -> None:
    options = RealtimeOptions(ping_interval_s=1.0, pong_timeout_s=0.4)
    async with (
        realtime_server(options) as server,
        client_with(server) as answering,
        client_with(server) as silent,
    ):
        for _ in range(2):
            assert (await answering.read()).ping is not None
            await answering.send(pong=v1.Pong())
        assert await closed_with(silent.socket) == 3012


@asynccontextmanager
async def client_with(server: RealtimeServer) -> AsyncIterator[Client]:
    async with connect(server.websocket_url, subprotocols=[Subprotocol("heartcast.v1")]) as socket:
        made = Client(socket)
        await made.ask(hello=v1.Hello(user="u1"))
        yield made


@pytest.mark.parametrize(
    "message",
    ["text", b"\xff", b"", v1.write(v1.ClientFrame(1, publish=v1.Publish("a:b", b"1")))],
    ids=["text", "malformed", "empty", "no hello"],
)
async def test_who_breaks_the_protocol_is_closed(server: RealtimeServer, message: str | bytes) -> None:
    async with connect(server.websocket_url, subprotocols=[Subprotocol("heartcast.v1")]) as socket:
        await socket.send(message)
        assert await closed_with(socket) == 3501


async def test_an_acknowledgement_before_hello_breaks_the_protocol(server: RealtimeServer) -> None:
    async with connect(server.websocket_url, subprotocols=[Subprotocol("heartcast.v1")]) as socket:
        await socket.send(v1.write(v1.ClientFrame(ack=v1.Ack(ids=["1"]))))
        assert await closed_with(socket) == 3501


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
def test_any_frames_leave_the_server_standing(messages: list[bytes]) -> None:
    async def send() -> None:
        async with realtime_server() as server:
            async with connect(server.websocket_url, subprotocols=[Subprotocol("heartcast.v1")]) as socket:
                await socket.send(v1.write(v1.ClientFrame(1, hello=v1.Hello())))
                try:
                    for message in messages:
                        await socket.send(message)
                except websockets.exceptions.ConnectionClosed:
                    pass
            async with client(server) as other:
                await other.subscribe("public:a")

    asyncio.run(send())


async def test_a_slow_reader_of_the_binary_protocol_is_counted_in_bytes() -> None:
    namespaces = {"public": NamespaceOptions(overflow="keep_latest", dev_publish=True)}
    async with realtime_server(RealtimeOptions(namespaces=namespaces)) as server, client(server) as one:
        await one.subscribe("public:a")
        [session] = server.hub.sessions()
        session.pause_writing()
        for number in range(3):
            server.hub.publish("public:a", b"%d" % number)
            server.hub.flush()
        session.resume_writing()
        assert [made.data for made in (await one.batch()).messages] == [b"2"]
    assert server.hub.dropped == 2
