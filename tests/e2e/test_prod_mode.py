"""Prod mode from outside: nobody is trusted unasked, and clients that do too much get 429."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import jwt
import pytest

from heartcast.testing import RunningServer, running

SECRET = "a secret that is longer than thirty-two bytes"
KEY = "an-api-key-of-a-server"
NEWS = {"user_id": "u1", "template": "news_v2", "payload": {"title": "Hello"}}


@pytest.fixture(scope="module", params=["true", "false"], ids=["hot path", "cold path"])
def prod(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    environ = {
        "HEARTCAST_AUTH__JWT_SECRET": SECRET,
        "HEARTCAST_AUTH__API_KEYS": f'["{KEY}"]',
        "HEARTCAST_LIMITS__HEARTS_PER_CLIENT": "1/min burst 2",
        "HEARTCAST_HTTP__HOT_PATH": request.param,
    }
    with running("--in-memory", "--mode", "prod", environ=environ) as server:
        yield server


def _as(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {jwt.encode({'sub': user}, SECRET, algorithm='HS256')}"}


def _heart(server: RunningServer, user: str, headers: dict[str, str]) -> httpx2.Response:
    body = {"target_id": "post_1", "user_id": user}
    return httpx2.post(f"{server.url}/api/v1/hearts", json=body, headers=headers)


def test_a_user_may_heart_in_its_own_name_only(prod: RunningServer) -> None:
    assert _heart(prod, "ada", _as("ada")).status_code == 201
    assert _heart(prod, "bob", _as("ada")).status_code == 403

    unasked = _heart(prod, "ada", {})
    assert (unasked.status_code, unasked.json()["code"]) == (401, "unauthenticated")
    assert unasked.headers["www-authenticate"] == "Bearer"


def test_a_client_over_its_budget_gets_429_and_is_told_when_to_come_back(prod: RunningServer) -> None:
    statuses = [_heart(prod, "eve", _as("eve")) for _ in range(3)]

    assert [answer.status_code for answer in statuses] == [201, 200, 429]
    refused = statuses[-1]
    assert refused.json()["code"] == "rate_limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["ratelimit"].startswith('"client";r=0;t=')


def test_pushes_and_the_server_api_are_for_servers(prod: RunningServer) -> None:
    key = {"X-API-Key": KEY}
    published = {"channel": "public:a", "data": 1}

    assert httpx2.post(f"{prod.url}/push", json=NEWS, headers=_as("u1")).status_code == 403
    assert httpx2.post(f"{prod.url}/push", json=NEWS).status_code == 401
    assert httpx2.post(f"{prod.url}/push", json=NEWS, headers=key).status_code == 202
    assert httpx2.post(f"{prod.url}/api/publish", json=published).status_code == 401
    assert httpx2.post(f"{prod.url}/api/publish", json=published, headers=key).json() != {}


def test_what_everybody_may_see_needs_no_credentials(prod: RunningServer) -> None:
    for path in ("/livez", "/readyz", "/healthz", "/metrics", "/openapi.json", "/widget/heart.js", "/docs"):
        assert httpx2.get(f"{prod.url}{path}").status_code == 200


def test_what_only_dev_mode_has_is_not_there(prod: RunningServer) -> None:
    assert httpx2.get(f"{prod.url}/demo").status_code == 404
    assert httpx2.post(f"{prod.url}/api/v1/dev/token", json={"user_id": "u"}).status_code == 404
