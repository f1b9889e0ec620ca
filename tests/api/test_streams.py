"""REST of streams."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from heartcast.api.problems import problem
from heartcast.api.route import Answer, Call, Identity
from heartcast.api.streams import routes
from heartcast.core.errors import HeartcastError
from heartcast.streams.memory import MemoryStreamStore
from heartcast.streams.options import StreamOptions
from heartcast.streams.streams import Streams
from heartcast.testing.clock import ManualClock

TOPIC = "/api/v1/streams/{topic}"


class Api:
    def __init__(self) -> None:
        self.clock = ManualClock()
        options = StreamOptions(max_data_bytes=100)
        streams = Streams(MemoryStreamStore(options, self.clock), options, self.clock)
        self.routes = {(route.method, route.path): route for route in routes(streams)}

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: str = "",
        key: str = "",
        identity: Identity = Identity(is_server=True),  # noqa: B008 - frozen
        **params: str,
    ) -> tuple[int, Any]:
        headers = [(b"idempotency-key", key.encode())] if key else []
        call = Call(
            body=json.dumps(body).encode(), query=query.encode(), headers=headers, params=params,
            identity=identity, respond=lambda answer: None,
        )  # fmt: skip
        try:
            result = self.routes[method, path].handler(call)
            assert inspect.isawaitable(result)
            answer: Answer = await result
        except HeartcastError as error:
            answer = problem(error)
        return answer.status, json.loads(answer.body) if answer.body else None


@pytest.fixture
def api() -> Api:
    return Api()


async def test_what_is_published_is_read_acknowledged_and_done(api: Api) -> None:
    status, published = await api.call("POST", "/publish", {"topic": "news", "data": {"n": 1}})
    assert (status, published["topic"]) == (202, "news")
    await api.call("POST", TOPIC, {"data": [2]}, topic="news")
    page = (await api.call("GET", TOPIC, topic="news", query="group=a&count=1"))[1]
    assert page == {"items": [{"id": published["id"], "data": {"n": 1}, "deliveries": 1}]}
    groups = (await api.call("GET", f"{TOPIC}/groups", topic="news"))[1]
    assert groups == {"topic": "news", "entries": 2, "groups": [{"group": "a", "pending": 1, "lag": 1}]}
    body = {"group": "a", "ids": [published["id"]]}
    assert await api.call("POST", f"{TOPIC}/ack", body, topic="news") == (200, {"acknowledged": 1})
    assert await api.call("POST", f"{TOPIC}/ack", body, topic="news") == (200, {"acknowledged": 0})
    forget = f"{TOPIC}/groups/{{group}}"
    assert (await api.call("DELETE", forget, topic="news", group="a"))[0] == 204
    assert (await api.call("DELETE", forget, topic="news", group="a"))[1]["code"] == "no_group"


async def test_a_key_publishes_once_and_not_with_another_body(api: Api) -> None:
    body = {"topic": "news", "data": 1}
    first = await api.call("POST", "/publish", body, key="k")
    assert await api.call("POST", "/publish", body, key='"k"') == first
    assert (await api.call("POST", "/publish", body | {"data": 2}, key="k"))[0] == 422
    assert (await api.call("GET", f"{TOPIC}/groups", topic="news"))[1]["entries"] == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "query", "status", "code"),
    [
        ("POST", "/publish", {"topic": "", "data": 1}, "", 422, "invalid_id"),
        ("POST", "/publish", {"topic": "news"}, "", 422, "invalid_input"),
        ("POST", "/publish", {"topic": "news", "data": "x" * 200}, "", 413, "data_too_large"),
        ("POST", f"{TOPIC}/ack", {"group": "a", "ids": []}, "", 422, "invalid_input"),
        ("POST", f"{TOPIC}/ack", {"group": "a", "ids": ["x"]}, "", 422, "invalid_id"),
        ("GET", TOPIC, None, "", 422, "group_missing"),
        ("GET", TOPIC, None, "group=a&count=0", 422, "invalid_input"),
        ("GET", TOPIC, None, "group=a&count=1001", 422, "invalid_input"),
        ("GET", TOPIC, None, "group=a&wait=31", 422, "invalid_input"),
        ("GET", TOPIC, None, "group=a&wait=nan", 422, "invalid_input"),
        ("GET", TOPIC, None, "group=a&wait=soon", 422, "invalid_input"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    api: Api, method: str, path: str, body: Any, query: str, status: int, code: str
) -> None:
    answered, document = await api.call(method, path, body, query=query, topic="news")
    assert (answered, document["code"]) == (status, code)


async def test_users_may_not_read_or_write_streams(api: Api) -> None:
    user = Identity(user="ann")
    body = {"topic": "news", "data": 1}
    assert (await api.call("POST", "/publish", body, identity=user))[0] == 403
    assert (await api.call("GET", TOPIC, topic="news", query="group=a", identity=user))[0] == 403
