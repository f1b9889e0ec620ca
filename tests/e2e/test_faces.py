"""All faces of a real server from outside: what they say, and that they say it over TLS too."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.sync.client import ClientConnection, connect

from heartcast.testing import RunningServer, running

PAGES = [
    "/api/v1/stream",
    "/docs",
    "/demo",
    "/demo/app.js",
    "/demo/style.css",
    "/widget/heart.js",
    "/metrics",
]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running("--in-memory") as server:
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    begin = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + dt.timedelta(days=30))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    chain, private = folder / "cert.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return chain, private


def _lines(socket: ClientConnection, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        found += [json.loads(line) for line in str(socket.recv(5)).split("\n")]
    return found


def _inbox_of(socket: ClientConnection, user: str) -> None:
    commands = [
        {"id": 1, "connect": {"data": {"user": user}}},
        {"id": 2, "subscribe": {"channel": f"inbox:#{user}"}},
    ]
    socket.send("\n".join(json.dumps(command) for command in commands))
    assert "subscribe" in _lines(socket, 2)[1]


@pytest.mark.parametrize("path", PAGES)
def test_a_text_says_its_charset_once(server: RunningServer, path: str) -> None:
    answer = httpx2.head(server.url + path)

    assert answer.status_code == 200
    assert answer.headers["content-type"].count("charset=utf-8") == 1


def test_the_document_describes_what_clients_connect_to(server: RunningServer) -> None:
    document = httpx2.get(f"{server.url}/openapi.json").json()
    stream = document["paths"]["/api/v1/stream"]["get"]

    assert document["openapi"] == "3.1.0"
    assert {parameter["name"] for parameter in stream["parameters"]} == {
        "channel",
        "target",
        "token",
        "last_event_id",
    }
    assert "101" in document["paths"]["/connection/websocket"]["get"]["responses"]


def test_who_comes_to_a_face_in_the_wrong_way_is_told_the_right_one(server: RunningServer) -> None:
    plain = httpx2.get(f"{server.url}/connection/websocket")
    posted = httpx2.post(f"{server.url}/api/v1/stream?channel=public:a")

    assert (plain.status_code, plain.json()["code"]) == (426, "websocket_refused")
    assert plain.headers["upgrade"] == "websocket"
    assert (posted.status_code, posted.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in posted.headers["allow"]


def test_every_device_of_a_user_gets_a_push_and_one_answer_settles_it(server: RunningServer) -> None:
    news = {"user_id": "ada", "template": "news_v2", "payload": {"title": "Hello"}}
    with ExitStack() as stack:
        sockets = [stack.enter_context(connect(server.websocket_url)) for _ in range(3)]
        for socket in sockets:
            _inbox_of(socket, "ada")
        push_id = httpx2.post(f"{server.url}/push", json=news).json()["id"]

        got = [_lines(socket, 1)[0]["push"]["pub"]["tags"]["id"] for socket in sockets]
        sockets[1].send(json.dumps({"send": {"data": {"ack": [push_id]}}}))
        sockets[1].send(json.dumps({"id": 3, "ping": {}}))
        _lines(sockets[1], 1)
        state = httpx2.get(f"{server.url}/api/v1/pushes/{push_id}").json()["status"]

    assert got == [push_id] * 3
    assert state == "delivered"


def test_nobody_settles_the_push_of_another(server: RunningServer) -> None:
    news = {"user_id": "bob", "template": "news_v2", "payload": {"title": "Hello"}}
    with connect(server.websocket_url) as bob, connect(server.websocket_url) as eve:
        _inbox_of(bob, "bob")
        _inbox_of(eve, "eve")
        push_id = httpx2.post(f"{server.url}/push", json=news).json()["id"]
        _lines(bob, 1)
        eve.send(json.dumps({"send": {"data": {"ack": [push_id]}}}))
        eve.send(json.dumps({"id": 3, "ping": {}}))
        _lines(eve, 1)
        state = httpx2.get(f"{server.url}/api/v1/pushes/{push_id}").json()["status"]

    assert state == "sent"


def test_all_faces_speak_tls(certificate: tuple[Path, Path]) -> None:
    chain, key = certificate
    trust = ssl.create_default_context(cafile=str(chain))
    commands = [{"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "hearts:post_1"}}]
    heart = {"target_id": "post_1", "user_id": "u1"}
    with running("--in-memory", "--tls-cert", str(chain), "--tls-key", str(key)) as server:
        assert server.url.startswith("https://")
        with connect(server.websocket_url, ssl=trust) as socket, httpx2.Client(verify=trust) as http:
            socket.send("\n".join(json.dumps(command) for command in commands))
            _lines(socket, 2)
            with http.stream("GET", f"{server.url}/api/v1/stream?channel=hearts:post_1") as stream:
                lines = stream.iter_lines()
                assert "event: subscribed" in lines
                assert http.post(f"{server.url}/api/v1/hearts", json=heart).status_code == 201
                streamed = next(line for line in lines if '"count"' in line)
            pushed = _lines(socket, 1)[0]["push"]["pub"]["data"]

    assert pushed["count"] == 1
    assert json.loads(streamed.removeprefix("data: "))["data"]["count"] == 1
