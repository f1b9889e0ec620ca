"""Messages between nodes of one process: for tests, and for a node that is alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heartcast.cluster.carrier import Arrived, Handed

Defer = Callable[[Callable[[], Any]], Any]


class MemoryStreet:
    """What the carriers of one process share.

    Args:
        defer: Calls its argument soon (``loop.call_soon``): nothing arrives while it is sent.
    """

    def __init__(self, defer: Defer) -> None:
        self.defer = defer
        self.doors: dict[str, Arrived] = {}


class MemoryCarrier:
    """Implements ``Carrier``; the reference."""

    def __init__(self, street: MemoryStreet) -> None:
        self._street = street
        self._id = ""

    async def enter(self, node_id: str, arrived: Arrived) -> None:
        self._id = node_id
        self._street.doors[node_id] = arrived

    def send(self, node_id: str, message: bytes, done: Handed) -> None:
        self._hand_over([node_id] if node_id in self._street.doors else [], message, done)

    def send_all(self, message: bytes, done: Handed) -> None:
        self._hand_over(list(self._street.doors), message, done)

    def _hand_over(self, ids: list[str], message: bytes, done: Handed) -> None:
        def arrive() -> None:
            for id in ids:  # noqa: A001 - it is one
                if id in self._street.doors:
                    self._street.doors[id](message)

        self._street.defer(arrive)
        self._street.defer(lambda: done(len(ids)))

    async def close(self) -> None:
        self._street.doors.pop(self._id, None)
