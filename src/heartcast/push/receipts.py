"""What devices report about a push: exposed, opened, clicked, converted.

A receipt is known by push, event and device: sending it again changes nothing. ``delivered``
is an acknowledgement and ends the push. Receipts are kept as long as the push's record,
in memory; ``on_receipt`` hands each new one to whoever counts conversions.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from heartcast.push.model import Push


class Event(Enum):
    """What happened on a device."""

    DELIVERED = "delivered"
    EXPOSED = "exposed"
    OPENED = "opened"
    CLICKED = "clicked"
    CONVERTED = "converted"


MAX_DEVICES = 20
"""Devices whose receipts are told apart per push; more are counted as one."""
MAX_PUSHES = 200_000

OnReceipt = Callable[[Push, Event, str, int], None]
"""``on_receipt(push, event, device, at_ms)``."""


class Receipts:
    """Receipts of pushes that are known."""

    def __init__(self) -> None:
        self._receipts: dict[str, dict[tuple[Event, str], int]] = {}
        self.counts = dict.fromkeys(Event, 0)
        """New receipts by event."""
        self.on_receipt: OnReceipt | None = None

    def add(self, push: Push, event: Event, device: str, at_ms: int) -> bool:
        """Take a receipt; False: it was known."""
        if push.id not in self._receipts and len(self._receipts) >= MAX_PUSHES:
            del self._receipts[next(iter(self._receipts))]
        known = self._receipts.setdefault(push.id, {})
        if len(known) >= MAX_DEVICES * len(Event):
            device = ""
        if (event, device) in known:
            return False
        known[event, device] = at_ms
        self.counts[event] += 1
        if self.on_receipt is not None:
            self.on_receipt(push, event, device, at_ms)
        return True

    def first(self, push_id: str) -> dict[str, int]:
        """Wall time of the first receipt of each event."""
        firsts: dict[str, int] = {}
        for (event, _), at_ms in self._receipts.get(push_id, {}).items():
            firsts[event.value] = min(at_ms, firsts.get(event.value, at_ms))
        return firsts

    def forget(self, push_id: str) -> None:
        self._receipts.pop(push_id, None)
