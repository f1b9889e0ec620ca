"""One token, verified by a provider's key, at every door of a real server."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from websockets.sync.client import connect

from heartcast.testing.server import RunningServer, running

KEY = ec.generate_private_key(ec.SECP256R1())
FORGED = ec.generate_private_key(ec.SECP256R1())
API_KEY = "a-key-that-only-pushes"


@contextmanager
def provider() -> Iterator[str]:
    described = {**ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "k1", "use": "sig"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"keys": [described]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/keys"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def token(private: ec.EllipticCurvePrivateKey = KEY, **claims: object) -> str:
    said = {"sub": "u1", "aud": "heartcast", "exp": time.time() + 600, **claims}
    return jwt.encode(said, private, algorithm="ES256", headers={"kid": "k1"})


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with provider() as url:
        environ = {
            "HEARTCAST_AUTH__JWKS_URL": url,
            "HEARTCAST_AUTH__JWKS_ALLOW_PRIVATE": "true",
            "HEARTCAST_AUTH__JWT_AUDIENCE": "heartcast",
            "HEARTCAST_AUTH__API_KEYS": f'[{{key = "{API_KEY}", scopes = ["push:write"]}}]',
        }
        with running("--in-memory", "--mode", "prod", environ=environ) as server:
            _wait_for_keys(server)
            yield server


def _wait_for_keys(server: RunningServer) -> None:
    for _ in range(100):
        if _heart(server, token()).status_code != 503:
            return
        time.sleep(0.1)
    raise TimeoutError("the provider's keys never came")


def _heart(server: RunningServer, shown: str | None, user: str = "u1") -> httpx2.Response:
    headers = {"authorization": f"Bearer {shown}"} if shown is not None else {}
    body = {"target_id": "a", "user_id": user}
    return httpx2.post(f"{server.url}/api/v1/hearts", json=body, headers=headers)


def test_a_user_hearts_for_itself_and_for_nobody_else(server: RunningServer) -> None:
    assert _heart(server, token()).status_code in (200, 201)
    assert _heart(server, token(), user="u2").status_code == 403
    assert _heart(server, token(scope="hearts:write:any"), user="u2").status_code in (200, 201)


def test_what_is_forged_expired_unsigned_or_for_others_is_refused_over_http(server: RunningServer) -> None:
    unsigned = jwt.encode({"sub": "u1", "aud": "heartcast"}, None, algorithm="none")
    for shown in (token(FORGED), token(exp=1), token(aud="other"), token(nbf=time.time() + 60), unsigned):
        answer = _heart(server, shown)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert shown not in answer.text


def test_an_api_key_pushes_and_does_nothing_else(server: RunningServer) -> None:
    headers = {"x-api-key": API_KEY}
    push = {"user_id": "u1", "template": "news_v2", "payload": {"title": "Hello"}}
    pushed = httpx2.post(f"{server.url}/push", json=push, headers=headers)
    heart = httpx2.post(
        f"{server.url}/api/v1/hearts", json={"target_id": "a", "user_id": "u1"}, headers=headers
    )
    published = httpx2.post(
        f"{server.url}/api/publish", json={"channel": "feed:a", "data": 1}, headers=headers
    )
    seen = httpx2.get(f"{server.url}/api/v1/pushes/{pushed.json()['id']}", headers=headers)

    assert (pushed.status_code, seen.status_code) == (202, 200)
    assert (heart.status_code, published.status_code) == (403, 401)


def _connected(server: RunningServer, *commands: dict[str, Any]) -> list[dict[str, Any]]:
    with connect(server.websocket_url) as socket:
        replies = []
        for number, command in enumerate(commands, 1):
            socket.send(json.dumps({"id": number, **command}))
            replies.append(json.loads(socket.recv(timeout=5)))
        return replies


def test_the_same_token_opens_a_websocket_and_a_subscription(server: RunningServer) -> None:
    subscription = token(channel="feed:news")
    connected, subscribed, refused = _connected(
        server,
        {"connect": {"token": token()}},
        {"subscribe": {"channel": "feed:news", "token": subscription}},
        {"subscribe": {"channel": "feed:other", "token": token(FORGED, channel="feed:other")}},
    )

    assert "client" in connected["connect"]
    assert "subscribe" in subscribed
    assert refused["error"]["code"] == 103


def test_a_forged_token_opens_no_websocket(server: RunningServer) -> None:
    with connect(server.websocket_url) as socket:
        socket.send(json.dumps({"id": 1, "connect": {"token": token(FORGED)}}))
        with pytest.raises(Exception, match="3500"):
            socket.recv(timeout=5)


@pytest.mark.parametrize(("shown", "status"), [(token(), 200), (token(FORGED), 401), (token(exp=1), 401)])
def test_the_same_token_opens_an_event_stream(server: RunningServer, shown: str, status: int) -> None:
    url = f"{server.url}/api/v1/stream?channel=hearts:a"
    with httpx2.stream("GET", url, headers={"authorization": f"Bearer {shown}"}, timeout=5) as answer:
        assert answer.status_code == status


def test_a_provider_that_is_down_delays_tokens_and_breaks_nothing_else() -> None:
    environ = {
        "HEARTCAST_AUTH__JWKS_URL": "http://127.0.0.1:9/keys",
        "HEARTCAST_AUTH__JWKS_ALLOW_PRIVATE": "true",
        "HEARTCAST_AUTH__JWT_AUDIENCE": "heartcast",
        "HEARTCAST_AUTH__API_KEYS": '["a-key-of-our-own-server"]',
    }
    with running("--in-memory", "--mode", "prod", environ=environ) as server:
        late = _heart(server, token())
        ours = httpx2.post(
            f"{server.url}/api/v1/hearts",
            json={"target_id": "a", "user_id": "u1"},
            headers={"x-api-key": "a-key-of-our-own-server"},
        )
        assert (late.status_code, late.json()["code"], late.headers["retry-after"]) == (
            503,
            "keys_unavailable",
            "1",
        )
        assert ours.status_code == 201
        assert server.stop() == 0
