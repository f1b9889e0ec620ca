"""REST of templates: immutable versions, activation, history, previews, languages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heartcast.api.route import Identity

from .test_push_life import Api

VERSION = "/api/v1/templates/{name}/versions/{version}"
BODY = {
    "title": "Order {{ id }}",
    "schema": {
        "type": "object",
        "required": ["id"],
        "properties": {"id": {"type": "string"}, "lines": {"type": "array", "items": {"type": "integer"}}},
    },
    "locales": {"de": {"title": "Bestellung {{ id }}"}, "de-CH": {"body": "Grüezi"}},
}


@pytest.fixture
def api() -> Api:
    return Api()


def put(api: Api, name: str, version: int, body: Any = None, **more: Any) -> tuple[int, Any]:
    return api.call("PUT", VERSION, body or BODY, name=name, version=str(version), **more)


def activate(api: Api, name: str, version: int, **more: Any) -> tuple[int, Any]:
    return api.call("POST", f"{VERSION}/activate", name=name, version=str(version), **more)


def post(api: Api, template: str, **more: Any) -> tuple[int, Any]:
    return api.post(template=template, **{"payload": {"id": "o1"}} | more)


def title(api: Api, push_id: str) -> str:
    api.rig.watched.add("inbox:#ann")
    api.rig.turns.settle()
    return next(str(json.loads(data)["title"]) for _, data, _, tags in api.rig.sent if tags["id"] == push_id)


def test_a_version_is_made_looked_at_activated_and_used(api: Api) -> None:
    status, made = put(api, "order", 1)
    assert (status, made["is_active"]) == (201, False)
    assert made["template"]["schema"] == BODY["schema"]

    status, document = post(api, "order")
    assert (status, document["code"]) == (404, "unknown_template")
    assert "order@1" in document["detail"]
    assert post(api, "order@1")[0] == 202

    status, detail = activate(api, "order", 1)
    assert (status, detail["active"], [one["version"] for one in detail["history"]]) == (200, 1, [1])
    status, push = post(api, "order")
    assert status == 202
    assert title(api, push["id"]) == "Order o1"


def test_a_version_never_changes_and_the_same_again_is_no_conflict(api: Api) -> None:
    assert put(api, "order", 1)[0] == 201
    assert put(api, "order", 1)[0] == 200
    status, document = put(api, "order", 1, BODY | {"title": "other"})
    assert (status, document["code"]) == (409, "version_exists")
    assert put(api, "news_v2", 1)[0] == 409
    status, made = api.call("POST", "/api/v1/templates/{name}/versions", BODY, name="order")
    assert (status, made["version"]) == (201, 2)


def test_what_was_accepted_keeps_its_version_and_going_back_is_an_activation(api: Api) -> None:
    put(api, "order", 1)
    put(api, "order", 2, {"title": "Second {{ id }}", "fields": {"id": {"required": True}}})
    activate(api, "order", 1)
    first = post(api, "order")[1]["id"]
    activate(api, "order", 2)
    second = post(api, "order")[1]["id"]
    detail = activate(api, "order", 1)[1]
    assert [one["version"] for one in detail["history"]] == [1, 2, 1]
    assert title(api, first) == "Order o1"
    assert title(api, second) == "Second o1"
    assert api.get(post(api, "order")[1]["id"])["version"] == 1


def test_two_editors_cannot_overtake_each_other_unnoticed(api: Api) -> None:
    put(api, "order", 1)
    [answer] = api.start("GET", "/api/v1/templates/{name}", name="order")
    tag = dict(answer.headers)[b"etag"].decode()
    put(api, "order", 2)
    status, document = activate(api, "order", 1, headers={"if-match": tag})
    assert (status, document["code"]) == (412, "precondition_failed")
    [answer] = api.start("GET", "/api/v1/templates/{name}", name="order")
    tag = dict(answer.headers)[b"etag"].decode()
    assert activate(api, "order", 1, headers={"if-match": tag})[0] == 200
    [answer] = api.start("GET", "/api/v1/templates/{name}", name="order", headers={"if-none-match": tag})
    assert answer.status == 200


@pytest.mark.parametrize(
    ("payload", "pointer"),
    [({}, "/payload/id"), ({"id": 5}, "/payload/id"), ({"id": "x", "lines": [1, "2"]}, "/payload/lines/1")],
)
def test_a_payload_that_does_not_fit_is_refused_with_the_pointer_into_it(
    api: Api, payload: Any, pointer: str
) -> None:
    put(api, "order", 1)
    status, document = post(api, "order@1", payload=payload)
    assert (status, document["code"]) == (422, "payload_does_not_fit")
    assert document["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"title": "{{ id"}, "/title"),
        ({"title": "{{ id }}"}, "/title"),
        ({"title": "x", "locales": {"de": {"body": "{{ nobody }}"}}}, "/locales/de/body"),
        ({"title": "x", "locales": {"not a tag": {}}}, "/locales"),
        ({"title": "x", "schema": {"properties": {"a": {"pattern": "x"}}}}, "/schema/properties/a/pattern"),
        ({"title": "x", "schema": {}, "fields": {"a": {}}}, "/schema"),
        ({"title": "x", "schema": {"properties": 5}}, "/schema/properties"),
    ],
)
def test_what_is_no_template_is_refused_where_it_is_wrong(api: Api, body: Any, pointer: str) -> None:
    status, document = put(api, "order", 1, body)
    assert (status, document["code"]) == (422, "invalid_template")
    assert document["errors"][0]["pointer"] == pointer
    assert api.call("GET", "/api/v1/templates/{name}", name="order")[0] == 404


@pytest.mark.parametrize(("name", "version"), [("a@1", "1"), ("x" * 101, "1"), ("ok", "0"), ("ok", "x")])
def test_names_and_numbers_that_are_none_are_refused(api: Api, name: str, version: str) -> None:
    assert api.call("PUT", VERSION, {"title": "x"}, name=name, version=version)[0] == 422


def test_a_preview_shows_a_version_or_a_draft_and_sends_nothing(api: Api) -> None:
    put(api, "order", 1)

    def preview(**asked: Any) -> tuple[int, Any]:
        body = {"payload": {"id": "o1"}} | asked
        return api.call("POST", "/api/v1/templates/{name}/preview", body, name="order")

    assert preview(version=1)[1]["title"] == "Order o1"
    swiss = preview(version=1, locale="de-CH-1996")[1]
    assert (swiss["locale"], swiss["title"], swiss["body"]) == ("de-ch", "Order o1", "Grüezi")
    assert preview(version=1, locale="de-AT")[1]["title"] == "Bestellung o1"
    draft = {"title": "Draft {{ id }}", "fields": {"id": {}}}
    assert preview(draft=draft)[1] == {
        "version": None, "locale": None, "title": "Draft o1", "body": "", "url": "",
    }  # fmt: skip
    assert preview(draft=draft, version=1)[1]["code"] == "conflicting_options"
    assert preview(draft={"title": "{{ x"})[1]["errors"][0]["pointer"] == "/draft/title"
    assert preview()[0] == 404
    assert preview(version=1, payload={"id": 1})[1]["errors"][0]["pointer"] == "/payload/id"
    broken = {"title": "{{ 1 / n }}", "fields": {"n": {"type": "integer"}}}
    assert preview(draft=broken, payload={})[1]["code"] == "cannot_be_rendered"
    assert api.rig.service.ledger.accepted == 0


def test_texts_are_in_the_language_of_the_push_else_of_its_user_else_the_base(api: Api) -> None:
    put(api, "order", 1)
    activate(api, "order", 1)
    base = post(api, "order")[1]["id"]
    asked = post(api, "order", locale="de")[1]["id"]
    assert [title(api, base), title(api, asked)] == ["Order o1", "Bestellung o1"]
    api.call("PUT", "/api/v1/users/{id}/preferences", {"locale": "de-AT"}, id="ann")
    own = post(api, "order")[1]["id"]
    other = post(api, "order", locale="fr")[1]["id"]
    assert [title(api, own), title(api, other)] == ["Bestellung o1", "Order o1"]
    assert api.get(own)["locale"] == "de-AT"


def test_a_language_that_is_none_is_refused(api: Api) -> None:
    status, document = api.post(locale="deutsch bitte")
    assert (status, document["errors"][0]["pointer"]) == (422, "/locale")
    assert api.call("PUT", "/api/v1/users/{id}/preferences", {"locale": "?"}, id="ann")[0] == 422


def test_templates_are_listed_page_by_page(api: Api) -> None:
    put(api, "order", 1)
    names, cursor = [], ""
    while True:
        page = api.call("GET", "/api/v1/templates", query=f"limit=2&cursor={cursor}")[1]
        names += [(item["name"], item["active"]) for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert names == [("digest", 1), ("hearted", 1), ("message", 1), ("news_v2", 1), ("order", None)]


def test_a_repeated_key_is_answered_again_and_another_body_is_refused(api: Api) -> None:
    key = {"idempotency-key": "k1"}
    path = "/api/v1/templates/{name}/versions"
    first = api.call("POST", path, BODY, name="order", headers=key)
    assert api.call("POST", path, BODY, name="order", headers=key) == first
    assert api.call("POST", path, BODY | {"title": "x"}, name="order", headers=key)[0] == 422
    assert api.rig.service.templates.numbers("order") == [1]


def test_who_may_push_may_look_and_only_servers_may_change(api: Api) -> None:
    sender, user = Identity(scopes=frozenset(["push:write"])), Identity(user="ann")
    assert api.call("GET", "/api/v1/templates", identity=sender)[0] == 200
    assert api.call("GET", "/api/v1/templates", identity=user)[0] == 403
    assert put(api, "order", 1, identity=sender)[0] == 403
    put(api, "order", 1)
    assert activate(api, "order", 1, identity=sender)[0] == 403
