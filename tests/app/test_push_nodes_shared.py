"""What belongs to no shard, or to all, on three nodes that share a Valkey: any node will do."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from heartcast.backends.webhook import key_of, verify
from heartcast.core.clock import SystemClock
from heartcast.testing.nodes import Nodes
from heartcast.testing.providers import Received, Receiver, gone, healthy, hung

ENVIRON = {
    "HEARTCAST_PUSH__WEBHOOKS__ALLOW_PRIVATE": "true",
    "HEARTCAST_PUSH__WEBHOOKS__TIMEOUT_S": "0.5",
    "HEARTCAST_PUSH__WEBHOOKS__RETRY": "{attempts = 1000, first_s = 0.05, max_s = 0.2}",
    "HEARTCAST_PUSH__WEBHOOKS__BREAKER": "{open_s = 0.1, max_open_s = 0.2}",
}
TEMPLATES = "/api/v1/templates"


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with Nodes(3, environ=ENVIRON) as nodes:
        nodes.wait_shared(45)
        yield nodes


def until(look: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """What this look gives as soon as that is something.

    Raises:
        TimeoutError: it gave nothing for so long.
    """
    deadline_s = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > deadline_s:
            raise TimeoutError("nothing came of it")
        time.sleep(0.02)
    return found


def inbox(nodes: Nodes, at: int, user: Any) -> list[Any]:
    """What waits in a user's inbox, as this node tells it; nothing while its shard moves."""
    status, body = nodes.ask(at, "GET", f"/api/v1/users/{user}/inbox?limit=200")
    return list(body["items"]) if status == 200 else []


def at_once(*calls: Any) -> list[Any]:
    """What these calls return, all made at the same time."""
    answers: list[Any] = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def run(at: int) -> None:
        start.wait()
        answers[at] = calls[at]()

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_a_template_made_at_one_node_is_used_activated_and_previewed_at_the_next_at_once(
    nodes: Nodes,
) -> None:
    for round_ in range(1, 13):
        ann, bob, eve = (node % 3 for node in range(round_, round_ + 3))
        body = {"title": f"{round_}: {{{{ title }}}}", "fields": {"title": {}}}
        status, made = nodes.ask(ann, "PUT", f"{TEMPLATES}/shared/versions/{round_}", body)
        assert (status, made["version"]) == (201, round_), made
        pushed = {"user_id": round_, "template": f"shared@{round_}", "payload": {"title": "x"}}
        status, push = nodes.ask(bob, "POST", "/push", pushed)
        assert status == 202, push
        assert nodes.ask(eve, "POST", f"{TEMPLATES}/shared/versions/{round_}/activate")[0] == 200
        preview = {"payload": {"title": "hello"}}
        status, shown = nodes.ask(ann, "POST", f"{TEMPLATES}/shared/preview", preview)
        assert (status, shown["version"], shown["title"]) == (200, round_, f"{round_}: hello")
        [item] = until(partial(inbox, nodes, eve, round_))
        assert item["data"]["title"] == f"{round_}: x"


def test_versions_put_at_all_nodes_at_once_are_made_once_each_and_none_is_lost(nodes: Nodes) -> None:
    for number in range(1, 6):
        path = f"{TEMPLATES}/race/versions/{number}"
        answers = at_once(*(partial(nodes.ask, at, "PUT", path, {"title": f"by {at}"}) for at in range(3)))
        statuses = sorted(status for status, _ in answers)
        assert statuses == [201, 409, 409], answers
        winner = next(body["template"]["title"] for status, body in answers if status == 201)
        for at in range(3):
            assert nodes.ask(at, "GET", path)[1]["template"]["title"] == winner
    details = [nodes.ask(at, "GET", f"{TEMPLATES}/race")[1] for at in range(3)]
    assert details[0]["versions"] == [1, 2, 3, 4, 5]
    assert details[0] == details[1] == details[2]


def test_a_repeated_request_about_a_template_is_answered_from_its_record_at_every_node(nodes: Nodes) -> None:
    headers = {"idempotency-key": "make-one"}
    answers = [
        nodes.ask(at, "POST", f"{TEMPLATES}/once/versions", {"title": "x"}, headers) for at in range(3)
    ]
    assert answers[0][0] == 201
    assert answers[1] == answers[2] == answers[0]
    assert nodes.ask(2, "GET", f"{TEMPLATES}/once")[1]["versions"] == [1]


