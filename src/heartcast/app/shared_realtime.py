"""Channels among many nodes: where they are kept, and what reaches the hubs of the others."""

from __future__ import annotations

from heartcast.app.settings import Settings
from heartcast.realtime.realtime import Shared


def shared_realtime(settings: Settings) -> Shared | None:
    """Log, broker and presence that all nodes have together; None where this node has its own.

    Raises:
        SettingsError: the URL of Redis is not one.
    """
    options = settings.cluster
    if not options.redis_url or "realtime" in options.local:
        return None
    from heartcast.realtime.shared import SharedByRedis

    return SharedByRedis(options.redis_url, settings.realtime, prefix=options.prefix)
