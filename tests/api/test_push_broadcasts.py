"""REST of topics and broadcasts."""

from __future__ import annotations

from typing import Any

import pytest

from heartcast.api.route import Identity
from heartcast.core.errors import StoreUnavailable

from .test_push_life import Api, SlowJournal

TOPIC = "/api/v1/topics/{topic}"
ONE = "/api/v1/broadcasts/{id}"


@pytest.fixture
def api() -> Api:
    return Api()


def subscribe(api: Api, *users: Any, topic: str = "news") -> tuple[int, Any]:
    return api.call("POST", f"{TOPIC}/subscribers", {"add": list(users)}, topic=topic)


def broadcast(api: Api, headers: dict[str, str] | None = None, **more: Any) -> tuple[int, Any]:
    body = {"topic": "news", "template": "news_v2", "payload": {"title": "x"}} | more
    body = {name: value for name, value in body.items() if value is not None}
    return api.call("POST", "/api/v1/broadcasts", body, headers=headers)


def test_one_user_subscribes_and_unsubscribes(api: Api) -> None:
    path = f"{TOPIC}/subscribers/{{user}}"
    assert api.call("PUT", path, topic="news", user="ann")[0] == 201
    assert api.call("PUT", path, topic="news", user="ann") == (200, {"topic": "news", "user_id": "ann"})
    assert api.call("GET", TOPIC, topic="news")[1]["subscribers"] == 1
    assert api.call("DELETE", path, topic="news", user="ann")[0] == 204
    assert api.call("DELETE", path, topic="news", user="ann")[0] == 204
    assert api.call("GET", TOPIC, topic="news")[1]["subscribers"] == 0


def test_many_are_changed_at_once_and_listed_page_by_page(api: Api) -> None:
    assert subscribe(api, *range(10, 35))[1] == {
        "topic": "news", "subscribers": 25, "added": 25, "removed": 0,
    }  # fmt: skip
    body = {"add": ["ann", 11], "remove": [12, 99]}
    changed = api.call("POST", f"{TOPIC}/subscribers", body, topic="news")[1]
    assert changed == {"topic": "news", "subscribers": 25, "added": 1, "removed": 1}
    users, cursor = [], ""
    while True:
        query = f"limit=10&cursor={cursor}"
        page = api.call("GET", f"{TOPIC}/subscribers", topic="news", query=query)[1]
        users += page["items"]
        if (cursor := page["next_cursor"]) is None:
            break
    assert users == [*(str(n) for n in range(10, 35) if n != 12), "ann"]
    subscribe(api, "ann", topic="sport")
    assert [one["topic"] for one in api.call("GET", "/api/v1/topics")[1]["items"]] == ["news", "sport"]
    assert api.call("GET", "/api/v1/users/{id}/export", id="ann")[1]["topics"] == ["news", "sport"]
    api.call("DELETE", "/api/v1/users/{id}/pushes", id="ann")
    assert api.call("GET", "/api/v1/users/{id}/export", id="ann")[1]["topics"] == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"add": [""]}, "/add/0"),
        ({"add": ["ok"], "remove": ["a\u0007"]}, "/remove/0"),
        ({"add": ["a"], "remove": ["a"]}, "/remove"),
        ({"add": list(range(1001))}, ""),
        ({"add": [1.5]}, "/add/0"),
    ],
)
def test_a_change_that_is_wrong_anywhere_changes_nothing(api: Api, body: Any, pointer: str) -> None:
    status, document = api.call("POST", f"{TOPIC}/subscribers", body, topic="news")
    assert (status, document["errors"][0]["pointer"]) == (422, pointer)
    assert api.call("GET", TOPIC, topic="news")[1]["subscribers"] == 0


def test_a_broadcast_says_how_far_it_got(api: Api) -> None:
    subscribe(api, "ann", "bob", "eve")
    api.call("PUT", "/api/v1/users/{id}/preferences", {"categories": {"ads": False}}, id="eve")
    api.rig.connect("ann")
    status, made = broadcast(api, category="ads")
    assert (status, made["status"], made["left"]) == (202, "running", 3)
    api.rig.turns.advance(1)
    [(_, _, _, tags)] = api.rig.sent
    api.rig.service.delivery.acknowledge("ann", [tags["id"]], api.rig.clock.wall_ms())
    state = api.call("GET", ONE, id=made["id"])[1]
    assert (state["status"], state["left"], state["version"]) == ("done", 0, 1)
    assert state["figures"] == {
        "accepted": 3, "waiting": 1, "delivered": 1, "suppressed": 1,
        "expired": 0, "cancelled": 0, "failed": 0, "dead": 0,
    }  # fmt: skip
    assert api.call("GET", "/api/v1/broadcasts")[1]["items"] == [state]


