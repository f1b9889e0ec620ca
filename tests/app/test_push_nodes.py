"""Pushes on three nodes that share a Valkey: whichever node is asked, the answer is the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from heartcast.core.hashing import shard_of
from heartcast.core.ids import shard_in
from heartcast.testing.nodes import Nodes
from heartcast.testing.push_client import PushClient

NEWS = {"template": "news_v2", "payload": {"title": "x"}}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with Nodes(3) as nodes:
        nodes.wait_shared()
        yield nodes


def owner_of(nodes: Nodes, user: str) -> int:
    """Which node works on this user's shard."""
    return next(at for at in range(3) if shard_of(user, 64) in nodes.shards(at))


def user_of(nodes: Nodes, node: int, stem: str) -> str:
    """A user whose shard this node works on."""
    shards = nodes.shards(node)
    return next(name for n in range(10_000) if shard_of(name := f"{stem}-{n}", 64) in shards)


def push(nodes: Nodes, node: int, user: str, **more: Any) -> str:
    status, body = nodes.ask(node, "POST", "/push", {"user_id": user, **NEWS, **more})
    assert status == 202, body
    return str(body["id"])


def state(nodes: Nodes, node: int, push_id: str, wanted: str) -> dict[str, Any]:
    """The push as this node tells of it, when it is in the wanted state, or as it is after 5 s."""
    deadline_s = time.monotonic() + 5
    while True:
        status, body = nodes.ask(node, "GET", f"/api/v1/pushes/{push_id}")
        if (status == 200 and body["status"] == wanted) or time.monotonic() > deadline_s:
            assert (status, body.get("status")) == (200, wanted)
            return dict(body)
        time.sleep(0.02)


async def test_pushes_taken_by_any_node_reach_a_client_at_any_other_in_order_and_end_everywhere(
    nodes: Nodes,
) -> None:
    for at in range(3):
        user = await asyncio.to_thread(user_of, nodes, at, "order")
        listens = nodes.websockets()[(at + 1) % 3]
        async with PushClient(lambda listens=listens: [listens], user, nodes.token(user)) as client:  # type: ignore[misc]
            async with asyncio.timeout(5):
                await client.subscribed.wait()
            ids = [await asyncio.to_thread(push, nodes, n % 3, user) for n in range(9)]
            await client.has(set(ids), 10)
            assert client.got == ids
            assert client.offsets == list(range(1, 10))
            assert set(client.deliveries.values()) == {1}
        for n, push_id in enumerate(ids):
            await asyncio.to_thread(state, nodes, n % 3, push_id, "delivered")
            assert shard_in(push_id) == shard_of(user, 64)


def test_what_is_asked_about_one_push_is_answered_by_every_node(nodes: Nodes) -> None:
    user = user_of(nodes, 0, "asked")
    push_id = push(nodes, 1, user, ttl=3600)
    status, body = nodes.ask(2, "PATCH", f"/api/v1/pushes/{push_id}", {"ttl": 7200})
    assert status in (200, 409), body
    status, body = nodes.ask(2, "POST", f"/api/v1/pushes/{push_id}/cancel")
    assert (status, body["status"]) == (200, "cancelled")
    assert nodes.ask(1, "POST", f"/api/v1/pushes/{push_id}/cancel")[0] == 200
    for at in range(3):
        assert nodes.ask(at, "GET", f"/api/v1/pushes/{push_id}")[1]["status"] == "cancelled"
        status, body = nodes.ask(at, "GET", "/api/v1/pushes/01ARZ3NDEKTSV4RRFFQ69G5FAV")
        assert (status, body["code"]) == (404, "push_forgotten")


def test_preferences_said_at_one_node_hold_at_all(nodes: Nodes) -> None:
    user = user_of(nodes, 1, "wishes")
    path = f"/api/v1/users/{user}/preferences"
    status, _ = nodes.ask(0, "PUT", path, {"categories": {"ads": False}})
    assert status == 200
    assert all(nodes.ask(at, "GET", path)[1] == {"categories": {"ads": False}} for at in range(3))
    found = state(nodes, 0, push(nodes, 2, user, category="ads"), "suppressed")
    assert found["reason"] == "category_off"
    status, _ = nodes.ask(2, "PUT", path, {}, {"if-match": '"0000000000000000"'})
    assert status == 412


