"""What the operator may choose about hearts: undo, who sees whom, and what caches may keep."""

import json
from typing import Any

import jwt
import pytest

from heartcast.api.auth import Authenticator, AuthOptions
from heartcast.api.auth.signing import Signer
from heartcast.api.cursors import Cursors
from heartcast.api.hearts import routes
from heartcast.api.route import ANONYMOUS, Identity
from heartcast.core.bus import Bus
from heartcast.core.clock import SystemClock
from heartcast.core.errors import Unauthenticated
from heartcast.core.ids import IdSource
from heartcast.hearts.options import HeartOptions
from heartcast.hearts.service import HeartService
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.testing import ManualClock
from heartcast.testing.calls import Caller

SERVER = Identity(is_server=True)
ME = Identity(user="u1")
HEARTS = "/api/v1/hearts"
COUNTS = f"{HEARTS}/counts"
HEART = {"target_id": "post", "user_id": "u1"}


@pytest.fixture
def store(every_store: HeartStore) -> HeartStore:
    return every_store


def caller(store: HeartStore, clock: ManualClock, cursors: Cursors | None = None, **options: Any) -> Caller:
    chosen = HeartOptions(**options)
    service = HeartService(
        store, clock, Bus(lambda _: None), chosen.kinds, undo_window_s=chosen.undo_window_s
    )
    return Caller(routes(service, chosen, cursors=cursors), SERVER)


# -- undo ---------------------------------------------------------------------------------


async def test_a_heart_can_be_taken_back_within_the_window_and_not_after_it(
    store: HeartStore, clock: ManualClock
) -> None:
    api = caller(store, clock, undo_window_s=600)
    _, heart = await api.json("POST", HEARTS, body=HEART, as_=ME)
    clock.advance(599)
    assert (await api.json("DELETE", HEARTS, query=HEART, as_=ME))[0] == 200
    _, heart = await api.json("POST", HEARTS, body=HEART, as_=ME)
    clock.advance(600)

    for path, query in ((HEARTS, HEART), (f"{HEARTS}/{heart['id']}", ())):
        status, found = await api.json("DELETE", path, query=query, as_=ME)
        assert (status, found["code"]) == (409, "undo_window_over")
    assert (await api.json("GET", COUNTS, query={"target_id": "post"}))[1]["counts"][0]["count"] == 1
    # A server moderates, whenever that is.
    assert (await api.json("DELETE", HEARTS, query=HEART))[1]["count"] == 0
    assert (await api.json("DELETE", HEARTS, query=HEART, as_=ME))[0] == 200


async def test_a_batch_keeps_to_the_undo_window_item_by_item(store: HeartStore, clock: ManualClock) -> None:
    api = caller(store, clock, undo_window_s=600)
    await api.json("POST", HEARTS, body=HEART, as_=ME)
    clock.advance(600)
    items = [
        {"op": "remove", **HEART},
        {"op": "add", "target_id": "new", "user_id": "u1"},
        {"op": "remove", "target_id": "new", "user_id": "u1"},
        {"op": "remove", "target_id": "", "user_id": "u1"},
    ]

    status, found = await api.json("POST", f"{HEARTS}/batch", body={"items": items}, as_=ME)

    assert (status, [result["status"] for result in found["results"]]) == (200, [409, 201, 200, 422])
    assert found["results"][0]["problem"]["code"] == "undo_window_over"


async def test_a_request_that_was_done_in_time_is_answered_again_after_the_window(
    store: HeartStore, clock: ManualClock
) -> None:
    api = caller(store, clock, undo_window_s=600)
    await api.json("POST", HEARTS, body=HEART, as_=ME)
    items = {"items": [{"op": "add", **HEART, "target_id": "new"}, {"op": "remove", **HEART}]}
    one = {"query": list(HEART.items()), "headers": {"idempotency-key": "one"}, "as_": ME}
    many = {"body": items, "headers": {"idempotency-key": "many"}, "as_": ME}
    first = await api.answer("DELETE", HEARTS, **one)
    await api.json("POST", HEARTS, body=HEART, as_=ME)
    first_batch = await api.answer("POST", f"{HEARTS}/batch", **many)
    await api.json("POST", HEARTS, body=HEART, as_=ME)
    clock.advance(600)

    again = await api.answer("DELETE", HEARTS, **one)
    again_batch = await api.answer("POST", f"{HEARTS}/batch", **many)

    assert (again.status, again.body) == (200, first.body)
    assert (again_batch.status, again_batch.body) == (200, first_batch.body)
    assert (b"idempotent-replayed", b"true") in again.headers
    # The heart that was given since is left alone, and too old to be taken back under another key.
    late = await api.answer("DELETE", HEARTS, **{**one, "headers": {"idempotency-key": "two"}})
    assert late.status == 409
    counts = await api.json("GET", COUNTS, query={"target_id": "post"})
    assert counts[1]["counts"][0]["count"] == 1


