"""The push domain of a node among others: hosts, channels and routes of the shards, joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from heartcast.api.push_composed import Compose
from heartcast.api.route import Route
from heartcast.app.cluster import Cluster
from heartcast.app.settings import Settings
from heartcast.app.shard_channels import ShardChannels
from heartcast.app.shard_host import Parts
from heartcast.app.shard_hosts import ShardHosts
from heartcast.app.shard_routes import ShardRoutes
from heartcast.app.watchers import Watchers
from heartcast.push.broadcast_parts import Directory
from heartcast.push.chores import Chores
from heartcast.push.commons import Commons
from heartcast.push.commons.journal import CommonsJournal
from heartcast.push.inbox.memory import MemoryInbox
from heartcast.push.model import State
from heartcast.push.once import KIND as ONCE
from heartcast.push.routes import RouteHealth
from heartcast.push.service import FORGET_S, TICK_S, PushService
from heartcast.push.template_store.commons import CommonsTemplateStore
from heartcast.push.webhooks import KIND as WEBHOOKS
from heartcast.realtime.hub import Hub
from heartcast.realtime.log import ChannelLog


class ManyNodes:
    """Implements ``app.pushes.Pushes``: a service for each shard that this node owns.

    Make it before the node joins.

    Raises:
        SettingsError: there are more shards than ids can tell apart.
    """

    is_durable = True

    def __init__(self, settings: Settings, parts: Parts, hub: Hub, cluster: Cluster) -> None:
        self._hosts = ShardHosts(
            parts, cluster.membership, cluster.post, Watchers(hub, cluster.post),
            url=settings.cluster.redis_url, prefix=settings.cluster.prefix,
        )  # fmt: skip
        commons = self._hosts.commons
        parts.templates.use(CommonsTemplateStore(commons))
        self._channels = ShardChannels(self._hosts, hub, parts.loop)
        blank = _blank(parts, commons)
        commons.follow(ONCE, blank.once.learn)
        blank.broadcasts = self._hosts.directory = Directory(
            commons, options=parts.options, clock=parts.clock, ids=parts.ids, loop=parts.loop,
            topics=blank.topics, intake=blank.intake, journal=blank.journal, ledger=blank.ledger,
            queued=lambda: 0,
        )  # fmt: skip
        blank.broadcasts.on_change = self._hosts.adopt
        blank.broadcasts.on_gone = self._hosts.drop_broadcast
        blank.posts.latency = self._hosts.totals.post_latency
        commons.follow(WEBHOOKS, blank.webhooks.learn)
        self._posts = self._hosts.posts = blank.posts
        self._routes = ShardRoutes(self._hosts, blank)
        self._chores = Chores(
            parts.loop,
            parts.clock.wall_ms,
            {TICK_S: (blank.posts.tick,), FORGET_S: (blank.once.forget, self._routes.broadcasts.sweep)},
        )
        self.log: ChannelLog = self._channels
        self.on_send = self._channels.on_send
        self.ended: Mapping[State, int] = self._hosts.totals.ended
        self.latency = self._hosts.totals.latency
        self.route_ends: Mapping[tuple[str, str], int] = self._hosts.totals.route_ends
        self.post_latency = self._hosts.totals.post_latency

    @property
    def queued(self) -> int:
        return self._hosts.queued

    @property
    def accepted(self) -> int:
        return self._hosts.accepted

    @property
    def refused(self) -> int:
        return self._hosts.acceptor.refused + sum(service.refused for service in self.services())

    def services(self) -> list[PushService]:
        return self._hosts.services()

    def route_health(self) -> list[RouteHealth]:
        of_shards = (health for service in self.services() for health in service.route_health())
        return [*of_shards, *self._posts.health()]

    def routes(self, degraded: Callable[[], list[str]], compose: Compose | None = None) -> list[Route]:
        # Taken at any node, where what somebody would want need not be known: nothing is composed.
        return self._routes.routes(degraded)

    async def open(self) -> None:
        await self._hosts.commons.caught_up()

    def start(self) -> None:
        self._hosts.start()
        self._channels.start()
        self._chores.start()

    def refuse(self) -> None:
        """The shards went to other nodes when this one left."""

    async def stop(self) -> None:
        self._chores.stop()
        self._channels.stop()
        self._posts.close()
        await self._hosts.stop()


def _blank(parts: Parts, commons: Commons) -> PushService:
    """A service that never has a push: it keeps what belongs to no shard, and its routes say what
    there is, and what is wrong with a request."""
    return PushService(
        parts.options,
        clock=parts.clock,
        ids=parts.ids,
        loop=parts.loop,
        wheel=parts.wheel,
        templates=parts.templates,
        inbox=MemoryInbox(parts.ids.next, 1),
        journal=CommonsJournal(commons),
        posting=parts.posting,
        deliver=lambda channel, data, offset, tags: 0,
        is_watched=lambda channel: False,
        report=parts.report,
    )
