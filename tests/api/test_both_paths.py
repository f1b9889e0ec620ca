"""Every hot route answers the same inside the protocol and through the application.

Two servers run side by side, one with the hot path switched off. Each case is sent to
both, and status, headers and body must be equal once ids and times are blanked.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from heartcast.testing import RunningServer, running

SECRET = "a secret that is longer than thirty-two bytes"
JSON = {"Content-Type": "application/json"}
HEARTS, COUNTS, BATCH = "/api/v1/hearts", "/api/v1/hearts/counts", "/api/v1/hearts/batch"
PUSH, PUSHES, PUBLISH = "/push", "/api/v1/pushes/batch", "/api/publish"
NEWS = {"user_id": 12345, "template": "news_v2", "payload": {"title": "Hello"}}


class Case(NamedTuple):
    """One request."""

    name: str
    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = JSON


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _broken_bodies(path: str) -> list[Case]:
    """What may go wrong with any body, whatever it should have been."""
    bodies = {
        "no body": None,
        "an empty body": b"",
        "half a document": b'{"user_id":',
        "two documents": b"{}{}",
        "a list": b"[]",
        "a number": b"7",
        "null": b"null",
        "an unknown field": b'{"nonsense":1}',
        "invalid UTF-8": b'{"user_id":"\xff"}',
        "a lone surrogate": b'{"user_id":"\\ud800","target_id":"a","template":"news_v2","payload":{}}',
        "deep nesting": b"[" * 5000,
        "a body over the limit": b" " * (1024 * 1024 + 1),
    }
    return [Case(f"{path}: {name}", "POST", path, body) for name, body in bodies.items()]


CASES = [
    Case("a heart", "POST", HEARTS, _json({"target_id": "post_1", "user_id": "u1"})),
    Case("the same heart again", "POST", HEARTS, _json({"target_id": "post_1", "user_id": "u1"})),
    Case("a heart of a number", "POST", HEARTS, _json({"target_id": "post_1", "user_id": 7})),
    Case("a heart of a huge number", "POST", HEARTS, _json({"target_id": "post_1", "user_id": 2**63})),
    Case("a heart of a negative number", "POST", HEARTS, _json({"target_id": "post_1", "user_id": -1})),
    Case("a heart of a float", "POST", HEARTS, _json({"target_id": "post_1", "user_id": 1.5})),
    Case("a heart of nobody", "POST", HEARTS, _json({"target_id": "post_1", "user_id": ""})),
    Case("a heart with control characters", "POST", HEARTS, _json({"target_id": "a\nb", "user_id": "u"})),
    Case("a heart for a long target", "POST", HEARTS, _json({"target_id": "x" * 201, "user_id": "u"})),
    Case("a heart in Chinese", "POST", HEARTS, _json({"target_id": "文章", "user_id": "用户"})),
    Case(
        "a heart of an unknown kind", "POST", HEARTS, _json({"target_id": "a", "user_id": "u", "kind": "?"})
    ),
    Case("a heart with a query", "POST", HEARTS + "?x=1", _json({"target_id": "post_2", "user_id": "u1"})),
    Case("a compressed heart", "POST", HEARTS, b"\x1f\x8b", {**JSON, "Content-Encoding": "gzip"}),
    Case("a heart that says it is not", "POST", HEARTS, b"{}", {**JSON, "Content-Encoding": "Identity"}),
    Case(
        "a heart with another charset",
        "POST",
        HEARTS,
        b"{}",
        {"Content-Type": "application/json; charset=utf-8"},
    ),
    Case("a heart as text", "POST", HEARTS, b"{}", {"Content-Type": "text/plain"}),
    Case("a heart without a type", "POST", HEARTS, b"{}", {}),
    Case("a heart of a form", "POST", HEARTS, b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}),
    Case("a forged token", "POST", HEARTS, b"{}", {**JSON, "Authorization": "Bearer forged"}),
    Case("another scheme", "POST", HEARTS, b"{}", {**JSON, "Authorization": "Basic dTpw"}),
    Case("an unknown API key", "POST", HEARTS, b"{}", {**JSON, "X-API-Key": "wrong"}),
    Case("a page of ours", "POST", HEARTS, b"{}", {**JSON, "Origin": "https://blog.example"}),
    Case("a page of somebody else", "POST", HEARTS, b"{}", {**JSON, "Origin": "https://evil.example"}),
    Case(
        "a preflight",
        "OPTIONS",
        HEARTS,
        None,
        {
            "Origin": "https://blog.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    ),
    Case("options without an origin", "OPTIONS", HEARTS, None, {}),
    Case("put where there is no put", "PUT", HEARTS, b"{}"),
    Case("a foreign host", "POST", HEARTS, b"{}", {**JSON, "Host": "evil.example"}),
    Case("counts", "GET", COUNTS + "?target_id=post_1&target_id=nobody", None, {}),
    Case("counts of one user", "GET", COUNTS + "?target_id=post_1&user_id=u1", None, {}),
    Case("head of counts", "HEAD", COUNTS + "?target_id=post_1", None, {}),
    Case("counts of nothing", "GET", COUNTS, None, {}),
    Case("counts of too many", "GET", COUNTS + "?" + "&".join(["target_id=a"] * 101), None, {}),
    Case("counts with an escaped target", "GET", COUNTS + "?target_id=%E6%96%87%E7%AB%A0", None, {}),
    Case("counts with a broken escape", "GET", COUNTS + "?target_id=%FF", None, {}),
    Case("counts with an unknown parameter", "GET", COUNTS + "?target_id=a&nonsense=1", None, {}),
    Case("posted counts", "POST", COUNTS, _json({"target_ids": ["post_1", "post_2"], "user_id": "u1"})),
    Case("posted counts of too many", "POST", COUNTS, _json({"target_ids": ["a"] * 1001})),
    Case(
        "a batch",
        "POST",
        BATCH,
        _json(
            {
                "items": [
                    {"op": "add", "target_id": "post_3", "user_id": "u1"},
                    {"op": "add", "target_id": "", "user_id": "u1"},
                    {"op": "remove", "target_id": "post_3", "user_id": "u1"},
                ]
            }
        ),
    ),
    Case("an empty batch", "POST", BATCH, _json({"items": []})),
    Case("a batch of too many", "POST", BATCH, _json({"items": [{"op": "add"}] * 501})),
    Case("a push", "POST", PUSH, _json(NEWS)),
    Case("a push by its long name", "POST", "/api/v1/pushes", _json(NEWS)),
    Case("a push to text", "POST", PUSH, _json({**NEWS, "user_id": "u456"})),
    Case("a push with an unknown template", "POST", PUSH, _json({**NEWS, "template": "nothing"})),
    Case("a push with a bad payload", "POST", PUSH, _json({**NEWS, "payload": {"title": 7}})),
    Case("a push without its title", "POST", PUSH, _json({**NEWS, "payload": {}})),
    Case("a push that is too large", "POST", PUSH, _json({**NEWS, "payload": {"title": "x" * 20_000}})),
    Case("pushes", "POST", PUSHES, _json({"items": [NEWS, {**NEWS, "template": "nothing"}, 7]})),
    Case("pushes of too many", "POST", PUSHES, _json({"items": [NEWS] * 1001})),
    Case("a publication", "POST", PUBLISH, _json({"channel": "public:a", "data": {"x": 1}})),
    Case("a publication nowhere", "POST", PUBLISH, _json({"channel": "nowhere:a", "data": 1})),
    Case("a publication without a channel", "POST", PUBLISH, _json({"data": 1})),
    *(case for path in (HEARTS, COUNTS, BATCH, PUSH, PUSHES, PUBLISH) for case in _broken_bodies(path)),
]


@pytest.fixture(scope="module")
def hot_and_cold() -> Iterator[tuple[RunningServer, RunningServer]]:
    environ = {
        "HEARTCAST_AUTH__JWT_SECRET": SECRET,
        "HEARTCAST_HTTP__ALLOWED_ORIGINS": '["https://blog.example"]',
    }
    with (
        running("--in-memory", environ={**environ, "HEARTCAST_HTTP__HOT_PATH": "true"}) as hot,
        running("--in-memory", environ={**environ, "HEARTCAST_HTTP__HOT_PATH": "false"}) as cold,
    ):
        yield hot, cold


def _answer(server: RunningServer, case: Case) -> tuple[int, list[tuple[str, str]], bytes]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    try:
        connection.request(case.method, case.path, case.body, case.headers)
        response = connection.getresponse()
        headers = sorted((name.lower(), value) for name, value in response.getheaders())
        return response.status, headers, response.read()
    finally:
        connection.close()


_CHANGING = [
    (re.compile(rb"\b[0-9A-HJKMNP-TV-Z]{26}\b"), b"<id>"),
    (re.compile(rb"\d{4}-\d\d-\d\dT[0-9:.]+Z"), b"<time>"),
    (re.compile(rb'(?<=\d\.)[0-9a-f]{8}(?=")'), b"<lifetime>"),
]


def _blanked(answer: tuple[int, list[tuple[str, str]], bytes]) -> tuple[int, list[tuple[str, str]], bytes]:
    status, headers, body = answer
    for pattern, blank in _CHANGING:
        body = pattern.sub(blank, body)
        headers = [
            (name, pattern.sub(blank, value.encode("latin-1")).decode("latin-1")) for name, value in headers
        ]
    return status, [(name, value) for name, value in headers if name != "date"], body


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_both_paths_answer_the_same(hot_and_cold: tuple[RunningServer, RunningServer], case: Case) -> None:
    hot, cold = (_blanked(_answer(server, case)) for server in hot_and_cold)

    assert hot == cold
    assert hot[0] != 500


def test_the_hot_server_did_take_the_hot_path_and_the_other_did_not(
    hot_and_cold: tuple[RunningServer, RunningServer],
) -> None:
    counted = []
    for server in hot_and_cold:
        _answer(server, Case("a push", "POST", PUSH, _json(NEWS)))
        metrics = _answer(server, Case("metrics", "GET", "/metrics", None, {}))[2].decode()
        counted.append(re.search(r'heartcast_http_requests_total{path="hot"} (\S+)', metrics))

    hot, cold = counted
    assert hot is not None
    assert float(hot[1]) > 0
    assert cold is None or float(cold[1]) == 0
