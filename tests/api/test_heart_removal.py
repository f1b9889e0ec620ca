"""People take their hearts with them, and targets end or become one."""

from typing import Any

import pytest

from heartcast.api.auth.signing import Signer
from heartcast.api.cursors import Cursors
from heartcast.api.heart_removal import routes
from heartcast.api.route import Identity
from heartcast.core.bus import Bus
from heartcast.hearts.model import HeartKey
from heartcast.hearts.service import HeartService
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.awaiting import Awaiting, result_of
from heartcast.testing import ManualClock
from heartcast.testing.calls import Caller

SERVER = Identity(is_server=True)
ME, OTHER = Identity(user="u1"), Identity(user="u2")
MINE = "/api/v1/users/u1/hearts"


class Api(Caller):
    def __init__(self, store: HeartStore, clock: ManualClock) -> None:
        self.store = store
        self.service = HeartService(store, clock, Bus(lambda _: None), ("heart", "star"), has_shadows=True)
        table = routes(self.service, Cursors(Signer([b"key"], "cursor")))
        super().__init__(table, SERVER)

    async def heart(self, target: str, user: str, kind: str = "heart") -> None:
        await Awaiting(self.store).add([HeartKey(target, user, kind)], 1)

    async def shadow(self, target: str, user: str) -> None:
        await result_of(lambda done: self.service.add_shadowed(HeartKey(target, user, "heart"), done))

    async def count(self, target: str) -> int:
        return (await Awaiting(self.store).counts([target], "heart"))[0].count

    async def answer(self, method: str, path: str, *args: Any, **more: Any) -> Any:
        # The table's one place with an id in the middle of its path.
        if "/users/" in path:
            more["params"] = {"id": path.split("/")[4]}
            path = "/api/v1/users/{id}/hearts"
        return await super().answer(method, path, *args, **more)


@pytest.fixture
def api(every_store: HeartStore, clock: ManualClock) -> Api:
    return Api(every_store, clock)


async def export(api: Api, limit: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    query: dict[str, Any] = {"limit": limit}
    while True:
        status, page = await api.json("GET", MINE, query, as_=ME)
        assert status == 200
        found += [(item["kind"], item["target_id"]) for item in page["items"]]
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
async def test_an_export_has_every_heart_of_every_kind_once(api: Api, limit: int) -> None:
    for target in ("a", "b", "c"):
        await api.heart(target, "u1")
    await api.shadow("d", "u1")
    await api.heart("a", "u1", "star")
    await api.heart("a", "u2")

    assert await export(api, limit) == [
        ("heart", "a"), ("heart", "b"), ("heart", "c"), ("heart", "d"), ("star", "a"),
    ]  # fmt: skip


async def test_erasing_leaves_nothing_of_the_user_and_all_of_the_others(api: Api) -> None:
    await api.heart("a", "u1")
    await api.heart("a", "u1", "star")
    await api.heart("a", "u2")
    await api.shadow("b", "u1")

    assert await api.json("DELETE", MINE, as_=ME) == (200, {"removed": 3})
    assert await api.json("DELETE", MINE, as_=ME) == (200, {"removed": 0})
    assert await export(api, 200) == []
    assert await api.count("a") == 1
    assert [heart.key.user_id async for hearts in api.store.scan() for heart in hearts] == ["u2"]


async def test_a_target_is_deleted_and_merged_by_servers(api: Api) -> None:
    for user in ("u1", "u2"):
        await api.heart("old", user)
    await api.heart("new", "u2")
    await api.heart("gone", "u1")
    merge = {"source_id": "old", "into_id": "new"}

    assert await api.json("POST", "/api/v1/targets/merge", (), merge) == (200, {"moved": 1})
    assert await api.json("POST", "/api/v1/targets/merge", (), merge) == (200, {"moved": 0})
    assert await api.json("POST", "/api/v1/targets/delete", (), {"target_id": "gone"}) == (
        200,
        {"removed": 1},
    )
    assert [await api.count(target) for target in ("old", "new", "gone")] == [0, 2, 0]


async def test_nobody_exports_erases_deletes_or_merges_what_is_not_theirs(api: Api) -> None:
    await api.heart("a", "u1")
    for method, path, body in (
        ("GET", MINE, None),
        ("DELETE", MINE, None),
        ("POST", "/api/v1/targets/delete", {"target_id": "a"}),
        ("POST", "/api/v1/targets/merge", {"source_id": "a", "into_id": "b"}),
    ):
        assert (await api.json(method, path, (), body, as_=OTHER))[0] == 403
    assert await api.count("a") == 1


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("delete", {"target_id": ""}, "/target_id"),
        ("merge", {"source_id": "a\n", "into_id": "b"}, "/source_id"),
        ("merge", {"source_id": "a"}, "/into_id"),
    ],
)
async def test_bad_bodies_are_refused_at_their_field(api: Api, path: str, body: Any, pointer: str) -> None:
    status, found = await api.json("POST", f"/api/v1/targets/{path}", (), body)
    assert (status, found["errors"][0]["pointer"]) == (422, pointer)
