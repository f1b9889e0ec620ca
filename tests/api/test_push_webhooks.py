"""REST of webhooks, and which ways out a push may ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heartcast.api.route import ANONYMOUS
from heartcast.core.errors import StoreUnavailable
from heartcast.push.journal import Change, Note
from heartcast.push.journal.memory import MemoryJournal
from heartcast.push.routes.options import Webhook, WebhookOptions
from heartcast.testing.providers import storm

from .test_push_life import Api, SlowJournal

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
ONE = "/api/v1/webhooks/{name}"


@pytest.fixture
def api() -> Api:
    return Api()


def put(api: Api, name: str = "crm", **more: Any) -> tuple[int, Any]:
    return api.call("PUT", ONE, {"url": "https://crm.example/hook"} | more, name=name)


def test_an_endpoint_is_made_seen_replaced_and_taken_away(api: Api) -> None:
    status, made = put(api)
    assert status == 201
    assert made["secret"].startswith("whsec_")
    status, seen = api.call("GET", ONE, name="crm")
    assert (status, seen) == (200, {name: value for name, value in made.items() if name != "secret"})
    assert seen["secrets"] == 1

    status, replaced = put(api, categories=["news"], user_id=5)
    assert (status, replaced["categories"], replaced["user_id"]) == (200, ["news"], 5)
    assert "secret" not in replaced
    status, rotating = put(api, secrets=[OTHER, SECRET])
    assert (status, rotating["secrets"]) == (200, 2)
    assert [item["name"] for item in api.call("GET", "/api/v1/webhooks")[1]["items"]] == ["crm"]

    assert api.call("DELETE", ONE, name="crm") == (204, None)
    assert api.call("GET", ONE, name="crm")[1]["code"] == "unknown_webhook"
    assert api.call("DELETE", ONE, name="crm")[0] == 404


class NotedJournal(MemoryJournal):
    """Remembers the notes that were written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[Note] = []

    def write(self, change: Change, done: Any) -> None:
        self.written += change.notes
        super().write(change, done)


def test_what_is_remembered_of_a_repeated_request_holds_no_secret() -> None:
    api = Api(journal=(journal := NotedJournal()))
    arguments = ("PUT", ONE, {"url": "https://crm.example/hook"})
    keyed = {"headers": {"idempotency-key": "k"}, "name": "crm"}

    first, again = api.call(*arguments, **keyed), api.call(*arguments, **keyed)

    assert first[1]["secret"].startswith("whsec_")
    assert again == (201, {name: value for name, value in first[1].items() if name != "secret"})
    remembered = [note.value or b"" for note in journal.written if not note.key.startswith("w:")]
    assert len(remembered) == 1
    assert b"whsec_" not in remembered[0]


def test_a_push_goes_there_and_its_trace_says_so(api: Api) -> None:
    put(api)
    push_id = api.post(routes=["webhook"])[1]["id"]
    api.rig.turns.advance(0.1)
    state = api.get(push_id)
    assert (state["status"], state["attempts"]) == ("delivered", 1)
    assert [step["step"] for step in state["trace"]][-3:] == ["digest", "webhook", "end"]
    health = api.call("GET", "/healthz")[1]
    assert [(route["name"], route["circuit"]) for route in health["routes"]] == [
        ("realtime", ""),
        ("webhook:crm", "closed"),
    ]


def test_a_dead_letter_that_is_retried_takes_the_same_ways(api: Api) -> None:
    push_id = api.post(routes=["webhook:crm"], fallback={"routes": ["webhook"]})[1]["id"]
    put(api)
    api.rig.service.webhooks.put("crm", api.rig.service.webhooks.get("crm")._replace(keys=()))
    api.rig.receiver.behave = storm(100, status=400)
    api.rig.turns.advance(0.2)
    assert api.get(push_id)["status"] == "dead"
    put(api)
    api.rig.receiver.behave = storm(0)
    status, again = api.call("POST", "/api/v1/dead-letters/{id}/retry", id=push_id)
    assert status == 202
    api.rig.turns.advance(0.2)
    assert api.get(again["id"])["status"] == "delivered"


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"url": "http://crm.example/"}, "/url", "webhook_url"),
        ({"url": "https://10.0.0.1/"}, "/url", "webhook_private_address"),
        ({"secrets": []}, "/secrets", "webhook_secret"),
        ({"secrets": [SECRET] * 5}, "/secrets", "webhook_secret"),
        ({"secrets": [SECRET, "hunter2"]}, "/secrets/1", "webhook_secret"),
        ({"categories": [""]}, "/categories/0", "invalid_id"),
        ({"user_id": -1}, "/user_id", "invalid_id"),
        ({"colour": "red"}, "/colour", "invalid_input"),
    ],
)
def test_a_bad_endpoint_is_refused_with_a_pointer(
    api: Api, body: dict[str, Any], pointer: str, code: str
) -> None:
    status, problem = put(api, **body)
    assert (status, problem["code"], problem["errors"][0]["pointer"]) == (422, code, pointer)
    assert "hunter2" not in json.dumps(problem)
    assert api.call("GET", "/api/v1/webhooks")[1]["items"] == []


