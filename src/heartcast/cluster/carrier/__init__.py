"""How messages travel between nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from heartcast.core.errors import StoreUnavailable

Arrived = Callable[[bytes], None]
Handed = Callable[[int | StoreUnavailable], None]


class Carrier(Protocol):
    """Carries messages between nodes. One per node.

    Guarantees, each with a contract test of the same number:

    1. **At most once.** A message arrives at the node it is for once, or not at all.
    2. **In order.** What arrives of one sender arrives in the order in which it was sent.
    3. **To all.** ``send_all`` reaches every node that has entered, the sender included.
    4. **Known to be gone.** ``done`` is called exactly once, with the number of nodes that the
       message was handed to: 0 when nobody of that name has entered.
    """

    async def enter(self, node_id: str, arrived: Arrived) -> None:
        """Take messages for this node from now on; called once, before anything is sent.

        Raises:
            StoreUnavailable: the carrier cannot be reached.
        """
        ...

    def send(self, node_id: str, message: bytes, done: Handed) -> None: ...

    def send_all(self, message: bytes, done: Handed) -> None: ...

    async def close(self) -> None:
        """Take no more messages. Repeating it does nothing."""
        ...
