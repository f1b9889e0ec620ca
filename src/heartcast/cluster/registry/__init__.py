"""Where nodes and shards have their leases.

A lease is a promise that ends by itself. A node that keeps saying it is there stays in the
list; a node that owns a shard and renews its lease keeps it. Whoever stops doing so, for
whatever reason, is replaced when its lease ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from heartcast.cluster.node import Node
from heartcast.core.errors import StoreUnavailable


class Lease(NamedTuple):
    """A shard's lease, as it was seen."""

    node: str
    """Id of its owner."""
    left_s: float
    """How long it still ran when the registry looked, > 0."""


class View(NamedTuple):
    """What the registry knew at one moment."""

    nodes: tuple[Node, ...]
    """The living ones, sorted by id; the one that asks is among them."""
    leases: Mapping[int, Lease]
    """By shard; shards without an owner are absent."""
    given_back: frozenset[int]
    """Shards without an owner that their last owner gave back on purpose."""
    renewed: frozenset[int]
    """Which of the shards that were asked for are the asking node's own for another lease."""
    life: str
    """Another one when the registry may have lost what it had acknowledged."""


Viewed = Callable[[View | StoreUnavailable], None]
Acquired = Callable[[int | StoreUnavailable | None], None]
Done = Callable[[StoreUnavailable | None], None]


class Registry(Protocol):
    """Leases of nodes and of shards.

    Guarantees, each with a contract test of the same number:

    1. **One owner.** Of any number of nodes that acquire a shard, one gets it; the others are
       told None until the lease ended or was given back.
    2. **Epochs rise.** Each acquisition gives an epoch greater than all before it for that
       shard, >= 1, also after the registry lost its last second.
    3. **Leases end.** A lease that is not renewed ends ``lease_s`` after the registry granted
       it, never earlier, and the shard can be acquired.
    4. **Renewal needs the epoch.** ``beat`` renews a shard only while its last acquisition is
       the one with this epoch; others are missing from ``View.renewed``.
    5. **Giving back is at once.** After ``release`` with the right epoch anybody can acquire
       the shard, and the view says that it was given back. With another epoch nothing happens.
    6. **Living nodes.** A view has every node that beat within its lease, as it last described
       itself, and none that left.
    7. **A loss shows.** While ``View.life`` stays the same, nothing that was acknowledged is
       forgotten. It changes when the registry was emptied, restarted, or may have been meanwhile.
    8. **Once answered.** Every callback is called exactly once, at once or on the loop; what
       cannot be known is ``StoreUnavailable``, and then the call may or may not have had its effect.
    """

    def beat(self, node: Node, held: Mapping[int, int], lease_s: float, done: Viewed) -> None:
        """Renew the node's lease and those of the shards it holds (shard → epoch); look around."""
        ...

    def acquire(self, shard: int, node_id: str, lease_s: float, done: Acquired) -> None:
        """Take a shard that is free or this node's already: its new epoch, or None: somebody has it."""
        ...

    def release(self, shard: int, node_id: str, epoch: int, done: Done) -> None:
        """Give a shard back."""
        ...

    def leave(self, node_id: str, done: Done) -> None:
        """Take the node off the list."""
        ...

    async def close(self) -> None:
        """Answer every call and hang up. Repeating it does nothing."""
        ...
