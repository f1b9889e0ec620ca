import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from heartcast.api.heart_events import effect_key, routes
from heartcast.api.route import Identity
from heartcast.core.ids import IdSource
from heartcast.hearts.model import Change, HeartKey
from heartcast.hearts.options import OutboxOptions
from heartcast.hearts.outbox import Feed
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.hearts.store.memory_events import MemoryEvents
from heartcast.testing import ManualClock
from heartcast.testing.calls import Caller

SERVER = Identity(is_server=True)


class Api(Caller):
    def __init__(self) -> None:
        clock = ManualClock()
        self.store = MemoryHeartStore(IdSource(clock), MemoryEvents(clock))
        super().__init__(routes(Feed(self.store, OutboxOptions(), clock)), SERVER)

    async def page(self, query: Any = ()) -> dict[str, Any]:
        answer = await self.answer("GET", "/api/v1/events", query)
        assert answer.status == 200
        body: dict[str, Any] = json.loads(answer.body)
        return body


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    api = Api()
    yield api
    await api.store.close()


async def test_an_event_says_all_there_is_to_know(api: Api) -> None:
    key = HeartKey("post:1", "u 1")
    await Awaiting(api.store).add([key], 1_000)
    await Awaiting(api.store).remove([key], 2_000, "delete")

    page = await api.page()

    added, removed = page["items"]
    assert (added["type"], added["cause"], added["count"], added["version"]) == ("heart.added", "user", 1, 1)
    assert (removed["type"], removed["cause"], removed["count"]) == ("heart.removed", "delete", 0)
    assert added["effect_key"] == removed["effect_key"] == "heart:post%3A1:u%201"
    assert (added["target_id"], added["user_id"], added["kind"]) == ("post:1", "u 1", "heart")
    assert added["hearted_at"] == removed["hearted_at"] == "1970-01-01T00:00:01.000Z"
    assert page["cursor"] == removed["id"]
    assert not page["has_more"]


async def test_every_id_is_a_cursor(api: Api) -> None:
    await Awaiting(api.store).add([HeartKey("post", f"u{user}") for user in range(4)], 1)
    items = (await api.page())["items"]

    for at, item in enumerate(items):
        page = await api.page({"after": item["id"], "limit": 1})
        assert page["items"] == items[at + 1 : at + 2]
        assert page["has_more"] == (at < 2)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"after": "nonsense"}, 422, "invalid_cursor"),
        ({"after": "0123456789abcdef-3"}, 410, "events_gone"),
        ({"limit": "0"}, 422, "invalid_input"),
        ({"limit": "x"}, 422, "invalid_input"),
        ({"limit": "nan"}, 422, "invalid_input"),
        ({"wait": "31"}, 422, "invalid_input"),
    ],
)
async def test_what_cannot_be_answered_is_a_problem(
    api: Api, query: dict[str, str], status: int, code: str
) -> None:
    answer = await api.answer("GET", "/api/v1/events", query)

    assert (answer.status, json.loads(answer.body)["code"]) == (status, code)


async def test_only_servers_may_read(api: Api) -> None:
    api.identity = Identity(user="u1")

    assert (await api.answer("GET", "/api/v1/events")).status == 403


def test_effect_keys_of_different_hearts_differ() -> None:
    def key(kind: str, target_id: str, user_id: str) -> str:
        return effect_key(Change(1, "user", target_id, user_id, kind, "", 0, 1, 1))

    assert key("a:b", "c", "d") != key("a", "b:c", "d")
    assert key("a", "b:c", "d") != key("a", "b", "c:d")