def test_it_is_paused_resumed_and_cancelled(api: Api) -> None:
    subscribe(api, *range(20))
    made = broadcast(api, rate=5)[1]
    assert api.call("POST", f"{ONE}/pause", id=made["id"])[1]["status"] == "paused"
    assert api.call("POST", f"{ONE}/resume", id=made["id"])[1]["status"] == "running"
    assert api.call("POST", f"{ONE}/cancel", id=made["id"])[1]["status"] == "cancelled"
    status, document = api.call("POST", f"{ONE}/resume", id=made["id"])
    assert (status, document["code"]) == (409, "broadcast_ended")
    assert api.call("POST", f"{ONE}/pause", id="nope")[1]["code"] == "no_broadcast"


@pytest.mark.parametrize(
    ("more", "code", "pointer"),
    [
        ({"all": True}, "conflicting_options", "/topic"),
        ({"topic": None}, "conflicting_options", "/topic"),
        ({"topic": ""}, "invalid_id", "/topic"),
        ({"rate": 0}, "invalid_input", "/rate"),
        ({"rate": 1e9}, "invalid_input", "/rate"),
        ({"payload": {}}, "payload_does_not_fit", "/payload/title"),
        ({"send_at": "2020-01-01T00:00:00Z"}, "send_at_in_past", "/send_at"),
        ({"zone": "Europe/Berlin"}, "conflicting_options", "/zone"),
        ({"ttl": 0}, "invalid_input", "/ttl"),
        ({"locale": "?"}, "invalid_locale", "/locale"),
        ({"audience": 5}, "invalid_input", "/audience"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_begun(
    api: Api, more: dict[str, Any], code: str, pointer: str
) -> None:
    status, document = broadcast(api, **more)
    assert (status, document["code"]) == (422, code)
    assert document["errors"][0]["pointer"] == pointer
    assert api.call("GET", "/api/v1/broadcasts")[1]["items"] == []


def test_a_repeated_key_begins_nothing_twice(api: Api) -> None:
    subscribe(api, "ann")
    key = {"idempotency-key": "k"}
    first = broadcast(api, key)
    assert broadcast(api, key) == first
    assert broadcast(api, key, rate=5)[0] == 422
    api.rig.turns.advance(1)
    assert api.rig.service.ledger.accepted == 1


def test_what_could_not_be_written_did_not_happen() -> None:
    journal = SlowJournal()
    api = Api(journal=journal)
    answers = api.start("POST", f"{TOPIC}/subscribers", {"add": ["ann"]}, topic="news")
    assert answers == []
    journal.answer(StoreUnavailable("disk full"))
    assert [answer.status for answer in answers] == [503]
    assert api.call("GET", TOPIC, topic="news")[1]["subscribers"] == 0
    body = {"all": True, "template": "news_v2", "payload": {"title": "x"}}
    answers = api.start("POST", "/api/v1/broadcasts", body)
    journal.answer(StoreUnavailable("disk full"))
    assert [answer.status for answer in answers] == [503]
    assert api.call("GET", "/api/v1/broadcasts")[1]["items"] == []


def test_only_who_may_push_may_do_any_of_this(api: Api) -> None:
    user = Identity(user="ann")
    assert api.call("GET", TOPIC, topic="news", identity=user)[0] == 403
    assert api.call("PUT", f"{TOPIC}/subscribers/{{user}}", topic="news", user="ann", identity=user)[0] == 403
    assert api.call("POST", "/api/v1/broadcasts", {}, identity=user)[0] == 403
    assert api.call("GET", "/api/v1/broadcasts", identity=user)[0] == 403


def test_probes_of_long_standing_find_health_under_its_old_name(api: Api) -> None:
    assert api.call("GET", "/health") == api.call("GET", "/healthz")