def test_a_node_that_starts_later_has_what_was_made_before(nodes: Nodes) -> None:
    assert nodes.ask(0, "PUT", f"{TEMPLATES}/late/versions/1", {"title": "late"})[0] == 201
    at = len(nodes.running)
    nodes.start()
    try:
        assert nodes.ask(at, "GET", f"{TEMPLATES}/late/versions/1")[1]["template"]["title"] == "late"
    finally:
        nodes.running.pop().stop()
        nodes.wait_shared()


TOPICS = "/api/v1/topics"


def test_a_topic_is_one_topic_whichever_nodes_its_subscribers_are_at(nodes: Nodes) -> None:
    users = [f"fan-{number:03}" for number in range(150)]
    status, changed = nodes.ask(0, "POST", f"{TOPICS}/jazz/subscribers", {"add": users})
    assert (status, changed) == (200, {"topic": "jazz", "subscribers": 150, "added": 150, "removed": 0})
    status, changed = nodes.ask(
        1, "POST", f"{TOPICS}/jazz/subscribers", {"add": ["fan-000", 7], "remove": users[-3:]}
    )
    assert (status, changed) == (200, {"topic": "jazz", "subscribers": 148, "added": 1, "removed": 3})
    assert nodes.ask(2, "PUT", f"{TOPICS}/jazz/subscribers/zoe")[0] == 201
    assert nodes.ask(0, "PUT", f"{TOPICS}/jazz/subscribers/zoe")[0] == 200
    assert nodes.ask(1, "DELETE", f"{TOPICS}/jazz/subscribers/7")[0] == 204
    for at in range(3):
        assert nodes.ask(at, "GET", f"{TOPICS}/jazz")[1] == {"topic": "jazz", "subscribers": 148}
        found, cursor = [], ""
        while cursor is not None:
            _, page = nodes.ask(at, "GET", f"{TOPICS}/jazz/subscribers?limit=49&cursor={cursor}")
            assert len(page["items"]) <= 49
            found += page["items"]
            cursor = page["next_cursor"]
        assert found == [*users[:147], "zoe"]
    assert nodes.ask(2, "GET", "/api/v1/users/zoe/export")[1]["topics"] == ["jazz"]


def test_the_list_of_topics_is_gathered_in_pages(nodes: Nodes) -> None:
    names = [f"page-{number:02}" for number in range(25)]
    for number, name in enumerate(names):
        assert nodes.ask(number % 3, "PUT", f"{TOPICS}/{name}/subscribers/{number}")[0] == 201
        assert nodes.ask(number % 3, "PUT", f"{TOPICS}/{name}/subscribers/{number + 1}")[0] == 201
    found, cursor = {}, "page"
    while cursor is not None and cursor < "page-9":
        _, page = nodes.ask(1, "GET", f"{TOPICS}?limit=7&cursor={cursor}")
        found |= {item["topic"]: item["subscribers"] for item in page["items"]}
        cursor = page["next_cursor"]
    assert {name: found.get(name) for name in names} == dict.fromkeys(names, 2)


def test_a_bad_change_of_a_topic_changes_nothing_and_a_repeated_one_is_answered_from_its_record(
    nodes: Nodes,
) -> None:
    path = f"{TOPICS}/strict/subscribers"
    for body, code in (
        ({"add": ["ann"], "remove": ["ann"]}, "conflicting_options"),
        ({}, "invalid_input"),
        ({"add": ["ann", ""]}, "invalid_id"),
    ):
        status, problem = nodes.ask(1, "POST", path, body)
        assert (status, problem["code"]) == (422, code)
    assert nodes.ask(0, "GET", f"{TOPICS}/strict")[1]["subscribers"] == 0
    headers = {"idempotency-key": "topic-1"}
    body = {"add": [f"s{number}" for number in range(20)]}
    answers = [nodes.ask(at, "POST", path, body, headers) for at in range(3)]
    assert answers[0] == (200, {"topic": "strict", "subscribers": 20, "added": 20, "removed": 0})
    assert answers[1] == answers[2] == answers[0]


