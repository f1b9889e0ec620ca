"""The HTTP face, driven with raw bytes over a real socket."""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heartcast.api.body import decoder
from heartcast.api.problems import problem
from heartcast.api.route import ANONYMOUS, LATER, Answer, Call, Identity, Route
from heartcast.core.errors import Conflict, Overloaded, Unauthenticated
from heartcast.gateway.http import HttpProtocol
from heartcast.gateway.options import HttpOptions
from heartcast.gateway.port import HttpPort
from heartcast.gateway.server import Server
from heartcast.testing import ManualClock


class Heart(msgspec.Struct, forbid_unknown_fields=True):
    user: str


LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
decode = decoder(Heart)
Reply = tuple[int, dict[str, str], bytes]


class World:
    """A server with hot, late and cold routes."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.late: list[Call] = []
        self.seen: list[str] = []
        self.cold_gate = asyncio.Event()
        self.streams: list[tuple[str, bytes, str]] = []
        self.upgrades: list[tuple[str, bytes, bytes]] = []
        hot = [
            ("POST", "/hot", self.on_hot, Heart),
            ("GET", "/hot", self.on_get, None),
            ("POST", "/late", self.on_late, None),
            ("POST", "/conflict", self.on_conflict, None),
            ("POST", "/broken", self.on_broken, None),
        ]
        routes = [
            Route(method=method, path=path, handler=handler, summary="x", tag="x", body=body, hot=True)
            for method, path, handler, body in hot
        ]
        routes.append(replace(routes[0], path="/known", hot=False, body=None))
        self.admitted: Answer | None = None
        self.limited: Answer | None = None
        self.held: list[Callable[[Answer | None], None]] = []
        self.observed: list[int] = []
        self.port = HttpPort(
            HttpOptions(host="127.0.0.1", port=0, drain_s=5.0, **options),
            routes,
            clock=self.clock,
            identify=self.identify,
            upgrade_websocket=self.on_upgrade,
            open_stream=self.on_stream,
            admit=lambda route, body: self.admitted,
            limit=self.limit,
            observe=lambda index, ns: self.observed.append(index),
        )
        self.closed_sessions = 0
        self.server = Server(
            self.port,
            self.cold,
            close_sessions=self.close_sessions,
            takes_signals=False,
            tunes_collector=False,
        )

    async def close_sessions(self) -> None:
        self.closed_sessions += 1

    def identify(self, headers: list[tuple[bytes, bytes]], peer: str) -> Identity:
        token = dict(headers).get(b"authorization")
        if token == b"bad":
            raise Unauthenticated("no")
        return Identity(user=peer) if token else ANONYMOUS

    def limit(self, route: Route, call: Call, judged: Callable[[Answer | None], None]) -> Answer | None:
        if self.limited is LATER:
            self.held.append(judged)
        return self.limited

    def on_hot(self, call: Call) -> Answer:
        user = decode(call.body).user
        self.seen.append(user)
        return Answer(201, json.dumps({"user": user, "peer": call.peer, "me": call.identity.user}).encode())

    def on_get(self, call: Call) -> Answer:
        return Answer(200, b'{"q":"%b"}' % call.query, headers=((b"x-extra", b"1"),))

    def on_late(self, call: Call) -> None:
        self.seen.append(call.body.decode())
        self.late.append(call)

    def on_conflict(self, call: Call) -> Answer:
        raise Conflict("taken")

    def on_broken(self, call: Call) -> Answer:
        raise KeyError("secret")

    def on_stream(self, http: Any, transport: Any, path: str, query: bytes, headers: Any, peer: str) -> None:
        self.streams.append((path, query, peer))
        transport.set_protocol(asyncio.Protocol())
        transport.write(b"STREAM")
        transport.close()

    def on_upgrade(
        self, http: Any, transport: Any, path: str, query: bytes, headers: Any, raw: bytes, tail: bytes
    ) -> None:
        self.upgrades.append((path, raw, tail))
        transport.set_protocol(asyncio.Protocol())
        transport.write(b"UPGRADED")
        transport.close()

    async def cold(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        path = scope["path"]
        self.seen.append(path)
        if path == "/gated":
            await self.cold_gate.wait()
        if path == "/raises":
            raise KeyError("secret")
        document = {
            "path": path,
            "method": scope["method"],
            "body": message["body"].decode(),
            "more": message["more_body"],
        }
        if agent := dict(scope["headers"]).get(b"user-agent"):
            document["agent"] = agent.decode()
        body = json.dumps(document).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    async def reply(self, *, is_head: bool = False) -> Reply:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = 0 if is_head else int(headers.get("content-length", 0))
        return int(first.split()[1]), headers, await self.reader.readexactly(length)

    async def ask(self, raw: bytes) -> Reply:
        self.send(raw)
        return await self.reply()

    async def is_closed(self) -> bool:
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True


Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    running: list[tuple[World, asyncio.Task[None]]] = []
    clients: list[Client] = []

    async def begin(**options: Any) -> tuple[World, Client]:
        world = World(**options)
        running.append((world, asyncio.ensure_future(world.server.serve())))
        await world.server.ready.wait()
        return world, await connect(world)

    async def connect(world: World) -> Client:
        trusting = None
        if world.port.options.tls_cert:
            trusting = ssl.create_default_context()
            trusting.check_hostname = False
            trusting.verify_mode = ssl.CERT_NONE
        client = Client(*await asyncio.open_connection(*world.server.addresses[0], ssl=trusting))
        clients.append(client)
        return client

    begin.connect = connect  # type: ignore[attr-defined]
    yield begin
    for client in clients:
        client.writer.close()
    for world, task in running:
        world.cold_gate.set()
        world.server.stop()
        world.server.stop()
        await task


def post(path: str, body: bytes, *extra: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += ["Content-Type: application/json", *extra]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path: str, *extra: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *extra]).encode() + b"\r\n\r\n"


HOT = post("/hot", b'{"user":"a"}')


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def code_of(reply: Reply) -> str:
    assert reply[1]["content-type"] == "application/problem+json"
    document = json.loads(reply[2])
    assert document["status"] == reply[0]
    return str(document["code"])


async def test_a_hot_request_is_answered_without_asking_the_application(start: Start) -> None:
    world, client = await start()
    status, headers, body = await client.ask(HOT)

    assert (status, json.loads(body)["user"]) == (201, "a")
    assert headers["content-type"] == "application/json"
    assert int(headers["content-length"]) == len(body)
    assert "date" in headers
    assert "connection" not in headers
    assert world.port.routes[0].statuses == {201: 1}
    assert world.observed == [0]


async def test_one_connection_mixes_hot_and_cold_freely(start: Start) -> None:
    world, client = await start()
    for _ in range(3):
        assert (await client.ask(HOT))[0] == 201
        status, _, body = await client.ask(post("/cold", b"hello"))
        assert (status, json.loads(body)) == (
            200,
            {"path": "/cold", "method": "POST", "body": "hello", "more": False},
        )
    assert world.port.counters.connections == 1


async def test_a_request_for_the_application_is_refused_before_it_costs_anything_there(start: Start) -> None:
    world, client = await start()
    world.admitted = problem(Overloaded("later", retry_after_s=3))
    status, headers, _ = await client.ask(get("/cold"))
    assert (status, headers["retry-after"]) == (503, "3")
    assert world.port.counters.requests_cold == 0
    assert world.port.counters.rejected == {"shed": 1}
    assert (world.port.open_answers, world.port.given) == (0, 0)

    world.admitted = None
    assert (await client.ask(get("/cold")))[0] == 200
    assert (world.port.open_answers, world.port.given) == (0, 1)


async def test_a_repeated_head_gives_the_same_answer_as_the_first_one(start: Start) -> None:
    world, client = await start()
    first = await client.ask(HOT)
    assert len(world.port.known_heads.exact) == 1
    assert await client.ask(HOT) == first
    other = await client.ask(HOT.replace(b'"a"', b'"b"'))
    assert json.loads(other[2])["user"] == "b"
    assert world.seen == ["a", "a", "b"]


async def test_a_repeated_head_for_the_application_brings_its_own_headers_and_body(start: Start) -> None:
    world, client = await start()
    for number in range(4):
        status, _, body = await client.ask(post("/known", b"%d" % number, f"User-Agent: a{number}"))
        said = json.loads(body)
        assert (status, said["agent"], said["body"]) == (200, f"a{number}", str(number))
    routes = [known.head.route for known in world.port.known_heads.exact.values()]
    assert routes
    assert all(route is not None and route.path == "/known" for route in routes)
    client.send(b"".join(post("/known", b"x", f"User-Agent: b{number}") for number in range(3)))
    assert [json.loads((await client.reply())[2])["agent"] for _ in range(3)] == ["b0", "b1", "b2"]


async def test_a_known_head_with_less_or_more_than_its_body_goes_through_the_parser(start: Start) -> None:
    world, client = await start()
    await client.ask(HOT)
    client.send(HOT[:-3])
    await until(lambda: world.port.counters.bytes_in == 2 * len(HOT) - 3)
    client.send(HOT[-3:] + HOT + HOT[:10])
    assert [(await client.reply())[0] for _ in range(2)] == [201, 201]
    client.send(HOT[10:])
    assert (await client.reply())[0] == 201


async def test_a_head_of_a_known_shape_is_taken_with_its_own_values(start: Start) -> None:
    world, client = await start()
    body = b'{"user":"a"}'
    assert (await client.ask(post("/hot", body, "Authorization: good", "traceparent: 00-a-b-01")))[0] == 201
    refused = await client.ask(post("/hot", body, "Authorization: bad", "traceparent: 00-c-d-01"))
    assert refused[0] == 401
    longer = post("/hot", b'{"user":"someone"}', "Authorization: good", "traceparent: 00-e-f-01")
    assert (await client.ask(longer))[0] == 201
    assert world.seen == ["a", "someone"]
    assert len(world.port.known_heads.exact) == 1, "the others were not parsed"


async def test_known_requests_that_come_together_are_all_answered_in_order(start: Start) -> None:
    world, client = await start()
    late = post("/late", b"1")
    await client.ask(HOT)
    client.send(late)
    await until(lambda: world.late)
    world.late.pop().respond(Answer(202))
    await client.reply()
    other = HOT.replace(b'"a"', b'"b"')
    client.send(HOT + other + late + HOT + get("/cold") + other + HOT[:20])
    await until(lambda: world.late)
    world.late[0].respond(Answer(202, b"late"))
    statuses = [(await client.reply())[0] for _ in range(6)]
    client.send(HOT[20:])
    assert [*statuses, (await client.reply())[0]] == [201, 201, 202, 201, 200, 201, 201]
    assert world.seen[2:] == ["a", "b", "1", "a", "/cold", "b", "a"]


async def test_pipelined_answers_come_in_order_whatever_is_ready_first(start: Start) -> None:
    world, client = await start()
    client.send(post("/late", b"1") + HOT + post("/late", b"2") + get("/cold") + HOT)
    await until(lambda: len(world.late) == 2)
    world.late[1].respond(Answer(202, b"second"))
    assert world.seen == ["1", "a", "2"], "what follows the application's request waits for it"
    world.late[0].respond(Answer(202, b"first"))
    replies = [await client.reply() for _ in range(5)]

    assert [status for status, _, _ in replies] == [202, 201, 202, 200, 201]
    assert [replies[0][2], replies[2][2]] == [b"first", b"second"]
    assert world.seen == ["1", "a", "2", "/cold", "a"]
    assert world.port.open_answers == 0


async def test_what_follows_a_request_whose_limit_is_not_decided_waits_for_it(start: Start) -> None:
    world, client = await start()
    world.limited = LATER
    client.send(HOT + post("/late", b"1") + get("/cold"))
    await until(lambda: world.held)
    assert (len(world.held), world.seen) == (1, [])
    world.held[0](None)
    assert (len(world.held), world.seen) == (2, ["a"])
    world.held[1](None)
    assert world.seen == ["a", "1"]
    world.late[0].respond(Answer(202))

    assert [(await client.reply())[0] for _ in range(3)] == [201, 202, 200]
    assert world.port.open_answers == 0


async def test_a_late_refusal_is_the_answer_and_the_handler_never_runs(start: Start) -> None:
    world, client = await start()
    world.limited = LATER
    client.send(HOT + post("/broken", b"") + post("/conflict", b""))
    await until(lambda: world.held)
    world.held[0](Answer(429, b"{}"))
    world.held[1](None)
    world.held[2](None)

    assert [(await client.reply())[0] for _ in range(3)] == [429, 500, 409]
    assert world.seen == []
    assert world.port.counters.rejected == {"rate_limited": 1}


async def test_a_client_that_left_before_its_limit_was_decided_hurts_nobody(start: Start) -> None:
    world, client = await start()
    world.limited = LATER
    client.send(HOT)
    await until(lambda: world.held)
    # With this option closing sends a reset, as a crashed client's kernel does.
    client.writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    client.writer.transport.abort()
    await until(lambda: not world.port.connections)
    world.held[0](None)

    assert (world.port.counters.lost_answers, world.port.open_answers) == (1, 0)


async def test_a_full_queue_stops_reading_until_answers_are_given(start: Start) -> None:
    world, client = await start(max_pipelined=4)
    client.send(post("/late", b"x") * 2000)
    await until(lambda: len(world.late) >= 4)
    piece = 8192 // len(post("/late", b"x")) + 1
    assert len(world.late) <= 4 + piece
    answered = 0

    def has_more(answered: int) -> bool:
        return len(world.late) > answered

    while answered < 2000:
        await until(partial(has_more, answered))
        world.late[answered].respond(Answer(200, b"%d" % answered))
        answered += 1
        assert world.port.open_answers <= 4 + piece
    assert [(await client.reply())[2] for _ in range(2000)] == [b"%d" % n for n in range(2000)]


async def test_a_client_that_does_not_read_is_not_read_either(start: Start) -> None:
    world, client = await start()
    client.send(HOT * 50_000)
    [connection] = world.port.connections
    assert isinstance(connection, HttpProtocol)
    await until(lambda: connection.flow.read_paused)
    assert len(world.seen) < 50_000
    for _ in range(50_000):
        await client.reply()
    assert len(world.seen) == 50_000


async def test_a_client_that_left_before_a_late_answer_hurts_nobody(start: Start) -> None:
    world, client = await start()
    client.send(post("/late", b"1"))
    await until(lambda: world.late)
    # With this option closing sends a reset, as a crashed client's kernel does.
    client.writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    client.writer.transport.abort()
    await until(lambda: not world.port.connections)
    world.late[0].respond(Answer(202, b"x"))
    assert world.port.counters.lost_answers == 1
    assert world.port.open_answers == 0


@pytest.mark.parametrize("end", ["client", "server"])
async def test_an_answer_that_waits_for_the_end_of_the_turn_is_sent_before_the_connection_ends(
    start: Start, end: str
) -> None:
    world, client = await start()
    await client.ask(HOT)
    [connection] = world.port.connections
    assert isinstance(connection, HttpProtocol)
    connection.data_received(HOT.replace(b'"a"', b'"b"'))
    assert connection._out
    if end == "client":
        assert not connection.eof_received()
        connection.transport.close()
    else:
        connection.shutdown()
    assert json.loads((await client.reply())[2])["user"] == "b"
    assert await client.is_closed()


async def test_an_answer_to_a_client_that_closed_is_thrown_away(start: Start) -> None:
    world, client = await start()
    client.send(post("/late", b"1"))
    await until(lambda: world.late)
    client.writer.close()
    [connection] = world.port.connections
    assert isinstance(connection, HttpProtocol)
    await until(lambda: connection._is_half_closed)
    world.late[0].respond(Answer(202, b"x"))
    await until(lambda: not world.port.connections)
    assert world.port.open_answers == 0


async def test_a_client_that_only_stopped_sending_still_gets_its_answer(start: Start) -> None:
    world, client = await start()
    client.send(post("/late", b"1"))
    client.writer.write_eof()
    await until(lambda: world.late)
    [connection] = world.port.connections
    assert isinstance(connection, HttpProtocol)
    await until(lambda: connection._is_half_closed)
    world.late[0].respond(Answer(202, b"x"))
    assert (await client.reply())[2] == b"x"
    assert await client.is_closed()


async def test_errors_of_handlers_are_problems(start: Start) -> None:
    world, client = await start()
    assert code_of(await client.ask(post("/conflict", b""))) == "conflict"
    broken = await client.ask(post("/broken", b""))
    assert (broken[0], code_of(broken)) == (500, "internal")
    assert b"secret" not in broken[2]
    raised = await client.ask(get("/raises"))
    assert (raised[0], code_of(raised)) == (500, "internal")
    assert world.port.counters.failed == 1


async def test_identity_and_admission_come_before_the_handler(start: Start) -> None:
    world, client = await start()
    refused = await client.ask(post("/hot", b'{"user":"a"}', "Authorization: bad"))
    assert (refused[0], code_of(refused)) == (401, "unauthenticated")
    known = await client.ask(post("/hot", b'{"user":"a"}', "Authorization: good"))
    assert json.loads(known[2])["me"] == "127.0.0.1"
    world.admitted = problem(Overloaded("later", retry_after_s=3))
    status, headers, _ = await client.ask(HOT)
    assert (status, headers["retry-after"]) == (503, "3")
    assert world.seen == ["a"]


async def test_chunked_bodies_reach_hot_and_cold(start: Start) -> None:
    _, client = await start()
    for path, status in (("/hot", 201), ("/cold", 200)):
        client.send(
            f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n".encode()
            + b"Content-Type: application/json\r\n\r\n"
            + b'5\r\n{"use\r\n7\r\nr":"b"}\r\n0\r\n\r\n'
        )
        reply = await client.reply()
        assert reply[0] == status
        assert b"b" in reply[2]


async def test_expect_continue_is_answered_before_the_body(start: Start) -> None:
    _, client = await start()
    for path, status in (("/hot", 201), ("/cold", 200)):
        head, _, body = post(path, b'{"user":"a"}', "Expect: 100-continue").partition(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        assert (await client.reply())[0] == 100
        assert (await client.ask(body))[0] == status


async def test_expect_continue_with_the_body_at_hand_gets_one_answer(start: Start) -> None:
    _, client = await start()
    assert (await client.ask(post("/hot", b'{"user":"a"}', "Expect: 100-continue")))[0] == 201


async def test_an_expected_body_that_is_too_long_is_refused_before_it_is_sent(start: Start) -> None:
    _, client = await start(max_body_bytes=100)
    reply = await client.ask(
        b"POST /hot HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\nExpect: 100-continue\r\n\r\n"
    )
    assert (reply[0], code_of(reply), reply[1]["connection"]) == (413, "body_too_large", "close")


@pytest.mark.parametrize("path", ["/hot", "/cold"])
async def test_a_body_over_the_limit_is_refused_by_length_and_by_count(start: Start, path: str) -> None:
    world, client = await start(max_body_bytes=100)
    reply = await client.ask(post(path, b"x" * 101))
    assert (reply[0], code_of(reply)) == (413, "body_too_large")
    assert await client.is_closed()

    client = await start.connect(world)
    client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    client.send(b"40\r\n" + b"x" * 64 + b"\r\n")
    client.send(b"40\r\n" + b"x" * 64 + b"\r\n")
    reply = await client.reply()
    assert (reply[0], code_of(reply)) == (413, "body_too_large")
    assert world.seen == []
    assert world.port.counters.rejected == {"body_too_large": 2}

    client = await start.connect(world)
    assert (await client.ask(post("/cold", b"x" * 100)))[0] == 200


async def test_a_head_over_the_limit_is_refused_in_one_packet_or_in_many(start: Start) -> None:
    world, client = await start(max_header_bytes=1024)
    reply = await client.ask(get("/hot", "X-Long: " + "x" * 1024))
    assert (reply[0], code_of(reply)) == (431, "header_too_large")
    assert await client.is_closed()
    client = await start.connect(world)
    client.send(b"GET /hot HTTP/1.1\r\n")
    for n in range(200):
        client.send(b"X-%d: y\r\n" % n)
    assert (await client.reply())[0] == 431
    client = await start.connect(world)
    client.send(b"GET /" + b"x" * 2000)
    assert (await client.reply())[0] == 431


async def test_a_head_that_dawdles_is_timed_out_and_so_is_an_idle_connection(start: Start) -> None:
    world, client = await start()
    idle = await start.connect(world)
    await idle.ask(HOT)
    client.send(b"GET /hot HTTP/1.1\r\nHos")
    await until(lambda: world.port.counters.bytes_in > len(HOT))
    world.clock.advance(9)
    world.port.sweep()
    world.clock.advance(1.5)
    world.port.sweep()
    reply = await client.reply()
    assert (reply[0], code_of(reply)) == (408, "request_timeout")
    assert await client.is_closed()
    assert (await idle.ask(HOT))[0] == 201
    world.clock.advance(80)
    world.port.sweep()
    assert await idle.is_closed()


async def test_a_body_that_dawdles_is_timed_out(start: Start) -> None:
    world, client = await start()
    client.send(HOT[:-2])
    await until(lambda: world.port.counters.bytes_in)
    world.clock.advance(50)
    world.port.sweep()
    world.clock.advance(11)
    world.port.sweep()
    assert (await client.reply())[0] == 408


async def test_waiting_for_a_late_answer_is_not_idling(start: Start) -> None:
    world, client = await start()
    client.send(post("/late", b"1"))
    await until(lambda: world.late)
    world.clock.advance(500)
    world.port.sweep()
    world.late[0].respond(Answer(200, b"ok"))
    assert (await client.reply())[2] == b"ok"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_a_body_that_is_not_json_is_refused(start: Start, content_type: str | None) -> None:
    _, client = await start()
    line = b"Content-Type: %b\r\n" % content_type.encode() if content_type else b""
    reply = await client.ask(HOT.replace(b"Content-Type: application/json\r\n", line))
    assert (reply[0], code_of(reply)) == (415, "unsupported_media_type")
    assert (await client.ask(HOT))[0] == 201, "the connection goes on"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /hot HTTP/1.1\r\n\r\n", 400),
        (b"GET /hot HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /hot HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET /hot HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET /hot HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (
            b"POST /hot HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST /hot HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
        (b"POST /hot HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc", 400),
        (b"POST /hot HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST /hot HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    ],
)
async def test_what_no_careful_server_accepts_is_refused_and_the_connection_closed(
    start: Start, raw: bytes, status: int
) -> None:
    world, client = await start()
    client.send(raw + HOT)
    reply = await client.reply()
    assert reply[0] == status
    code_of(reply)
    client.writer.write_eof()
    assert await client.is_closed()
    assert world.seen == []


async def test_connection_close_and_http_1_0_end_the_connection(start: Start) -> None:
    world, client = await start()
    client.send(post("/hot", b'{"user":"a"}', "Connection: close") + HOT)
    assert (await client.reply())[1]["connection"] == "close"
    assert await client.is_closed()
    assert world.seen == ["a"]
    client = await start.connect(world)
    reply = await client.ask(b"GET /hot HTTP/1.0\r\n\r\n")
    assert (reply[0], reply[1]["connection"]) == (200, "close")
    assert await client.is_closed()


@pytest.mark.parametrize("path", ["/hot", "/cold"])
async def test_head_is_get_without_a_body(start: Start, path: str) -> None:
    _, client = await start()
    expected = await client.ask(get(path))
    client.send(get(path, method="HEAD"))
    reply = await client.reply(is_head=True)
    assert reply[0] == 200
    assert reply[1] == expected[1]
    assert (await client.ask(HOT))[0] == 201


async def test_targets_in_absolute_form_are_understood(start: Start) -> None:
    _, client = await start()
    assert (await client.ask(get("http://localhost/hot?a=1")))[2] == b'{"q":"a=1"}'
    assert (await client.ask(get("*", method="OPTIONS")))[0] == 204


@pytest.mark.parametrize("path", ["/hot", "/cold"])
async def test_cors_is_the_same_on_both_paths(start: Start, path: str) -> None:
    _, client = await start(allowed_origins=("https://a.example",))
    welcome = (await client.ask(get(path, "Origin: https://a.example")))[1]
    assert welcome["access-control-allow-origin"] == "https://a.example"
    assert welcome["vary"] == "origin"
    stranger = (await client.ask(get(path, "Origin: https://b.example")))[1]
    assert "access-control-allow-origin" not in stranger
    assert stranger["vary"] == "origin"
    ask = (
        "Origin: https://a.example",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: x-a",
    )
    status, headers, _ = await client.ask(get(path, *ask, method="OPTIONS"))
    assert (status, headers["access-control-allow-headers"]) == (204, "x-a")
    assert "POST" in headers["access-control-allow-methods"]
    assert headers["access-control-allow-origin"] == "https://a.example"
    assert "content-length" not in headers


@pytest.mark.parametrize("path", ["/hot", "/cold", "/api/v1/stream", "/connection/websocket"])
async def test_a_page_that_rebinds_its_name_is_refused_everywhere(start: Start, path: str) -> None:
    world, client = await start(allowed_hosts=("localhost",))
    extra = ("Connection: Upgrade", "Upgrade: websocket") if "websocket" in path else ()
    for lines in (
        f"GET {path} HTTP/1.1\r\nHost: evil.example:8080",
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example",
    ):
        client = await start.connect(world)
        reply = await client.ask("\r\n".join([lines, *extra]).encode() + b"\r\n\r\n")
        assert (reply[0], code_of(reply)) == (403, "origin_refused")
    assert not world.streams
    assert not world.upgrades


async def test_forwarded_addresses_count_only_from_trusted_proxies(start: Start) -> None:
    _, client = await start()
    forwarded = post("/hot", b'{"user":"a"}', "X-Forwarded-For: 9.9.9.9, 8.8.8.8")
    assert json.loads((await client.ask(forwarded))[2])["peer"] == "127.0.0.1"
    _, client = await start(trusted_proxies=("127.0.0.0/8",))
    assert json.loads((await client.ask(forwarded))[2])["peer"] == "8.8.8.8"


async def test_a_stream_is_handed_over_after_the_answers_before_it(start: Start) -> None:
    world, client = await start()
    client.send(post("/late", b"1") + get("/api/v1/stream?channel=a"))
    await until(lambda: world.late)
    assert not world.streams
    world.late[0].respond(Answer(200, b"ok"))
    await client.reply()
    assert await client.reader.read() == b"STREAM"
    assert world.streams == [("/api/v1/stream", b"channel=a", "127.0.0.1")]
    assert not world.port.connections


async def test_a_websocket_is_handed_over_with_the_bytes_behind_the_handshake(start: Start) -> None:
    world, client = await start()
    extra = ("Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: k")
    client.send(HOT + get("/connection/websocket?a=1", *extra) + b"\x81\x00frame")
    assert (await client.reply())[0] == 201
    assert await client.reader.read() == b"UPGRADED"
    [(path, raw, tail)] = world.upgrades
    assert (path, tail) == ("/connection/websocket", b"\x81\x00frame")
    assert raw.startswith(b"GET /connection/websocket?a=1 HTTP/1.1\r\nhost: localhost\r\n")
    assert raw.endswith(b"sec-websocket-key: k\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> dict[str, str]:
    """Options to serve TLS."""
    return {"tls_cert": str(certificate[0]), "tls_key": str(certificate[1])}


async def test_late_answers_come_in_order_over_tls(start: Start, tls: dict[str, str]) -> None:
    world, client = await start(**tls)
    client.send(post("/late", b"1") + HOT + post("/cold", b"2"))
    await until(lambda: world.late)
    world.late[0].respond(Answer(202, b"late"))
    replies = [await client.reply() for _ in range(3)]

    assert [status for status, _, _ in replies] == [202, 201, 200]
    assert replies[0][2] == b"late"
    assert (await client.ask(HOT))[0] == 201


async def test_a_client_that_left_over_tls_before_a_late_answer_hurts_nobody(
    start: Start, tls: dict[str, str]
) -> None:
    world, client = await start(**tls)
    client.send(post("/late", b"1"))
    await until(lambda: world.late)
    # TLS knows no half-closed connection: with the client's end the connection ends.
    client.writer.close()
    await until(lambda: not world.port.connections)
    world.late[0].respond(Answer(202, b"x"))

    assert world.port.counters.lost_answers == 1
    assert world.port.open_answers == 0


async def test_a_refused_client_reads_why_over_tls(start: Start, tls: dict[str, str]) -> None:
    _, client = await start(**tls)
    reply = await client.ask(b"NONSENSE\r\n\r\n")

    assert (reply[0], reply[1]["connection"]) == (400, "close")
    assert await client.is_closed()


async def test_a_stream_is_handed_over_after_the_answers_before_it_over_tls(
    start: Start, tls: dict[str, str]
) -> None:
    world, client = await start(**tls)
    client.send(post("/late", b"1") + get("/api/v1/stream?channel=a"))
    await until(lambda: world.late)
    world.late[0].respond(Answer(200, b"ok"))
    await client.reply()

    assert await client.reader.read() == b"STREAM"
    assert not world.port.connections


async def test_a_websocket_is_handed_over_with_the_bytes_behind_the_handshake_over_tls(
    start: Start, tls: dict[str, str]
) -> None:
    world, client = await start(**tls)
    extra = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k")
    client.send(HOT + get("/connection/websocket", *extra) + b"\x81\x00frame")

    assert (await client.reply())[0] == 201
    assert await client.reader.read() == b"UPGRADED"
    assert [tail for _, _, tail in world.upgrades] == [b"\x81\x00frame"]
    assert not world.port.connections


async def test_an_offer_of_h2c_is_ignored_and_the_request_served(start: Start) -> None:
    _, client = await start()
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAA")
    client.send(post("/hot", b'{"user":"a"}', *offer)[:-4])
    client.send(b'"a"}' + HOT)
    assert [(await client.reply())[0] for _ in range(2)] == [201, 201]
    assert (await client.ask(get("/cold", *offer)))[0] == 200


async def test_too_many_connections_are_told_so(start: Start) -> None:
    world, _ = await start(max_connections=1)
    second = await start.connect(world)
    reply = await second.reply()
    assert (reply[0], code_of(reply)) == (503, "too_many_connections")


async def test_stopping_gives_open_answers_and_closes_idle_connections(start: Start) -> None:
    world, client = await start()
    idle = await start.connect(world)
    await idle.ask(HOT)
    client.send(post("/late", b"1"))
    await until(lambda: world.late)
    world.server.stop()
    assert await idle.is_closed()
    world.late[0].respond(Answer(202, b"done"))
    status, headers, body = await client.reply()
    assert (status, headers["connection"], body) == (202, "close", b"done")
    await until(lambda: world.closed_sessions == 1)


async def test_stopping_in_a_hurry_fails_what_is_open(start: Start) -> None:
    world, client = await start()
    client.send(post("/late", b"1"))
    await until(lambda: world.late)
    world.server.stop()
    await until(lambda: world.port._quiet is not None)
    world.server.stop()
    reply = await client.reply()
    assert (reply[0], code_of(reply)) == (503, "stopping")
    world.late[0].respond(Answer(202))
    assert world.port.counters.lost_answers == 1


STREAM_OF_REQUESTS = (
    HOT
    + get("/hot?x=1")
    + post("/cold", b"a\r\n\r\nb")
    + HOT
    + get("/cold", method="HEAD")
    + b"POST /hot HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
    b'5\r\n{"use\r\n7\r\nr":"b"}\r\n0\r\n\r\n'
    + post("/conflict", b"")
    + HOT
    + get("/hot", "Connection: close")
)


async def all_of(world: World, pieces: list[bytes]) -> bytes:
    reader, writer = await asyncio.open_connection(*world.server.addresses[0])
    writer.transport.set_write_buffer_limits(0)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("loop_factory", LOOPS, ids=["asyncio", "uvloop"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, len(STREAM_OF_REQUESTS) - 1), max_size=12, unique=True))
def test_any_split_into_packets_gives_the_same_answers(loop_factory: LoopFactory, cuts: list[int]) -> None:
    async def run() -> tuple[bytes, bytes]:
        world = World()
        task = asyncio.ensure_future(world.server.serve())
        await world.server.ready.wait()
        edges = [0, *sorted(cuts), len(STREAM_OF_REQUESTS)]
        pieces = [STREAM_OF_REQUESTS[a:b] for a, b in pairwise(edges)]
        whole = await all_of(world, [STREAM_OF_REQUESTS])
        split = await all_of(world, pieces)
        world.server.stop()
        await task
        return whole, split

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        whole, split = runner.run(run())
    assert split == whole
    assert whole.count(b"HTTP/1.1 ") == 9


fragments = st.sampled_from(
    [HOT, HOT[:40], b"\r\n", b"\r\n\r\n", b"GET /hot HTTP/1.1\r\n", b"Host: a\r\n", b"0\r\n\r\n"]
)


@pytest.mark.parametrize("loop_factory", LOOPS, ids=["asyncio", "uvloop"])
@settings(max_examples=60, deadline=None)
@given(garbage=st.lists(st.binary(max_size=60) | fragments, max_size=8))
def test_garbage_neither_raises_nor_leaves_the_connection_hanging(
    loop_factory: LoopFactory, garbage: list[bytes]
) -> None:
    failures: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        world = World()
        task = asyncio.ensure_future(world.server.serve())
        await world.server.ready.wait()
        reader, writer = await asyncio.open_connection(*world.server.addresses[0])
        for piece in garbage:
            writer.write(piece)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        while not world.port.connections and world.port.counters.connections == 0:
            await asyncio.sleep(0)
        for _ in range(3):
            world.clock.advance(200)
            world.port.sweep()
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            while await reader.read(65536):
                pass
        writer.close()
        world.server.stop()
        await task

    # A reset is as good an end as an answer.
    with contextlib.suppress(ConnectionError), asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())
    assert failures == []
