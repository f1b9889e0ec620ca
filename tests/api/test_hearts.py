"""The heart endpoints, called as the gateway calls them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from heartcast.api.hearts import routes
from heartcast.api.openapi import document
from heartcast.api.route import Identity
from heartcast.core.bus import Bus
from heartcast.core.clock import SystemClock
from heartcast.core.errors import StoreUnavailable
from heartcast.core.ids import IdSource, is_id
from heartcast.hearts.service import HeartService
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.hearts.store.sqlite import SqliteHeartStore
from heartcast.testing import ManualClock
from heartcast.testing.calls import Caller

SERVER = Identity(is_server=True)
HEART = {"target_id": "post_123", "user_id": "u456"}


class Api(Caller):
    """Sends calls to the table of routes and answers problems as the port does."""

    def __init__(self, store: HeartStore, identity: Identity = SERVER) -> None:
        self.store = store
        self.clock = ManualClock()
        service = HeartService(store, self.clock, Bus(lambda _: None), kinds=("heart", "clap"))
        super().__init__(routes(service), identity)

    def as_(self, identity: Identity) -> "Api":
        return Api(self.store, identity)


@pytest.fixture(params=["memory", "sqlite"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Api]:
    store: HeartStore
    if request.param == "memory":
        store = MemoryHeartStore(IdSource(SystemClock()))
    else:
        store = SqliteHeartStore(tmp_path / "hearts.db", clock=SystemClock())
    yield Api(store)
    await store.close()


async def test_the_first_add_is_201_and_the_next_200_with_the_same_heart(api: Api) -> None:
    first = await api.answer("POST", "/api/v1/hearts", body=HEART)
    api.clock.advance(60)
    again = await api.answer("POST", "/api/v1/hearts", body=HEART)

    assert (first.status, again.status) == (201, 200)
    assert first.body == again.body
    heart = json.loads(first.body)
    assert list(heart) == ["id", "target_id", "user_id", "count", "timestamp"]
    assert is_id(heart.pop("id"))
    assert heart == {**HEART, "count": 1, "timestamp": "2023-11-14T22:13:20.000Z"}
    assert dict(first.headers)[b"location"] == b"/api/v1/hearts/" + json.loads(first.body)["id"].encode()


async def test_a_number_and_its_text_are_one_user_echoed_as_sent(api: Api) -> None:
    status, number = await api.json("POST", "/api/v1/hearts", body={**HEART, "user_id": 12345})
    again, text = await api.json("POST", "/api/v1/hearts", body={**HEART, "user_id": "12345"})

    assert (status, again) == (201, 200)
    assert (number["user_id"], text["user_id"]) == (12345, "12345")
    assert number["id"] == text["id"]


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        (b"{", 400, "malformed_body", ""),
        (b'{"target_id":"a","user_id":"\xff"}', 400, "malformed_body", ""),
        ([], 422, "invalid_input", ""),
        ({"target_id": "a"}, 422, "invalid_input", "/user_id"),
        ({**HEART, "extra": 1}, 422, "invalid_input", "/extra"),
        ({**HEART, "target_id": 5}, 422, "invalid_input", "/target_id"),
        ({**HEART, "user_id": 1.5}, 422, "invalid_input", "/user_id"),
        ({**HEART, "user_id": True}, 422, "invalid_input", "/user_id"),
        ({**HEART, "user_id": -1}, 422, "invalid_id", "/user_id"),
        ({**HEART, "user_id": 1 << 70}, 422, "invalid_id", "/user_id"),
        ({**HEART, "user_id": ""}, 422, "invalid_id", "/user_id"),
        ({**HEART, "user_id": "u" * 201}, 422, "invalid_id", "/user_id"),
        ({**HEART, "target_id": "a\nb"}, 422, "invalid_id", "/target_id"),
        ({**HEART, "target_id": "\ud800"}, 422, "invalid_id", "/target_id"),
        ({**HEART, "kind": "shrug"}, 422, "unknown_kind", "/kind"),
    ],
)
async def test_bad_hearts_are_refused_with_code_and_pointer(
    api: Api, body: Any, status: int, code: str, pointer: str
) -> None:
    answered, found = await api.json("POST", "/api/v1/hearts", body=body)

    assert (answered, found["code"]) in ((status, code), (400, "malformed_body"))
    if answered == status == 422:
        assert found["errors"][0]["pointer"] == pointer


async def test_a_user_acts_for_itself_only(api: Api) -> None:
    mine = api.as_(Identity(user="u456"))
    _, heart = await mine.json("POST", "/api/v1/hearts", body=HEART)
    other = api.as_(Identity(user="u1"))
    of_u456 = {"user_id": "u456"}
    path = f"/api/v1/hearts/{heart['id']}"

    assert (await mine.json("GET", path))[0] == 200
    assert (await other.json("GET", path))[0] == 403
    assert (await other.json("DELETE", path))[0] == 403
    assert (await other.json("POST", "/api/v1/hearts", body=HEART))[0] == 403
    assert (await other.json("DELETE", "/api/v1/hearts", query=HEART))[0] == 403
    assert (await other.json("GET", "/api/v1/hearts", query=of_u456))[0] == 403
    assert (await other.json("GET", "/api/v1/hearts/counts", query=HEART))[0] == 403
    assert (await mine.json("GET", "/api/v1/hearts", query={"target_id": "post_123"}))[0] == 403
    assert (await mine.json("GET", "/api/v1/hearts", query=of_u456))[1]["items"][0]["id"] == heart["id"]


async def test_removing_answers_the_same_keys_and_repeating_it_a_null_id(api: Api) -> None:
    _, added = await api.json("POST", "/api/v1/hearts", body=HEART)

    removed = await api.json("DELETE", "/api/v1/hearts", query=HEART)
    again = await api.json("DELETE", "/api/v1/hearts", query=HEART)

    assert removed == (200, {**added, "count": 0})
    assert again == (200, {**added, "count": 0, "id": None, "timestamp": None})


async def test_a_heart_is_read_and_removed_by_its_id(api: Api) -> None:
    _, added = await api.json("POST", "/api/v1/hearts", body={**HEART, "kind": "clap"})
    path = f"/api/v1/hearts/{added['id']}"

    status, read = await api.json("GET", path)
    assert (status, read["kind"], read["timestamp"]) == (200, "clap", added["timestamp"])
    assert await api.json("DELETE", path) == (200, {**added, "count": 0})
    assert (await api.json("DELETE", path))[1]["code"] == "heart_unknown"
    assert (await api.json("GET", "/api/v1/hearts/nonsense"))[0] == 404


async def test_counts_come_by_get_and_post_with_what_the_user_hearts(api: Api) -> None:
    await api.json("POST", "/api/v1/hearts", body=HEART)
    query = [("target_id", "post_123"), ("target_id", "nobody")]

    status, plain = await api.json("GET", "/api/v1/hearts/counts", query=query)
    _, hearted = await api.json(
        "POST",
        "/api/v1/hearts/counts",
        body={"target_ids": ["nobody", "post_123"], "user_id": "u456"},
    )

    nobody = {"target_id": "nobody", "count": 0, "version": 0}
    known = {"target_id": "post_123", "count": 1, "version": 1}
    assert (status, plain) == (200, {"counts": [known, nobody], "as_of": "2023-11-14T22:13:20.000Z"})
    assert hearted["counts"] == [{**nobody, "hearted": False}, {**known, "hearted": True}]


async def test_counts_are_bounded(api: Api) -> None:
    many = [("target_id", f"t{number}") for number in range(101)]

    assert (await api.json("GET", "/api/v1/hearts/counts", query=many[:100]))[0] == 200
    assert (await api.json("GET", "/api/v1/hearts/counts", query=many))[0] == 422
    assert (await api.json("GET", "/api/v1/hearts/counts"))[0] == 422
    for size, status in ((1000, 200), (1001, 422), (0, 422)):
        body = {"target_ids": [f"t{number}" for number in range(size)]}
        assert (await api.json("POST", "/api/v1/hearts/counts", body=body))[0] == status


async def test_a_batch_answers_each_item_in_order(api: Api) -> None:
    add = {"op": "add", **HEART}
    items = [
        add,
        add,
        {**add, "op": "remove"},
        {**add, "op": "remove"},
        {**add, "target_id": ""},
        {**add, "kind": "shrug"},
        {**add, "user_id": 7},
    ]

    status, found = await api.json("POST", "/api/v1/hearts/batch", body={"items": items})

    results = found["results"]
    assert status == 200
    assert [result["status"] for result in results] == [201, 200, 200, 200, 422, 422, 201]
    assert [result["heart"]["count"] for result in results if "heart" in result] == [1, 1, 0, 0, 1]
    assert results[0]["heart"]["id"] == results[1]["heart"]["id"] == results[2]["heart"]["id"]
    assert results[3]["heart"]["id"] is None
    assert results[4]["problem"]["errors"][0]["pointer"] == "/items/4/target_id"
    assert results[6]["heart"]["user_id"] == 7
    assert all(len(result["heart"]) == 5 for result in results if "heart" in result)


async def test_a_batch_of_bad_items_only_is_answered(api: Api) -> None:
    items = [{"op": "add", "target_id": "", "user_id": "u"}]
    status, found = await api.json("POST", "/api/v1/hearts/batch", body={"items": items})

    assert (status, found["results"][0]["status"]) == (200, 422)


async def test_a_batch_is_bounded_and_its_shape_checked_before_anything_is_written(api: Api) -> None:
    item = {"op": "add", **HEART}
    for items, status in (
        ([item] * 501, 413),
        ([], 422),
        ([item, {**item, "op": "toggle"}], 422),
        ([item, {"op": "add"}], 422),
    ):
        assert (await api.json("POST", "/api/v1/hearts/batch", body={"items": items}))[0] == status
    query = {"target_id": "post_123"}
    assert (await api.json("GET", "/api/v1/hearts/counts", query=query))[1]["counts"][0]["count"] == 0


async def test_lists_go_page_by_page_by_cursor_and_link(api: Api) -> None:
    items = [{"op": "add", "target_id": "post", "user_id": user} for user in range(5)]
    await api.json("POST", "/api/v1/hearts/batch", body={"items": items})

    seen = []
    query: dict[str, Any] = {"target_id": "post", "limit": 2}
    while True:
        answer = await api.answer("GET", "/api/v1/hearts", query=query)
        page = json.loads(answer.body)
        seen += [item["user_id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        assert f"cursor={page['next_cursor']}".encode() in dict(answer.headers)[b"link"]
        query["cursor"] = page["next_cursor"]

    assert seen == ["0", "1", "2", "3", "4"]
    assert b"link" not in dict(answer.headers)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"target_id": "a", "limit": "0"},
        {"target_id": "a", "limit": "201"},
        {"target_id": "a", "limit": "ten"},
        {"target_id": "a", "limit": "9" * 5000},
        {"target_id": "a", "cursor": "forged"},
        {"target_id": "a", "offset": "3"},
        {"target_id": "a", "kind": "shrug"},
        {"target_id": "a\x00"},
        {"user_id": ""},
        [("target_id", "a"), ("target_id", "b")],
    ],
)
async def test_bad_list_queries_are_refused(api: Api, query: Any) -> None:
    status, found = await api.json("GET", "/api/v1/hearts", query=query)

    assert (status, found["status"]) == (422, 422)


async def test_a_store_that_cannot_write_is_503_with_retry_after(api: Api) -> None:
    await api.store.close()
    heart = {"op": "add", **HEART}

    for method, path, query, body in (
        ("POST", "/api/v1/hearts", (), HEART),
        ("DELETE", "/api/v1/hearts", HEART, None),
        ("POST", "/api/v1/hearts/batch", (), {"items": [heart, {**heart, "op": "remove"}]}),
        ("GET", "/api/v1/hearts/counts", HEART, None),
        ("GET", "/api/v1/hearts", HEART, None),
        ("GET", "/api/v1/hearts/" + "0" * 26, (), None),
    ):
        answer = await api.answer(method, path, query, body)
        assert (answer.status, json.loads(answer.body)["code"]) == (503, StoreUnavailable.code)
        assert dict(answer.headers)[b"retry-after"] == b"1"


async def test_every_route_is_in_the_openapi_document() -> None:
    store = MemoryHeartStore(IdSource(SystemClock()))
    table = routes(HeartService(store, SystemClock(), Bus(lambda _: None)))
    text = json.dumps(document(table))

    assert {route.path for route in table} <= json.loads(text)["paths"].keys()
    assert [route.path for route in table if route.hot] == [
        "/api/v1/hearts",
        "/api/v1/hearts/batch",
        "/api/v1/hearts/counts",
        "/api/v1/hearts/counts",
    ]