@pytest.mark.parametrize("name", ["a:b", "a/b", "\x00"])
def test_a_bad_name_is_refused(api: Api, name: str) -> None:
    assert put(api, name)[1]["code"] == "invalid_id"


def test_what_the_settings_have_cannot_be_changed_here() -> None:
    fixed = WebhookOptions(endpoints={"crm": Webhook(url="https://crm.example/", secrets=[SECRET])})
    api = Api(webhooks=fixed)
    assert put(api)[1]["code"] == "webhook_fixed"
    assert api.call("DELETE", ONE, name="crm")[0] == 409
    assert api.call("GET", ONE, name="crm")[1]["is_fixed"]


def test_there_is_a_bound_on_endpoints() -> None:
    api = Api(webhooks=WebhookOptions(max_endpoints=1))
    assert put(api, "a")[0] == 201
    assert put(api, "b")[1]["code"] == "webhooks_full"
    assert put(api, "a")[0] == 200


def test_an_endpoint_that_could_not_be_written_is_not_there() -> None:
    journal = SlowJournal()
    api = Api(journal=journal)
    answers = api.start("PUT", ONE, {"url": "https://crm.example/"}, name="crm")
    assert answers == []
    journal.answer(StoreUnavailable("disk full"))
    assert answers[0].status == 503
    assert api.call("GET", ONE, name="crm")[0] == 404


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/v1/webhooks"), ("GET", ONE), ("PUT", ONE), ("DELETE", ONE)]
)
def test_only_servers_see_and_change_them(api: Api, method: str, path: str) -> None:
    assert api.call(method, path, {"url": "https://crm.example/"}, identity=ANONYMOUS, name="crm")[0] == 403


@pytest.mark.parametrize(
    ("asked", "pointer", "code"),
    [
        ({"routes": []}, "/routes", "invalid_input"),
        ({"routes": ["pigeon"]}, "/routes/0", "unknown_route"),
        ({"routes": ["realtime", "webhook:"]}, "/routes/1", "unknown_route"),
        ({"routes": ["realtime:x"]}, "/routes/0", "unknown_route"),
        ({"routes": ["webhook", "webhook"]}, "/routes", "invalid_input"),
        ({"routes": [f"webhook:{n}" for n in range(5)]}, "/routes", "invalid_input"),
        ({"fallback": {"routes": []}}, "/fallback/routes", "invalid_input"),
        ({"fallback": {"routes": ["realtime"]}}, "/fallback/routes/0", "conflicting_options"),
        (
            {"routes": ["webhook"], "fallback": {"routes": ["webhook"]}},
            "/fallback/routes/0",
            "conflicting_options",
        ),
        ({"fallback": {"routes": ["webhook"], "after_s": 0}}, "/fallback/after_s", "invalid_input"),
        ({"fallback": {"routes": ["webhook"], "after_s": 1e9}}, "/fallback/after_s", "invalid_input"),
        ({"fallback": {}}, "/fallback/routes", "invalid_input"),
    ],
)
def test_ways_that_do_not_exist_or_contradict_each_other_are_refused(
    api: Api, asked: dict[str, Any], pointer: str, code: str
) -> None:
    status, problem = api.post(**asked)
    assert (status, problem["code"], problem["errors"][0]["pointer"]) == (422, code, pointer)


def test_realtime_alone_is_a_plain_push(api: Api) -> None:
    api.post(routes=["realtime"])
    [push] = api.rig.service.ledger.live.values()
    assert push.extra is None
