"""Idempotency-Key on writes of hearts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heartcast.api.hearts import routes
from heartcast.api.route import Answer, Identity
from heartcast.core.bus import Bus
from heartcast.core.errors import StoreUnavailable
from heartcast.hearts.model import HeartChanged
from heartcast.hearts.options import HeartOptions
from heartcast.hearts.service import HeartService
from heartcast.hearts.store import HeartStore
from heartcast.testing import ManualClock
from heartcast.testing.calls import Caller

SERVER = Identity(is_server=True)
HEARTS = "/api/v1/hearts"
BATCH = f"{HEARTS}/batch"
HEART = {"target_id": "post", "user_id": "u1"}
QUERY = list(HEART.items())
KEY = {"idempotency-key": "order-17"}


@pytest.fixture
def store(every_store: HeartStore) -> HeartStore:
    return every_store


class Api(Caller):
    """The routes of hearts over a store, and what was announced."""

    def __init__(
        self, store: HeartStore, clock: ManualClock, judging: Any = None, *, shadows: bool = False
    ) -> None:
        self.news: list[HeartChanged] = []
        bus: Bus[HeartChanged] = Bus(lambda call: call())
        bus.follow(self)
        service = HeartService(store, clock, bus, has_shadows=shadows)
        super().__init__(routes(service, HeartOptions(), judging=judging), SERVER)

    def apply(self, events: list[HeartChanged]) -> None:
        self.news += events

    def mark_stale(self) -> None:
        raise AssertionError("no event may be lost")

    async def count(self) -> int:
        counts = await self.answer("GET", f"{HEARTS}/counts", [("target_id", "post")])
        return int(json.loads(counts.body)["counts"][0]["count"])


@pytest.fixture
def api(store: HeartStore, clock: ManualClock) -> Api:
    return Api(store, clock)


def is_replayed(answer: Answer) -> bool:
    return (b"idempotent-replayed", b"true") in answer.headers


async def test_a_late_repetition_is_answered_as_the_first_and_does_not_bring_the_heart_back(api: Api) -> None:
    first = await api.answer("POST", HEARTS, body=HEART, headers=KEY)
    assert first.status == 201
    assert not is_replayed(first)
    await api.answer("DELETE", HEARTS, QUERY)

    again = await api.answer("POST", HEARTS, body=HEART, headers=KEY)
    assert (again.status, again.body) == (201, first.body)
    assert is_replayed(again)
    assert (b"location", f"{HEARTS}/{json.loads(first.body)['id']}".encode()) in again.headers
    assert await api.count() == 0
    assert [event.delta for event in api.news] == [1, -1]


async def test_a_late_repetition_of_taking_back_leaves_the_new_heart_alone(api: Api) -> None:
    await api.answer("POST", HEARTS, body=HEART)
    first = await api.answer("DELETE", HEARTS, QUERY, headers=KEY)
    await api.answer("POST", HEARTS, body=HEART)
    again = await api.answer("DELETE", HEARTS, QUERY, headers=KEY)
    assert (again.status, again.body) == (200, first.body)
    assert (is_replayed(first), is_replayed(again)) == (False, True)
    assert await api.count() == 1


async def test_a_batch_is_done_once_with_the_problems_of_its_bad_items(api: Api) -> None:
    items = [
        {"op": "add", **HEART},
        {"op": "add", "target_id": "", "user_id": "u1"},
        {"op": "add", "target_id": "post", "user_id": "u2"},
        {"op": "remove", **HEART},
    ]
    first = await api.answer("POST", BATCH, body={"items": items}, headers=KEY)
    results = json.loads(first.body)["results"]
    assert [result["status"] for result in results] == [201, 422, 201, 200]
    await api.answer("DELETE", HEARTS, [("target_id", "post"), ("user_id", "u2")])

    again = await api.answer("POST", BATCH, body={"items": items}, headers=KEY)
    assert (again.status, again.body) == (200, first.body)
    assert is_replayed(again)
    assert await api.count() == 0
    assert [event.delta for event in api.news] == [1, 1, -1, -1]


@pytest.mark.parametrize("method", ["POST", "batch", "DELETE"])
async def test_another_request_with_the_key_is_refused_and_changes_nothing(api: Api, method: str) -> None:
    other = {"target_id": "post", "user_id": "u2"}

    async def ask(heart: dict[str, str]) -> Answer:
        if method == "batch":
            return await api.answer("POST", BATCH, body={"items": [{"op": "add", **heart}]}, headers=KEY)
        if method == "DELETE":
            return await api.answer("DELETE", HEARTS, list(heart.items()), headers=KEY)
        return await api.answer("POST", HEARTS, body=heart, headers=KEY)

    await api.answer("POST", HEARTS, body=other if method == "DELETE" else HEART)
    before = await api.count()
    assert (await ask(HEART)).status < 300
    refused = await ask(other)
    assert refused.status == 422
    assert json.loads(refused.body)["code"] == "idempotency_key_reused"
    assert await api.count() == before


async def test_a_key_means_nothing_elsewhere_nor_of_somebody_else(api: Api) -> None:
    me, you = Identity(user="u1"), Identity(user="u2")
    theirs = {"target_id": "post", "user_id": "u2"}
    assert (await api.answer("POST", HEARTS, body=HEART, headers=KEY, as_=me)).status == 201
    assert (await api.answer("POST", HEARTS, body=theirs, headers=KEY, as_=you)).status == 201
    items = {"items": [{"op": "add", **HEART}]}
    assert (await api.answer("POST", BATCH, body=items, headers=KEY, as_=me)).status == 200
    assert not is_replayed(await api.answer("DELETE", HEARTS, QUERY, headers=KEY, as_=me))


async def test_a_key_is_forgotten_after_its_time(api: Api, clock: ManualClock) -> None:
    await api.answer("POST", HEARTS, body=HEART, headers=KEY)
    clock.advance(86_399)
    assert is_replayed(await api.answer("POST", HEARTS, body=HEART, headers=KEY))
    clock.advance(2)
    assert not is_replayed(await api.answer("POST", HEARTS, body=HEART, headers=KEY))


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "h\xe9", "a\tb"])
async def test_what_is_no_key_is_refused(api: Api, key: str) -> None:
    for method, path, more in (
        ("POST", HEARTS, {"body": HEART}),
        ("POST", BATCH, {"body": {"items": [{"op": "add", **HEART}]}}),
        ("DELETE", HEARTS, {"query": QUERY}),
    ):
        refused = await api.answer(method, path, headers={"idempotency-key": key}, **more)
        assert refused.status == 422
        assert json.loads(refused.body)["code"] == "invalid_idempotency_key"
    assert api.news == []


async def test_quoted_and_bare_keys_are_the_same(api: Api) -> None:
    await api.answer("POST", HEARTS, body=HEART, headers=KEY)
    quoted = {"idempotency-key": '"order-17"'}
    assert is_replayed(await api.answer("POST", HEARTS, body=HEART, headers=quoted))


async def test_a_failure_is_not_remembered(
    api: Api, store: HeartStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setattr(store, "once", lambda receipt, steps, now_ms, done: done(StoreUnavailable("away")))
        assert (await api.answer("POST", HEARTS, body=HEART, headers=KEY)).status == 503
        items = {"items": [{"op": "add", **HEART}]}
        assert (await api.answer("POST", BATCH, body=items, headers=KEY)).status == 503
    done = await api.answer("POST", HEARTS, body=HEART, headers=KEY)
    assert (done.status, is_replayed(done)) == (201, False)


class JudgesAll:
    """Shadows every heart while it is on."""

    is_on = True

    def shadows(self, call: object, key: object) -> bool:
        return self.is_on


async def test_a_shadowed_heart_is_taken_back_once_under_a_key(store: HeartStore, clock: ManualClock) -> None:
    judging = JudgesAll()
    api = Api(store, clock, judging, shadows=True)
    given = await api.answer("POST", HEARTS, body=HEART, headers=KEY)
    assert (given.status, json.loads(given.body)["count"]) == (201, 1)
    assert await api.count() == 0

    first = await api.answer("DELETE", HEARTS, QUERY, headers=KEY)
    assert json.loads(first.body)["id"] == json.loads(given.body)["id"]
    judging.is_on = False
    await api.answer("POST", HEARTS, body=HEART)
    again = await api.answer("DELETE", HEARTS, QUERY, headers=KEY)
    assert again.body == first.body
    assert is_replayed(again)
    assert await api.count() == 1
    assert [event.delta for event in api.news] == [1]
