"""Leases in Redis or Valkey: one write a second and node, one script per lease.

A lease ends by the server's clock. It began when the server got the command, which is later
than when the node sent it; so a node that counts from its own sending never believes longer
than the server does, however long the answer took.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from heartcast.backends.redis_pipe import RedisPipe, pack
from heartcast.cluster.node import Node
from heartcast.cluster.registry import Acquired, Done, Lease, View, Viewed
from heartcast.cluster.registry.scripts import (
    ACQUIRE,
    ALL,
    BEAT,
    GIVEN_BACK,
    LAYOUT,
    LEAVE,
    LOOK,
    RELEASE,
    RENEW,
    Names,
)
from heartcast.core.errors import SettingsError, StoreUnavailable

_WANTED_TYPES = {"nodes": "hash", "leases": "zset", "life": "string", "owner": "string", "epoch": "string"}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Node).decode


class _Beat:
    """A beat under way: its replies come in the order of its commands."""

    __slots__ = ("done", "failure", "given_back", "leases", "left", "life", "nodes", "pipe", "renewed")

    def __init__(self, pipe: RedisPipe, shards: int, done: Viewed) -> None:
        self.pipe = pipe
        self.done = done
        self.life = ""
        self.left = shards + 1
        self.failure: StoreUnavailable | None = None
        self.nodes: list[Node] = []
        self.leases: dict[int, Lease] = {}
        self.given_back: set[int] = set()
        self.renewed: set[int] = set()

    def nodes_replied(self, reply: Any) -> None:
        if not isinstance(reply, StoreUnavailable):
            try:
                life, nodes = reply
                # A server that restarted may have lost its last second; we notice by the connection.
                self.life = f"{life}/{self.pipe.connections}"
                self.nodes = sorted((_decode(text) for text in nodes), key=lambda node: node.id)
            except msgspec.DecodeError:
                reply = StoreUnavailable("redis: the list of nodes holds something that is not a node")
        self._replied(reply)

    def shard_replied(self, shard: int) -> Callable[[Any], None]:
        def replied(reply: Any) -> None:
            if not isinstance(reply, StoreUnavailable):
                self._see(shard, *reply)
            self._replied(reply)

        return replied

    def _see(self, shard: int, owner: str, left_ms: int, renewed: int = 0) -> None:
        if owner == GIVEN_BACK:
            self.given_back.add(shard)
        elif owner and left_ms > 0:
            self.leases[shard] = Lease(owner, left_ms / 1000)
        if renewed:
            self.renewed.add(shard)

    def _replied(self, reply: Any) -> None:
        if isinstance(reply, StoreUnavailable):
            self.failure = reply
        self.left -= 1
        if self.left:
            return
        if self.failure is not None:
            self.done(self.failure)
        else:
            given_back, renewed = frozenset(self.given_back), frozenset(self.renewed)
            self.done(View(tuple(self.nodes), self.leases, given_back, renewed, self.life))


class RedisRegistry:
    """Implements ``Registry``. Make it on a running loop, ``open`` it, and ``close`` it there.

    Args:
        url: ``redis://…``; never logged.
        shards: How many there are.
        prefix: In front of every key.
        timeout_s: Longest wait for one answer, well below a lease.

    Raises:
        SettingsError: the URL is not one.
    """

    def __init__(self, url: str, shards: int, *, prefix: str = "hc", timeout_s: float = 1.0) -> None:
        self._pipe = RedisPipe(url, timeout_s=timeout_s, scripts=ALL)
        self._shards = shards
        self._names = Names(prefix)

    async def open(self) -> None:
        """Connect, and see whether our names are free or ours.

        Raises:
            SettingsError: something else is kept at one of our keys, or this cluster has another
                number of shards.
            StoreUnavailable: the server cannot be reached.
        """
        names = self._names
        await self._check_shape()
        keys = {names.nodes: "nodes", names.leases: "leases", names.life: "life"}
        for shard in range(self._shards):
            keys |= {names.owner(shard): "owner", names.epoch(shard): "epoch"}
        for key, kind in keys.items():
            found = await self._pipe.ask("TYPE", key)
            if found not in ("none", _WANTED_TYPES[kind]):
                raise _foreign(key, found)
            if kind == "epoch" and found != "none":
                epoch = await self._pipe.ask("GET", key)
                if epoch is not None and not epoch.isdigit():
                    raise _foreign(key, "text")

    async def _check_shape(self) -> None:
        key, shape = self._names.shape, f"{LAYOUT} {self._shards}"
        if (kind := await self._pipe.ask("TYPE", key)) not in ("none", "string"):
            raise _foreign(key, kind)
        await self._pipe.ask("SET", key, shape, "NX")
        found = await self._pipe.ask("GET", key)
        if found == shape:
            return
        layout, _, shards = found.partition(" ")
        if layout != LAYOUT or not shards.isdecimal():
            raise _foreign(key, "another layout")
        raise SettingsError(
            f"this cluster has {shards} shards and this node is set to {self._shards}; "
            "users would change their shard, so they must be equal",
            path="push.shards",
        )

    def beat(self, node: Node, held: Mapping[int, int], lease_s: float, done: Viewed) -> None:
        names, send, lease_ms = self._names, self._pipe.send, round(lease_s * 1000)
        beat = _Beat(self._pipe, self._shards, done)
        described = _encode(node).decode()
        send(
            pack("EVALSHA", BEAT.sha, 3, names.nodes, names.leases, names.life, node.id, described, lease_ms),
            beat.nodes_replied,
        )
        for shard in range(self._shards):
            owner, epoch = names.owner(shard), held.get(shard)
            if epoch is None:
                command = pack("EVALSHA", LOOK.sha, 1, owner, lease_ms)
            else:
                command = pack(
                    "EVALSHA", RENEW.sha, 2, owner, names.epoch(shard), node.id, str(epoch), lease_ms
                )
            send(command, beat.shard_replied(shard))

    def acquire(self, shard: int, node_id: str, lease_s: float, done: Acquired) -> None:
        names, lease_ms = self._names, round(lease_s * 1000)
        command = pack("EVALSHA", ACQUIRE.sha, 2, names.owner(shard), names.epoch(shard), node_id, lease_ms)
        self._pipe.send(command, done)

    def release(self, shard: int, node_id: str, epoch: int, done: Done) -> None:
        names = self._names
        command = pack("EVALSHA", RELEASE.sha, 2, names.owner(shard), names.epoch(shard), node_id, str(epoch))
        self._pipe.send(command, _done(done))

    def leave(self, node_id: str, done: Done) -> None:
        names = self._names
        self._pipe.send(pack("EVALSHA", LEAVE.sha, 2, names.nodes, names.leases, node_id), _done(done))

    async def close(self) -> None:
        await self._pipe.close()


def _done(done: Done) -> Callable[[Any], None]:
    return lambda reply: done(reply if isinstance(reply, StoreUnavailable) else None)


def _foreign(key: str, found: str) -> SettingsError:
    return SettingsError(
        f"the key {key} in this Redis holds something that is not heartcast's ({found}); "
        "use another database, or set cluster.prefix",
        path="cluster.redis_url",
    )