def test_the_tail_has_what_ends_at_every_node_and_counts_what_it_left_out(nodes: Nodes) -> None:
    _, first = nodes.ask(0, "GET", "/api/v1/tail?limit=1")
    ids = []
    for user in range(12):
        assert (
            nodes.ask(1, "PUT", f"/api/v1/users/{user}/preferences", {"categories": {"ads": False}})[0] == 200
        )
        body = {"user_id": user, "template": "news_v2", "payload": {"title": "x"}, "category": "ads"}
        ids.append(nodes.ask(2, "POST", "/push", body)[1]["id"])
    found: list[str] = []
    place = first["next"]

    def look() -> bool:
        nonlocal place
        # Any node can go on where another one ended.
        _, tail = nodes.ask(len(found) % 3, "GET", f"/api/v1/tail?after={place}")
        found.extend(item["id"] for item in tail["items"])
        assert (tail["missed"], tail["silent"]) == (0, [])
        place = tail["next"]
        return len(found) >= 12

    until(look)
    assert sorted(found) == sorted(ids)
    _, few = nodes.ask(1, "GET", f"/api/v1/tail?limit=5&after={first['next']}")
    assert (len(few["items"]), few["missed"]) == (5, 7)
    for after in ("x", "a.b", "~", "a.1~.2"):
        status, problem = nodes.ask(0, "GET", f"/api/v1/tail?after={after}")
        assert (status, problem["code"]) == (422, "invalid_input")


def test_erasing_a_user_at_any_node_ends_its_subscriptions_too(nodes: Nodes) -> None:
    assert nodes.ask(0, "PUT", f"{TOPICS}/gone/subscribers/erased")[0] == 201
    assert nodes.ask(1, "DELETE", "/api/v1/users/erased/pushes")[0] == 200
    assert nodes.ask(2, "GET", f"{TOPICS}/gone")[1]["subscribers"] == 0


BROADCASTS = "/api/v1/broadcasts"


def begin(nodes: Nodes, at: int, topic: str, **more: Any) -> str:
    body = {"topic": topic, "template": "news_v2", "payload": {"title": topic}, **more}
    status, made = nodes.ask(at, "POST", BROADCASTS, body)
    assert status == 202, made
    return str(made["id"])


def subscribe(nodes: Nodes, topic: str, count: int) -> list[str]:
    users = [f"{topic}-{number:03}" for number in range(count)]
    assert nodes.ask(0, "POST", f"{TOPICS}/{topic}/subscribers", {"add": users})[0] == 200
    return users


def figures(nodes: Nodes, at: int, broadcast: str, status: str) -> dict[str, int] | None:
    """The figures of a broadcast as this node tells them, when it has this status."""
    answered, state = nodes.ask(at, "GET", f"{BROADCASTS}/{broadcast}")
    return dict(state["figures"]) if answered == 200 and state["status"] == status else None


def test_a_broadcast_reaches_every_subscriber_once_whichever_node_owns_its_shard(nodes: Nodes) -> None:
    users = subscribe(nodes, "cast", 200)
    broadcast = begin(nodes, 1, "cast")
    for at in range(3):
        found = until(lambda at=at: figures(nodes, at, broadcast, "done"))  # type: ignore[misc]
        assert (found["accepted"], found["waiting"]) == (200, 200)
    for at, user in enumerate(users[::20]):
        assert [item["data"]["title"] for item in until(partial(inbox, nodes, at % 3, user))] == ["cast"]
    _, page = nodes.ask(2, "GET", f"{BROADCASTS}?limit=1")
    assert [(one["id"], one["status"], one["left"]) for one in page["items"]] == [(broadcast, "done", 0)]
    status, problem = nodes.ask(0, "POST", f"{BROADCASTS}/{broadcast}/pause")
    assert (status, problem["code"]) == (409, "broadcast_ended")