# -- who hearted --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("audience", "allowed"),
    [
        ("admin", {"server"}),
        ("owner", {"server", "owner"}),
        ("public", {"server", "owner", "user", "nobody"}),
    ],
)
async def test_who_hearted_is_told_to_whom_the_operator_says(
    store: HeartStore, clock: ManualClock, audience: str, allowed: set[str]
) -> None:
    api = caller(store, clock, who_hearted=audience)
    await api.json("POST", HEARTS, body=HEART)
    people = {
        "server": SERVER,
        "owner": Identity(user="author", owns=frozenset({"post"})),
        "user": Identity(user="u2", owns=frozenset({"another post"})),
        "nobody": ANONYMOUS,
    }

    answers = {
        who: await api.json("GET", HEARTS, query={"target_id": "post"}, as_=identity)
        for who, identity in people.items()
    }

    assert {who for who, (status, _) in answers.items() if status == 200} == allowed
    assert all(status in (200, 403) for status, _ in answers.values())
    assert [item["user_id"] for item in answers["server"][1]["items"]] == ["u1"]
    # What somebody hearted stays their own affair, whoever may ask about targets.
    assert (await api.json("GET", HEARTS, query={"user_id": "u1"}, as_=people["user"]))[0] == 403


def test_a_token_says_which_targets_are_the_users_own(clock: ManualClock) -> None:
    secret = "a secret of more than thirty-two bytes"
    authenticator = Authenticator(AuthOptions(jwt_secret=secret), clock, is_open=False)

    def identity(owns: object) -> Identity:
        token = jwt.encode({"sub": "author", "owns": owns}, secret, algorithm="HS256")
        return authenticator.identify([(b"authorization", b"Bearer " + token.encode())], "")

    assert identity(["post"]).owns == {"post"}
    for nonsense in ("post", [1], {"post": 1}):
        with pytest.raises(Unauthenticated):
            identity(nonsense)


# -- cursors ------------------------------------------------------------------------------


async def test_a_cursor_that_was_changed_or_carried_elsewhere_is_refused(
    store: HeartStore, clock: ManualClock
) -> None:
    api = caller(store, clock, kinds=["heart", "star"])
    for user in range(4):
        await api.json("POST", HEARTS, body={"target_id": "post", "user_id": user})
    query = {"target_id": "post", "limit": 2}
    _, first = await api.json("GET", HEARTS, query=query)
    cursor = first["next_cursor"]
    place, signature = cursor.split(".")

    assert (await api.json("GET", HEARTS, query={**query, "cursor": cursor}))[0] == 200
    # Other sizes of page go on from the same place.
    assert (await api.json("GET", HEARTS, query={**query, "limit": 3, "cursor": cursor}))[0] == 200
    forged = [
        {**query, "cursor": "0" * 26 + "." + signature},
        {**query, "cursor": place},
        {**query, "cursor": place + "." + signature[:-1]},
        {**query, "cursor": place + "." + signature + "é"},
        {**query, "cursor": "."},
        {**query, "cursor": cursor, "target_id": "another"},
        {**query, "cursor": cursor, "kind": "star"},
        {**query, "cursor": cursor, "user_id": "u1"},
    ]
    for changed in forged:
        status, found = await api.json("GET", HEARTS, query=changed)
        assert (status, found["code"]) == (422, "invalid_cursor")


async def test_a_cursor_of_an_older_key_is_good_until_the_key_is_taken_away(
    store: HeartStore, clock: ManualClock
) -> None:
    await caller(store, clock).json("POST", HEARTS, body=HEART)
    query = {"target_id": "post", "limit": 1}

    async def page(keys: list[bytes], cursor: str | None = None) -> tuple[int, Any]:
        api = caller(store, clock, Cursors(Signer(keys, "cursor")))
        return await api.json("GET", HEARTS, query={**query, **({"cursor": cursor} if cursor else {})})

    _, first = await page([b"old"])

    assert (await page([b"new", b"old"], first["next_cursor"]))[0] == 200
    assert (await page([b"new"], first["next_cursor"]))[0] == 422


# -- entity tags --------------------------------------------------------------------------


async def test_counts_that_a_client_knows_are_not_sent_again(store: HeartStore, clock: ManualClock) -> None:
    api = caller(store, clock)
    query = [("target_id", "post"), ("target_id", "nobody")]
    first = await api.answer("GET", COUNTS, query=query)
    etag = dict(first.headers)[b"etag"].decode()
    clock.advance(60)
    known = await api.answer("GET", COUNTS, query=query, headers={"if-none-match": etag})
    await api.json("POST", HEARTS, body=HEART)
    changed = await api.answer("GET", COUNTS, query=query, headers={"if-none-match": etag})
    await api.json("DELETE", HEARTS, query=HEART)
    again = await api.answer("GET", COUNTS, query=query, headers={"if-none-match": etag})

    assert (known.status, known.body, dict(known.headers)[b"etag"].decode()) == (304, b"", etag)
    assert (changed.status, json.loads(changed.body)["counts"][0]["count"]) == (200, 1)
    # The count is what it was, and yet two things happened.
    assert (again.status, json.loads(again.body)["counts"][0]["version"]) == (200, 2)


async def test_a_restarted_store_in_memory_does_not_pass_for_the_one_before(clock: ManualClock) -> None:
    etags = set()
    for _ in range(2):
        store = MemoryHeartStore(IdSource(SystemClock()))
        answer = await caller(store, clock).answer("GET", COUNTS, query={"target_id": "post"})
        etags.add(dict(answer.headers)[b"etag"])

    assert len(etags) == 2
