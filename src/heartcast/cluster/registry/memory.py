"""Leases in this process: for one node, and for many nodes in one test."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

from heartcast.cluster.node import Node
from heartcast.cluster.registry import Acquired, Done, Lease, View, Viewed
from heartcast.core.clock import Clock

_lives = count()


class _Shard:
    """Who owns one shard, until when, and how often it was acquired."""

    __slots__ = ("epoch", "is_given_back", "owner", "until_s")

    def __init__(self) -> None:
        self.owner = ""
        self.until_s = 0.0
        self.epoch = 0
        self.is_given_back = False


class MemoryRegistry:
    """Implements ``Registry``; the reference. Nodes in one process share one.

    Args:
        shards: How many there are.
    """

    def __init__(self, clock: Clock, shards: int) -> None:
        self._now_s = clock.monotonic_s
        self._nodes: dict[str, tuple[Node, float]] = {}
        self._life = f"{next(_lives)}"
        self._shards = [_Shard() for _ in range(shards)]

    def beat(self, node: Node, held: Mapping[int, int], lease_s: float, done: Viewed) -> None:
        now_s = self._now_s()
        self._nodes[node.id] = node, now_s + lease_s
        self._nodes = {name: entry for name, entry in self._nodes.items() if entry[1] > now_s}
        renewed = {shard for shard, epoch in held.items() if self._renew(shard, node.id, epoch, lease_s)}
        leases = {
            number: Lease(shard.owner, shard.until_s - now_s)
            for number, shard in enumerate(self._shards)
            if shard.until_s > now_s
        }
        done(
            View(
                nodes=tuple(entry[0] for _, entry in sorted(self._nodes.items())),
                leases=leases,
                given_back=frozenset(n for n, shard in enumerate(self._shards) if shard.is_given_back),
                renewed=frozenset(renewed),
                life=self._life,
            )
        )

    def _renew(self, number: int, node_id: str, epoch: int, lease_s: float) -> bool:
        shard = self._shards[number]
        # One that ended is renewed as well, as long as nobody acquired it since: the epoch tells.
        if shard.owner != node_id or shard.epoch != epoch or shard.is_given_back:
            return False
        shard.until_s = self._now_s() + lease_s
        return True

    def acquire(self, shard: int, node_id: str, lease_s: float, done: Acquired) -> None:
        found = self._shards[shard]
        if found.until_s > self._now_s() and found.owner != node_id:
            return done(None)
        found.owner, found.until_s = node_id, self._now_s() + lease_s
        found.is_given_back = False
        found.epoch += 1
        return done(found.epoch)

    def release(self, shard: int, node_id: str, epoch: int, done: Done) -> None:
        found = self._shards[shard]
        if found.owner == node_id and found.epoch == epoch:
            found.until_s = 0.0
            found.is_given_back = True
        done(None)

    def leave(self, node_id: str, done: Done) -> None:
        self._nodes.pop(node_id, None)
        done(None)

    async def close(self) -> None:
        """Nothing waits here."""
