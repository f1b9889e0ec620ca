"""What the hubs of several nodes have together, on one Redis or Valkey: log, broker, presence.

Two connections: commands of a tick go out together on the one, publications come in on
the other.
"""

from __future__ import annotations

from heartcast.backends.redis_pipe import RedisPipe
from heartcast.realtime.broker import redis as broker
from heartcast.realtime.hub import Hub
from heartcast.realtime.log import redis as log
from heartcast.realtime.namespaces import history_limits
from heartcast.realtime.options import RealtimeOptions
from heartcast.realtime.presence import redis as presence


class SharedByRedis:
    """Implements ``realtime.Shared``. Make it on a running loop; the hub's owner starts and closes it.

    Args:
        url: ``redis://…``; never logged.
        prefix: In front of every key and channel; applications that share a server need one each.

    Raises:
        SettingsError: the URL is not one.
    """

    def __init__(self, url: str, options: RealtimeOptions, *, prefix: str = "hc") -> None:
        timeout_s, limits = options.redis_timeout_s, history_limits(options)
        self._names = log.Names(prefix)
        self._pipe = RedisPipe(
            url, timeout_s=timeout_s, scripts=(*log.SCRIPTS, *broker.SCRIPTS, *presence.SCRIPTS)
        )
        self.log = log.RedisLog(self._pipe, limits, names=self._names)
        self.broker = broker.RedisBroker(
            url,
            pipe=self._pipe,
            log=self.log,
            is_logged=lambda channel: limits(channel)[0] > 0,
            timeout_s=timeout_s,
            compare_s=options.compare_s,
            names=self._names,
        )
        self._presence: presence.RedisPresence | None = None

    def follow(self, hub: Hub) -> None:
        """Count the hub's members."""
        self._presence = presence.RedisPresence(self._pipe, hub.members, node=hub.node, names=self._names)
        hub.presence = self._presence

    def repairs(self) -> dict[str, int]:
        """``realtime.Shared``."""
        return {
            "healed": self.broker.healed,
            "lost": self.broker.losses,
            "presence": self._presence.repairs if self._presence is not None else 0,
        }

    def start(self) -> None:
        self.broker.start()
        if self._presence is not None:
            self._presence.start()

    async def close(self) -> None:
        """Hang up, after what is under way. Repeating it does nothing."""
        if self._presence is not None:
            self._presence.stop()
        await self.broker.close()
        await self._pipe.close()
