"""What load balancers and edge caches ask: which nodes there are, and where a key belongs.

Every node answers alike, since every node knows the same ring. An answer that is a few
seconds old is still useful: any node serves any key, the right one only more cheaply.
"""

from __future__ import annotations

from typing import NamedTuple

from heartcast.cluster.membership import Membership
from heartcast.cluster.node import Node
from heartcast.core.hashing import shard_of


class Place(NamedTuple):
    """Where a key belongs."""

    node: Node
    """By the ring."""
    shard: int
    """Its shard, if the key is a user's id."""
    owner: str | None
    """Id of the node that owns this shard; None while nobody does."""
    ring: str
    """Version of the ring: another one when nodes came or went."""


def place_of(membership: Membership, key: str) -> Place:
    """Where a user or an item belongs.

    Args:
        key: A user's id, for whom the shard means something, or any other key.
    """
    shard = shard_of(key, membership.shards)
    return Place(membership.node_of(key), shard, membership.owner_of(shard), membership.ring.version)


def shards_by_node(membership: Membership) -> dict[str, list[int]]:
    """Which shards each living node owns, in order."""
    owned: dict[str, list[int]] = {node.id: [] for node in membership.nodes()}
    for shard in range(membership.shards):
        owner = membership.owner_of(shard)
        if owner in owned:
            owned[owner].append(shard)
    return owned
