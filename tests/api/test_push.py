"""REST of pushes: what goes in, what comes out, and every way of being refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from heartcast.api.problems import problem
from heartcast.api.push import MAX_BATCH, PushAccepted, routes
from heartcast.api.route import ANONYMOUS, Answer, Call, Identity
from heartcast.core.errors import HeartcastError
from heartcast.testing.pushes import PushRig

SERVER = Identity(is_server=True)


class Api:
    """The routes, called as the gateway calls them."""

    def __init__(self, **options: Any) -> None:
        self.rig = PushRig(**options)
        self.routes = {(route.method, route.path): route for route in routes(self.rig.service)}

    def call(
        self, method: str, path: str, body: Any = b"", identity: Identity = SERVER, **params: str
    ) -> Answer:
        answers: list[Answer] = []
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        call = Call(body=raw, params=params, identity=identity, respond=answers.append)
        try:
            answer = self.routes[method, path].handler(call)
        except HeartcastError as error:
            return problem(error)
        if isinstance(answer, Answer):
            answers.append(answer)
        # In memory everything is answered before the handler returns, and once.
        [answer] = answers
        return answer

    def post(self, body: Any, path: str = "/push", identity: Identity = SERVER) -> tuple[int, Any]:
        answer = self.call("POST", path, body, identity)
        return answer.status, json.loads(answer.body)

    def get(self, push_id: str, identity: Identity = SERVER) -> tuple[int, Any]:
        answer = self.call("GET", "/api/v1/pushes/{id}", identity=identity, id=push_id)
        return answer.status, json.loads(answer.body)


@pytest.fixture
def api() -> Api:
    return Api()


def body(user_id: int | str = 12345, **more: Any) -> dict[str, Any]:
    return {"user_id": user_id, "template": "news_v2", "payload": {"title": "Go 1.23 released"}} | more


def test_the_curl_line_of_the_mission_is_accepted_as_it_stands(api: Api) -> None:
    status, push = api.post(b'{"user_id":12345,"template":"news_v2","payload":{"title":"Go 1.23 released"}}')
    assert status == 202
    assert push == {
        "id": push["id"],
        "user_id": 12345,
        "template": "news_v2",
        "status": "queued",
        "shard": 12345 % 64,
        "timestamp": "2023-11-14T22:13:20.000Z",
    }


@pytest.mark.parametrize("user_id", [0, 2**63 - 1, "u456", "12345", 'quo"te\\', "ünï ☃"])
@pytest.mark.parametrize("path", ["/push", "/api/v1/pushes"])
@pytest.mark.parametrize("template", ["news_v2", "news_v2@1"])
def test_the_answer_repeats_the_user_in_its_type_and_is_what_the_struct_would_encode(
    api: Api, user_id: int | str, path: str, template: str
) -> None:
    answer = api.call("POST", path, body(user_id, template=template))
    accepted = msgspec.json.decode(answer.body, type=PushAccepted)
    assert (accepted.user_id, accepted.template) == (user_id, template)
    assert msgspec.json.encode(accepted) == answer.body
    assert api.get(accepted.id)[1]["user_id"] == user_id


@pytest.mark.parametrize(
    ("raw", "status", "code", "pointer"),
    [
        (b"", 400, "malformed_body", ""),
        (b"{", 400, "malformed_body", ""),
        (b'{"user_id":1,"template":"news_v2","payload":{"title":"\xff"}}', 400, "malformed_body", ""),
        (b'{"user_id":1,"template":"news_v2","payload":{"title":"\\ud800"}}', 400, "malformed_body", ""),
        (
            b'{"user_id":1,"template":"n","payload":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}",
            400,
            "malformed_body",
            "",
        ),
        (b"[]", 422, "invalid_input", ""),
        (b'{"user_id":1,"template":"news_v2"}', 422, "invalid_input", "/payload"),
        (b'{"user_id":1.5,"template":"news_v2","payload":{}}', 422, "invalid_input", "/user_id"),
        (b'{"user_id":true,"template":"news_v2","payload":{}}', 422, "invalid_input", "/user_id"),
        (b'{"user_id":null,"template":"news_v2","payload":{}}', 422, "invalid_input", "/user_id"),
        (
            b'{"user_id":99999999999999999999,"template":"news_v2","payload":{"title":"x"}}',
            422,
            None,
            "/user_id",
        ),
        (b'{"user_id":-5,"template":"news_v2","payload":{"title":"x"}}', 422, "invalid_id", "/user_id"),
        (b'{"user_id":"","template":"news_v2","payload":{"title":"x"}}', 422, "invalid_id", "/user_id"),
        (b'{"user_id":1,"template":7,"payload":{}}', 422, "invalid_input", "/template"),
        (b'{"user_id":1,"template":"news_v2","payload":[]}', 422, "invalid_input", "/payload"),
        (
            b'{"user_id":1,"template":"news_v2","payload":{"title":[]}}',
            422,
            "payload_does_not_fit",
            "/payload/title",
        ),
        (
            b'{"user_id":1,"template":"news_v2","payload":{"title":"x"},"colour":5}',
            422,
            "invalid_input",
            "/colour",
        ),
        (b'{"user_id":1,"template":"nope","payload":{}}', 404, "unknown_template", None),
        (
            b'{"user_id":1,"template":"news_v2","payload":{"title":"x","y":"' + b"z" * 20_000 + b'"}}',
            413,
            "payload_too_large",
            "/payload",
        ),
    ],
)
def test_a_bad_body_gets_a_problem_that_points_at_the_field(
    api: Api, raw: bytes, status: int, code: str | None, pointer: str | None
) -> None:
    answered, document = api.post(raw)
    assert answered == status
    if code is not None:
        assert document["code"] == code
    if pointer is not None:
        assert [error["pointer"] for error in document["errors"]] == [pointer]
    assert api.rig.service.ledger.accepted == 0


def test_a_full_shard_answers_503_with_retry_after() -> None:
    api = Api(max_queued_per_shard=1)
    assert api.post(body())[0] == 202
    answer = api.call("POST", "/push", body())
    assert answer.status == 503
    assert json.loads(answer.body)["code"] == "shard_full"
    assert (b"retry-after", b"1") in answer.headers


def test_only_servers_push(api: Api) -> None:
    for identity in (ANONYMOUS, Identity(user="12345")):
        assert api.post(body(), identity=identity)[0] == 403
        assert api.post({"items": [body()]}, "/api/v1/pushes/batch", identity)[0] == 403


def test_a_batch_answers_each_item_alone_and_in_order(api: Api) -> None:
    items = [
        body("ann"),
        body("bob", extra=1),
        {"user_id": "cid", "template": "nope", "payload": {}},
        {"user_id": "dan", "template": "news_v2", "payload": {"title": 3}},
        "no object",
        body(7),
    ]
    status, answer = api.post({"items": items}, "/api/v1/pushes/batch")
    results = answer["results"]

    assert status == 200
    assert [result["status"] for result in results] == [202, 422, 404, 422, 422, 202]
    assert [results[0]["push"]["user_id"], results[5]["push"]["user_id"]] == ["ann", 7]
    assert results[3]["problem"]["errors"][0]["pointer"] == "/items/3/payload/title"
    assert results[4]["problem"]["errors"][0]["pointer"] == "/items/4"
    assert results[2]["problem"]["code"] == "unknown_template"
    assert api.rig.service.ledger.accepted == 2


def test_a_batch_of_plain_pushes_is_answered_as_any_batch_is() -> None:
    odd = {"user_id": 'zoë"\\', "template": "news_v2", "payload": {"title": "a"}}
    items = [
        body("ann"), odd, body(7), body(""), body("x", template="nope"), body("dan", payload={"title": 3}),
        body(template="news_v2@1"),
    ]  # fmt: skip
    # One that asks for something makes all of them go the long way.
    special = body("eve", category="news")
    plain, any_ = Api(), Api()
    raw = [
        one.call("POST", "/api/v1/pushes/batch", {"items": batch}).body
        for one, batch in ((plain, items), (any_, [*items, special]))
    ]
    last = b"," + msgspec.json.encode(json.loads(raw[1])["results"][-1])
    assert raw[1] == raw[0][: -len(b"]}")] + last + b"]}"
    assert plain.rig.service.ledger.accepted == any_.rig.service.ledger.accepted - 1 == 4


def test_a_batch_has_one_to_a_thousand_items(api: Api) -> None:
    assert api.post({"items": []}, "/api/v1/pushes/batch")[0] == 422
    assert api.post({"items": [body()] * (MAX_BATCH + 1)}, "/api/v1/pushes/batch")[0] == 422
    assert api.rig.service.ledger.accepted == 0
    status, answer = api.post({"items": [body(n) for n in range(MAX_BATCH)]}, "/api/v1/pushes/batch")
    assert status == 200
    assert {result["status"] for result in answer["results"]} == {202}


def test_a_push_can_be_followed_to_its_end(api: Api) -> None:
    push_id = api.post(body("ann"))[1]["id"]
    assert api.get(push_id)[1]["status"] == "queued"

    api.rig.connect("ann")
    api.rig.turns.advance(1.0)
    status, push = api.get(push_id)
    assert status == 200
    assert (push["status"], push["reason"], push["attempts"], push["version"]) == ("sent", None, 1, 1)
    assert push["attempted_at"] == "2023-11-14T22:13:20.000Z"

    api.rig.service.on_send("ann", json.dumps({"ack": [push_id]}).encode())
    push = api.get(push_id)[1]
    assert (push["status"], push["timestamp"], push["changed_at"]) == (
        "delivered",
        "2023-11-14T22:13:20.000Z",
        "2023-11-14T22:13:21.000Z",
    )


def test_the_reason_of_an_end_is_told() -> None:
    api = Api(max_inbox=1)
    push_id = api.post(body("ann"))[1]["id"]
    api.post(body("ann"))
    api.rig.turns.settle()
    assert api.get(push_id)[1]["status"] == "expired"
    assert api.get(push_id)[1]["reason"] == "inbox_full"


def test_a_push_is_shown_to_servers_and_its_own_user_only(api: Api) -> None:
    push_id = api.post(body("ann"))[1]["id"]
    assert api.get(push_id, Identity(user="ann"))[0] == 200
    assert api.get(push_id, Identity(user="bob"))[0] == 403
    assert api.get(push_id, ANONYMOUS)[0] == 403
    status, document = api.get("01HF0000000000000000000000")
    assert (status, document["code"]) == (404, "push_forgotten")


def test_health_shows_every_shard_and_turns_503_when_one_stands_still(api: Api) -> None:
    api.rig.inbox.is_slow = True
    api.post(body(5))
    answer = api.call("GET", "/healthz", identity=ANONYMOUS)
    shards = json.loads(answer.body)["shards"]
    assert answer.status == 200
    assert [shard["id"] for shard in shards] == list(range(64))
    assert shards[5] == {
        "id": 5,
        "pending": 1,
        "active": 0,
        "error_rate": 0.0,
        "batch_size": 1,
        "oldest_ms": 0,
        "last_progress_ms": 0,
    }

    api.rig.turns.advance(31.0)
    answer = api.call("GET", "/healthz")
    assert answer.status == 503
    assert json.loads(answer.body)["status"] == "stalled"
    api.rig.inbox.answer()
    assert api.call("GET", "/healthz").status == 200
