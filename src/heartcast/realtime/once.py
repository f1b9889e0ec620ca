"""Publications that may be handed in again: which keys were seen lately, and what became of them."""

from __future__ import annotations

from collections import OrderedDict

from heartcast.core.clock import Clock
from heartcast.realtime.log import Position

TTL_S = 300.0
"""A key is recognised for so long, as the Centrifugo server does."""
_MAX_KEYS = 65_536


class Once:
    """Keys and their positions. The key seen longest ago goes first when there are too many."""

    def __init__(self, clock: Clock) -> None:
        self._now_s = clock.monotonic_s
        self._known: OrderedDict[str, tuple[float, Position]] = OrderedDict()

    def known(self, channel: str, key: str | None) -> Position | None:
        """Where a publication with this key was put; None: it is news."""
        if key is None:
            return None
        until_s, position = self._known.get(f"{channel} {key}", (0.0, _NOWHERE))
        return position if until_s > self._now_s() else None

    def note(self, channel: str, key: str | None, position: Position) -> None:
        if key is None:
            return
        name = f"{channel} {key}"
        self._known.pop(name, None)
        self._known[name] = (self._now_s() + TTL_S, position)
        if len(self._known) > _MAX_KEYS:
            self._known.popitem(last=False)


_NOWHERE = Position(0, "")
