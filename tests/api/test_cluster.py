"""Which nodes there are and where a key belongs, as a load balancer asks."""

import json

import pytest

from heartcast.api.cluster import routes
from heartcast.api.route import ANONYMOUS, Answer, Call, Identity
from heartcast.cluster.membership import Membership
from heartcast.core.errors import Forbidden, InvalidInput
from heartcast.testing import ManualClock
from heartcast.testing.cluster import Town

SERVER = Identity(is_server=True)


@pytest.fixture
def town(clock: ManualClock) -> Town:
    town = Town(clock)
    for name in ("a", "b", "c"):
        node = town.make(name)
        node.introduce(url=f"http://{name}.example.org:8080")
        node.start()
    town.advance(5)
    return town


def ask(
    membership: Membership,
    path: str,
    query: str = "",
    identity: Identity = SERVER,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> Answer:
    handler = next(route.handler for route in routes(membership) if route.path == path)
    answer = handler(
        Call(query=query.encode(), identity=identity, headers=headers, respond=lambda answer: None)
    )
    assert isinstance(answer, Answer)
    return answer


def test_nodes_lists_everybody_with_their_shards(town: Town) -> None:
    answer = json.loads(ask(town.nodes[1], "/api/v1/nodes").body)
    assert [(node["name"], node["is_this"]) for node in answer["nodes"]] == [
        ("a", False),
        ("b", True),
        ("c", False),
    ]
    assert sorted(shard for node in answer["nodes"] for shard in node["shards"]) == list(range(64))
    assert answer["unowned"] == []
    assert answer["nodes"][0]["url"] == "http://a.example.org:8080"


def test_every_node_places_a_key_alike(town: Town) -> None:
    for key in ("u456", "12345", "post_7", "%C3%BCn%C3%AF"):
        answers = {ask(node, "/api/v1/placement", f"key={key}").body for node in town.nodes}
        assert len(answers) == 1
    place = json.loads(ask(town.nodes[0], "/api/v1/placement", "key=12345").body)
    assert place["shard"] == 12345 % 64
    assert place["node"]["url"].startswith("http://")
    assert place["owner"]["id"] == town.nodes[0].owner_of(place["shard"])


def test_an_answer_may_be_kept_until_the_ring_or_the_owner_changes(town: Town) -> None:
    first, second, _ = town.nodes
    key = next(f"key={n}" for n in range(64) if first.owner_of(n) == second.node)
    answer = ask(first, "/api/v1/placement", key)
    headers = dict(answer.headers)
    assert headers[b"cache-control"] == b"private, max-age=5"
    known = [(b"if-none-match", headers[b"etag"])]
    assert ask(first, "/api/v1/placement", key, headers=known).status == 304

    town.kill(second)
    town.advance(7)
    again = ask(first, "/api/v1/placement", key, headers=known)
    assert again.status == 200
    assert json.loads(again.body)["owner"]["id"] != second.node


def test_a_shard_that_nobody_owns_is_said_to_be(town: Town) -> None:
    first, second, third = town.nodes
    shards = second.held()
    town.kill(second)
    town.cut(third)
    town.advance(4.2)
    assert set(json.loads(ask(third, "/api/v1/nodes").body)["unowned"]) >= set(third.held())
    town.advance(3)
    assert json.loads(ask(first, "/api/v1/nodes").body)["unowned"] == []
    assert first.owner_of(shards[0]) == first.node


@pytest.mark.parametrize("path", ["/api/v1/nodes", "/api/v1/placement"])
def test_only_servers_may_ask(town: Town, path: str) -> None:
    for identity in (ANONYMOUS, Identity(user="ann")):
        with pytest.raises(Forbidden, match="API key"):
            ask(town.nodes[0], path, "key=x", identity)


@pytest.mark.parametrize("query", ["", "key=", "other=1", f"key={'x' * 201}", "key=%00"])
def test_a_key_that_may_not_be_one_is_refused(town: Town, query: str) -> None:
    with pytest.raises(InvalidInput):
        ask(town.nodes[0], "/api/v1/placement", query)