def test_a_repeated_request_is_answered_from_its_record_whichever_node_gets_it(nodes: Nodes) -> None:
    user = user_of(nodes, 2, "once")
    body = {"user_id": user, **NEWS}
    answers = [nodes.ask(at, "POST", "/push", body, {"idempotency-key": "k1"}) for at in range(3)]
    assert answers[0][0] == 202
    assert answers[1] == answers[2] == answers[0]
    status, problem = nodes.ask(1, "POST", "/push", {**body, "ttl": 9}, {"idempotency-key": "k1"})
    assert (status, problem["code"]) == (422, "idempotency_key_reused")


def test_a_dedupe_key_is_known_to_all_nodes(nodes: Nodes) -> None:
    user = user_of(nodes, 0, "dedupe")
    first = push(nodes, 0, user, dedupe_key="welcome")
    for at in range(3):
        status, body = nodes.ask(at, "POST", "/push", {"user_id": user, **NEWS, "dedupe_key": "welcome"})
        assert (status, body["id"], body["deduplicated"]) == (200, first, True)


def test_a_batch_over_all_shards_has_its_results_in_the_order_sent(nodes: Nodes) -> None:
    items: list[dict[str, Any]] = [{"user_id": n, **NEWS} for n in range(100)]
    items[7] = {"user_id": 7, "template": "none", "payload": {}}
    items[50] = {"template": "news_v2"}
    items[99] = {"user_id": 99, **NEWS, "ttl": -1}
    for at in range(3):
        headers = {"idempotency-key": f"batch-{at}"}
        status, body = nodes.ask(at, "POST", "/api/v1/pushes/batch", {"items": items}, headers)
        results = body["results"]
        assert (status, len(results)) == (200, 100)
        assert all(
            result["push"]["user_id"] == n and result["push"]["shard"] == n % 64
            for n, result in enumerate(results) if n not in (7, 50, 99)
        )  # fmt: skip
        assert [results[n]["status"] for n in (7, 50, 99)] == [404, 422, 422]
        assert results[99]["problem"]["errors"][0]["pointer"] == "/items/99/ttl"
        again = nodes.ask((at + 1) % 3, "POST", "/api/v1/pushes/batch", {"items": items}, headers)
        assert again == (status, body)
    status, body = nodes.ask(0, "POST", "/api/v1/pushes/batch", {"items": []})
    assert (status, body["code"]) == (422, "invalid_input")


def test_dead_letters_of_all_nodes_are_one_list_in_pages(nodes: Nodes) -> None:
    # Rendering fails when a user comes, so these die at the nodes that own their users.
    assert nodes.ask(0, "GET", "/api/v1/dead-letters")[1] == {"items": [], "next_cursor": None}
    assert nodes.ask(1, "GET", "/api/v1/dead-letters?user_id=ann")[1]["items"] == []
    assert nodes.ask(2, "GET", "/api/v1/dead-letters?limit=900")[0] == 422


def test_bad_requests_are_told_what_is_wrong_by_every_node(nodes: Nodes) -> None:
    for at in range(3):
        for user in ("u1", "u2", "u3"):
            for body, code in (
                ({"user_id": user, "template": "none", "payload": {}}, "unknown_template"),
                ({"user_id": user, "template": "news_v2", "payload": 7}, "invalid_input"),
                ({"user_id": user, **NEWS, "zone": "Mars", "send_at": "2031-01-01T00:00"}, "unknown_zone"),
                ({**NEWS}, "invalid_input"),
            ):  # fmt: skip
                status, problem = nodes.ask(at, "POST", "/push", body)
                assert (status, problem["code"]) in ((404, code), (422, code)), problem


def test_export_and_erase_reach_the_owner(nodes: Nodes) -> None:
    user = user_of(nodes, 1, "export")
    push_id = push(nodes, 0, user)
    state(nodes, 0, push_id, "sent")
    status, found = nodes.ask(2, "GET", f"/api/v1/users/{user}/export")
    assert (status, [item["id"] for item in found["pushes"]]) == (200, [push_id])
    assert nodes.ask(0, "GET", f"/api/v1/users/{user}/inbox")[1]["items"][0]["id"] == push_id
    status, erased = nodes.ask(0, "DELETE", f"/api/v1/users/{user}/pushes")
    assert (status, erased["cancelled"]) == (200, 1)
    assert nodes.ask(2, "GET", f"/api/v1/users/{user}/export")[1]["pushes"] == []