def test_a_broadcast_is_paused_resumed_and_cancelled_from_any_node_and_keeps_its_rate(nodes: Nodes) -> None:
    subscribe(nodes, "slow", 300)
    broadcast = begin(nodes, 0, "slow", rate=60)
    began_s = time.monotonic()
    until(lambda: (figures(nodes, 1, broadcast, "running") or {}).get("accepted", 0) > 10)
    status, state = nodes.ask(2, "POST", f"{BROADCASTS}/{broadcast}/pause")
    elapsed_s = time.monotonic() - began_s
    assert (status, state["status"]) == (200, "paused")
    # A burst of one a node, besides the rate.
    assert state["figures"]["accepted"] <= 60 * elapsed_s + 3
    paused = [figures(nodes, at, broadcast, "paused") for at in (0, 1, 2)]
    assert paused[0] == paused[1] == paused[2]
    assert paused[0] is not None
    assert state["left"] + state["figures"]["accepted"] == 300
    assert nodes.ask(1, "POST", f"{BROADCASTS}/{broadcast}/resume")[1]["status"] == "running"
    until(lambda: (figures(nodes, 0, broadcast, "running") or {}).get("accepted", 0) > paused[0]["accepted"])
    status, state = nodes.ask(1, "POST", f"{BROADCASTS}/{broadcast}/cancel")
    assert (status, state["status"], state["left"]) == (200, "cancelled", 0)
    assert 0 < state["figures"]["accepted"] < 300
    again = nodes.ask(0, "POST", f"{BROADCASTS}/{broadcast}/cancel")
    assert (again[0], again[1]["figures"]["accepted"]) == (200, state["figures"]["accepted"])
    assert nodes.ask(2, "POST", f"{BROADCASTS}/{broadcast}/resume")[0] == 409


def test_a_broadcast_that_is_wrong_is_refused_and_a_repeated_one_is_made_once(nodes: Nodes) -> None:
    body = {"topic": "cast", "template": "news_v2", "payload": {"title": "x"}}
    for more, code in (({"all": True}, "conflicting_options"), ({"rate": 0}, "invalid_input")):
        assert nodes.ask(0, "POST", BROADCASTS, {**body, **more})[1]["code"] == code
    assert nodes.ask(1, "GET", f"{BROADCASTS}/01ARZ3NDEKTSV4RRFFQ69G5FAV")[1]["code"] == "no_broadcast"
    headers = {"idempotency-key": "cast-once"}
    made = [nodes.ask(at, "POST", BROADCASTS, {**body, "topic": "nobody"}, headers) for at in range(3)]
    assert made[0][0] == 202
    assert made[1] == made[2] == made[0]


WEBHOOKS = "/api/v1/webhooks"


def post_to(nodes: Nodes, ats: tuple[int, ...], count: int, stem: str) -> list[str]:
    """Push to so many users over the endpoint of this name, at these nodes in turn; gives the ids."""
    ids = []
    for number in range(count):
        body = {"user_id": f"{stem}-{number}", "template": "news_v2", "payload": {"title": stem}}
        status, push = nodes.ask(
            ats[number % len(ats)], "POST", "/push", {**body, "routes": [f"webhook:{stem}"]}
        )
        assert status == 202, push
        ids.append(push["id"])
    return ids


def ended(nodes: Nodes, at: int, push_id: str) -> str:
    """How a push ended; "" before, and while its shard moves."""
    status, push = nodes.ask(at, "GET", f"/api/v1/pushes/{push_id}")
    return str(push["status"]) if status == 200 and push["status"] not in ("queued", "sent") else ""


def inside(request: Received) -> list[str]:
    body = json.loads(request.body)
    return [part["data"]["id"] for part in (body if isinstance(body, list) else [body])]


async def test_an_endpoint_made_at_one_node_gets_the_pushes_of_all_and_a_410_disables_it_everywhere(
    nodes: Nodes,
) -> None:
    async with Receiver() as receiver:
        made = await asyncio.to_thread(nodes.ask, 0, "PUT", f"{WEBHOOKS}/crm", {"url": receiver.url})
        assert (made[0], "secret" in made[1]) == (201, True)
        ids = await asyncio.to_thread(post_to, nodes, (1, 2, 0), 30, "crm")
        for at, push_id in enumerate(ids):
            assert await asyncio.to_thread(until, partial(ended, nodes, at % 3, push_id)) == "delivered"
        assert sorted(push_id for request in receiver.accepted for push_id in inside(request)) == sorted(ids)
        key = key_of(made[1]["secret"])
        request = receiver.accepted[-1]
        verify(request.headers, request.body, [key], SystemClock.wall_ms())

        receiver.behave = gone
        [last] = await asyncio.to_thread(post_to, nodes, (1,), 1, "crm")
        assert await asyncio.to_thread(until, partial(ended, nodes, 2, last)) == "dead"
    for at in range(3):
        _, state = await asyncio.to_thread(until, partial(is_disabled, nodes, at, "crm"))
        assert state["url"] == receiver.url
    assert nodes.ask(2, "DELETE", f"{WEBHOOKS}/crm")[0] == 204
    assert [nodes.ask(at, "GET", f"{WEBHOOKS}/crm")[0] for at in range(3)] == [404, 404, 404]


