"""One running process, as the others know it."""

from __future__ import annotations

import msgspec


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says about itself; it is kept in the registry as JSON.

    Fields that a later release adds are ignored by an earlier one.
    """

    id: str
    """New at every start: a node that was restarted holds nothing of what it held before."""

    name: str
    """The same after a restart, so that the ring leads the same keys to it again."""

    url: str = ""
    """Where clients reach it; "" where that is unknown."""

    admin_url: str = ""
    """Where its own metrics and health are, on its own machine; "" when it has no such port."""

    group: str = ""
    """Processes with the same group share a port and speak as one; "" stands alone."""

    started_ms: int = 0
    """Wall time of its start."""

    version: str = ""
    """Its release of heartcast."""

    is_leaving: bool = False
    """It hands its shards over and takes none."""
