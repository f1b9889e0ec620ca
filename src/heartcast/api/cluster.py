"""REST of the cluster, for load balancers, edge caches and those who run it.

    GET /api/v1/nodes              the living nodes and the shards they own
    GET /api/v1/placement?key=     where a user or an item is best served

Every node answers both, and every node serves every key: who sends a request to the node that
``placement`` names saves a hop, and who does not loses nothing. The answer may be kept for a
few seconds; its tag changes with the ring and the shard's owner.
"""

from __future__ import annotations

import msgspec

from heartcast.api.conditional import matches
from heartcast.api.route import Answer, Call, Headers, Parameter, Route
from heartcast.cluster.membership import Membership
from heartcast.cluster.node import Node
from heartcast.cluster.placement import place_of, shards_by_node
from heartcast.core.clock import rfc3339
from heartcast.core.errors import Forbidden, InvalidInput
from heartcast.core.names import check_id
from heartcast.resilience.shedding import Priority

_NO_STORE: Headers = ((b"cache-control", b"no-store"),)
# Nodes come and go within seconds; meanwhile a stale answer costs a hop.
_BRIEFLY = (b"cache-control", b"private, max-age=5")

_encode = msgspec.json.Encoder().encode


class NodeState(msgspec.Struct, frozen=True):
    """One living node."""

    id: str
    """New at every start."""
    name: str
    """The same after a restart; what the ring places by."""
    url: str
    """Where clients reach it."""
    admin_url: str
    """Where it shows its own metrics, on its own machine; empty when it has no such port."""
    started_at: str
    """RFC 3339, UTC."""
    version: str
    is_leaving: bool
    """It hands its shards over and is about to stop."""
    is_this: bool
    """Whether it is the one that answers."""
    shards: list[int]
    """What it owns."""


class Nodes(msgspec.Struct, frozen=True):
    """Who is there."""

    ring: str
    """Version of the ring."""
    unowned: list[int]
    """Shards that nobody owns now; empty but for the seconds after a node died."""
    nodes: list[NodeState]


class PlacedAt(msgspec.Struct, frozen=True):
    """A node that something belongs to."""

    id: str
    name: str
    url: str


class Placement(msgspec.Struct, frozen=True):
    """Where a key belongs."""

    key: str
    node: PlacedAt
    """By the ring: where its requests and its cache are best placed."""
    shard: int
    """Where the pushes of a user with this id wait."""
    owner: PlacedAt | None
    """Who owns this shard; null while nobody does."""
    ring: str
    """Version of the ring; another one when nodes came or went."""


def routes(membership: Membership) -> list[Route]:
    """The routes of the cluster."""

    def nodes(call: Call) -> Answer:
        _check_caller(call)
        owned = shards_by_node(membership)
        everybody = {shard for shards in owned.values() for shard in shards}
        state = Nodes(
            membership.ring.version,
            [shard for shard in range(membership.shards) if shard not in everybody],
            [_node_state(node, owned[node.id], node.id == membership.node) for node in membership.nodes()],
        )
        return Answer(200, _encode(state), _NO_STORE)

    def placement(call: Call) -> Answer:
        _check_caller(call)
        key = _key(call)
        place = place_of(membership, key)
        etag = f'W/"{place.ring}-{place.shard}-{place.owner or ""}"'.encode()
        headers = ((b"etag", etag), _BRIEFLY)
        if matches(call.header(b"if-none-match"), etag):
            return Answer(304, b"", headers)
        owner = membership.find(place.owner) if place.owner else None
        answer = Placement(
            key, _placed(place.node), place.shard, None if owner is None else _placed(owner), place.ring
        )
        return Answer(200, _encode(answer), headers)

    return [
        Route(
            method="GET",
            path="/api/v1/nodes",
            handler=nodes,
            summary="The living nodes, and which shards each owns.",
            tag="operation",
            answers={200: Nodes},
            priority=Priority.CRITICAL,
        ),
        Route(
            method="GET",
            path="/api/v1/placement",
            handler=placement,
            summary="Where a user or an item is best served, by the ring; for load balancers and caches.",
            tag="operation",
            answers={200: Placement, 304: None},
            parameters=(Parameter(name="key", summary="A user's id, or any other key.", is_required=True),),
        ),
    ]


def _check_caller(call: Call) -> None:
    # It names the machines behind the public address.
    if not call.identity.is_server:
        raise Forbidden("only servers may ask where nodes are; use an API key")


def _key(call: Call) -> str:
    values = call.query_values().get("key")
    if not values:
        raise InvalidInput("key is missing, as in /api/v1/placement?key=u456")
    return check_id(values[-1])


def _placed(node: Node) -> PlacedAt:
    return PlacedAt(node.id, node.name, node.url)


def _node_state(node: Node, shards: list[int], is_this: bool) -> NodeState:
    return NodeState(
        id=node.id,
        name=node.name,
        url=node.url,
        admin_url=node.admin_url,
        started_at=rfc3339(node.started_ms),
        version=node.version,
        is_leaving=node.is_leaving,
        is_this=is_this,
        shards=shards,
    )
