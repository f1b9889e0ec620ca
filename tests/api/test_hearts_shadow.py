"""A shadowed heart: its giver cannot tell, and nobody else sees it."""

from typing import Any

import pytest

from heartcast.api.auth.devices import Devices
from heartcast.api.auth.signing import Signer
from heartcast.api.heart_judging import Judging
from heartcast.api.hearts import routes
from heartcast.api.route import HEARTS_WRITE_ANY, Identity
from heartcast.core.bus import Bus
from heartcast.core.errors import StoreUnavailable
from heartcast.core.ids import IdSource
from heartcast.hearts.abuse import AbuseGuard
from heartcast.hearts.model import HeartChanged
from heartcast.hearts.options import AbuseOptions, HeartOptions
from heartcast.hearts.service import HeartService
from heartcast.hearts.store import HeartStore
from heartcast.testing import ManualClock
from heartcast.testing.calls import Caller

SERVER = Identity(is_server=True)
ME, OTHER = Identity(user="u1"), Identity(user="u2")
HEARTS = "/api/v1/hearts"
HEART = {"target_id": "post", "user_id": "u1"}


class Shop(Caller):
    """A heart service where each user's first heart counts and the rest is shadowed."""

    def __init__(self, store: HeartStore, clock: ManualClock) -> None:
        self.clock = clock
        self.guard = AbuseGuard(AbuseOptions(per_user="1/h burst 1"))
        self.told: list[HeartChanged] = []
        bus: Bus[HeartChanged] = Bus(lambda flush: flush())
        bus.follow(self)
        service = HeartService(store, clock, bus, has_shadows=True)
        devices = Devices(Signer([b"key"], "visitor"), clock, IdSource(clock), 1e6)
        judging = Judging(self.guard, clock, devices)
        super().__init__(routes(service, HeartOptions(), judging=judging), SERVER)

    def apply(self, events: list[HeartChanged]) -> None:
        self.told += events

    def mark_stale(self) -> None:
        raise AssertionError("nothing was lost")

    async def count(self, target: str, as_: Identity, user: str | None = None) -> Any:
        query = {"target_id": target, **({} if user is None else {"user_id": user})}
        [found] = (await self.json("GET", f"{HEARTS}/counts", query=query, as_=as_))[1]["counts"]
        return (found["count"], found["hearted"]) if user else found["count"]

    async def spend(self, user: str = "u1") -> None:
        """Use up a user's one heart that counts."""
        body = {"target_id": "first", "user_id": user}
        assert (await self.json("POST", HEARTS, body=body, as_=Identity(user=user)))[0] == 201


@pytest.fixture
def shop(every_store: HeartStore, clock: ManualClock) -> Shop:
    return Shop(every_store, clock)


async def test_the_giver_sees_success_and_the_public_count_does_not_move(shop: Shop) -> None:
    await shop.spend()
    await shop.json("POST", HEARTS, body={**HEART, "user_id": "u2"}, as_=OTHER)
    shop.told.clear()

    status, heart = await shop.json("POST", HEARTS, body=HEART, as_=ME)
    again = await shop.json("POST", HEARTS, body=HEART, as_=ME)

    assert (status, heart["count"], list(heart)) == (
        201,
        2,
        ["id", "target_id", "user_id", "count", "timestamp"],
    )
    assert again == (200, heart)
    assert shop.told == []
    assert await shop.count("post", ME, "u1") == (2, True)
    assert await shop.count("post", OTHER, "u2") == (1, True)
    assert await shop.count("post", SERVER) == 1
    assert shop.guard.shadowed["user"] == 2


async def test_the_givers_own_list_has_it_in_its_place_and_nobody_elses_has_it(shop: Shop) -> None:
    await shop.spend()
    for target in ("b", "c"):
        await shop.json("POST", HEARTS, body={"target_id": target, "user_id": "u1"}, as_=ME)
    await shop.json("POST", HEARTS, body={"target_id": "d", "user_id": "u1"})  # by a server: it counts

    seen: list[str] = []
    query: dict[str, Any] = {"user_id": "u1", "limit": 1}
    while True:
        _, page = await shop.json("GET", HEARTS, query=query, as_=ME)
        seen += [item["target_id"] for item in page["items"]]
        assert {item["kind"] for item in page["items"]} <= {"heart"}
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    _, of_target = await shop.json("GET", HEARTS, query={"target_id": "b"})

    assert seen == ["first", "b", "c", "d"]
    assert of_target["items"] == []


async def test_it_is_taken_back_like_any_other_by_key_and_by_id(shop: Shop) -> None:
    await shop.spend()
    for by_id in (False, True):
        _, heart = await shop.json("POST", HEARTS, body=HEART, as_=ME)
        path, query = (f"{HEARTS}/{heart['id']}", ()) if by_id else (HEARTS, HEART)
        assert (await shop.json("GET", f"{HEARTS}/{heart['id']}", as_=ME))[1]["kind"] == "heart"
        assert await shop.json("DELETE", path, query=query, as_=ME) == (200, {**heart, "count": 0})
        assert await shop.count("post", ME, "u1") == (0, False)
    assert (await shop.json("DELETE", HEARTS, query=HEART, as_=ME))[1]["id"] is None


async def test_a_heart_that_counts_already_stays_counted(shop: Shop) -> None:
    status, first = await shop.json("POST", HEARTS, body=HEART, as_=ME)
    assert status == 201
    assert await shop.json("POST", HEARTS, body=HEART, as_=ME) == (200, first)
    assert await shop.count("post", SERVER) == 1


async def test_in_a_batch_each_heart_is_judged(shop: Shop) -> None:
    items = [{"op": "add", "target_id": f"t{n}", "user_id": "u1"} for n in range(3)]
    items.append({"op": "remove", "target_id": "t1", "user_id": "u1"})

    _, found = await shop.json("POST", f"{HEARTS}/batch", body={"items": items}, as_=ME)

    results = found["results"]
    assert [result["status"] for result in results] == [201, 201, 201, 200]
    assert [result["heart"]["count"] for result in results] == [1, 1, 1, 0]
    assert results[3]["heart"]["id"] == results[1]["heart"]["id"]
    assert [await shop.count(f"t{n}", SERVER) for n in range(3)] == [1, 0, 0]


async def test_who_acts_for_others_is_not_judged(shop: Shop) -> None:
    backend = Identity(user="backend", scopes=frozenset({HEARTS_WRITE_ANY}))
    for as_ in (SERVER, backend):
        for target in ("x", "y", "z"):
            body = {"target_id": target, "user_id": f"of {as_.user}"}
            assert (await shop.json("POST", HEARTS, body=body, as_=as_))[0] == 201
    assert [await shop.count(target, SERVER) for target in "xyz"] == [2, 2, 2]
    assert shop.guard.judged == 0


async def test_a_store_that_fails_half_way_is_told_as_it_is(
    shop: Shop, every_store: HeartStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.spend()
    monkeypatch.setattr(
        type(every_store), "counts", lambda self, ids, kind, done: done(StoreUnavailable("gone"))
    )

    assert (await shop.json("POST", HEARTS, body=HEART, as_=ME))[0] == 503