def is_disabled(nodes: Nodes, at: int, name: str) -> Any:
    answer = nodes.ask(at, "GET", f"{WEBHOOKS}/{name}")
    return answer if answer[0] == 200 and answer[1]["disabled"] else None


def test_an_endpoint_put_at_all_nodes_at_once_is_the_same_everywhere_afterwards(nodes: Nodes) -> None:
    urls = [f"http://127.0.0.1:9/{at}" for at in range(3)]
    answers = at_once(
        *(partial(nodes.ask, at, "PUT", f"{WEBHOOKS}/race", {"url": urls[at]}) for at in range(3))
    )
    assert sorted(status for status, _ in answers) in ([201, 409, 409], [200, 201, 409], [200, 200, 201])
    found = {nodes.ask(at, "GET", f"{WEBHOOKS}/race")[1]["url"] for at in range(3)}
    assert len(found) == 1
    assert found <= set(urls)


def test_erasing_a_user_at_any_node_takes_its_endpoint_from_all(nodes: Nodes) -> None:
    body = {"url": "http://127.0.0.1:9/", "user_id": "hooked"}
    assert nodes.ask(0, "PUT", f"{WEBHOOKS}/hers", body)[0] == 201
    assert nodes.ask(1, "DELETE", "/api/v1/users/hooked/pushes")[0] == 200
    assert [nodes.ask(at, "GET", f"{WEBHOOKS}/hers")[0] for at in range(3)] == [404, 404, 404]


def counts(nodes: Nodes, at: int, users: list[str]) -> Counter[int]:
    """How many users have so many pushes, in whatever state, as one node tells."""

    def count(user: str) -> int:
        def look() -> Any:
            status, export = nodes.ask(at, "GET", f"/api/v1/users/{user}/export")
            return [len(export["pushes"])] if status == 200 else None

        return int(until(look)[0])

    with ThreadPoolExecutor(8) as pool:
        return Counter(pool.map(count, users))


def test_nobody_is_left_out_or_served_twice_when_the_servers_answers_get_lost(nodes: Nodes) -> None:
    assert nodes.redis is not None
    users = subscribe(nodes, "cut", 600)
    broadcast = begin(nodes, 0, "cut", rate=400)
    for _ in range(8):
        nodes.redis.command("CLIENT", "KILL", "TYPE", "normal")
        time.sleep(0.1)
    found = until(lambda: figures(nodes, 1, broadcast, "done"), 30)
    assert found["accepted"] == 600
    assert counts(nodes, 2, users) == {1: 600}


async def test_a_node_killed_in_the_middle_of_a_broadcast_and_of_posts_loses_none_and_doubles_no_push(
    nodes: Nodes,
) -> None:
    users = subscribe(nodes, "kill", 900)
    async with Receiver() as receiver:
        receiver.behave = hung
        made = await asyncio.to_thread(nodes.ask, 0, "PUT", f"{WEBHOOKS}/killed", {"url": receiver.url})
        assert made[0] == 201
        ids = await asyncio.to_thread(post_to, nodes, (0, 1), 60, "killed")
        broadcast = await asyncio.to_thread(begin, nodes, 0, "kill", rate=200)
        running = partial(figures, nodes, 0, broadcast, "running")
        await asyncio.to_thread(until, lambda: (running() or {}).get("accepted", 0) > 100)
        nodes.running[2].kill()
        receiver.behave = healthy
        # What a dead node's shards have is not known before they are taken over.
        done = partial(figures, nodes, 0, broadcast, "done")
        found = await asyncio.to_thread(until, done, 30)
        assert (found["accepted"], found["waiting"]) == (900, 900)
        assert await asyncio.to_thread(counts, nodes, 1, users) == {1: 900}
        for push_id in ids:
            assert await asyncio.to_thread(until, partial(ended, nodes, 0, push_id)) == "delivered"
        assert set(ids) == {push_id for request in receiver.accepted for push_id in inside(request)}
