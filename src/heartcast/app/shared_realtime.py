"""Channels among many nodes: where they are kept, and what reaches the hubs of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from heartcast.app import heart_news
from heartcast.app.cluster import Cluster
from heartcast.app.heart_news import HeartNews
from heartcast.app.other_nodes import OtherNodes
from heartcast.app.settings import Settings
from heartcast.core.bus import Bus, Subscriber
from heartcast.hearts.model import HeartChanged
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


def other_nodes(settings: Settings, cluster: Cluster) -> OtherNodes | None:
    """Whom the server API asks too; None where every node has channels of its own."""
    if cluster.is_alone or "realtime" in settings.cluster.local:
        return None
    return OtherNodes(cluster.membership, cluster.post)


def follow_everywhere(
    settings: Settings,
    cluster: Cluster,
    loop: asyncio.AbstractEventLoop,
    bus: Bus[HeartChanged],
    views: Sequence[Subscriber[HeartChanged]],
) -> HeartNews | None:
    """Let views follow the hearts of this node, and of the others where hearts are shared.

    Returns:
        What tells the others and hears of them; None: this node is alone with its hearts.
    """
    for view in views:
        bus.follow(view)
    if cluster.is_alone or "hearts" in settings.cluster.local:
        return None
    elsewhere: Bus[HeartChanged] = Bus(loop.call_soon)
    for view in views:
        elsewhere.follow(view)
    membership = cluster.membership
    news = HeartNews(
        cluster.post, elsewhere, loop.call_later, lambda: {node.id for node in membership.nodes()}
    )
    cluster.post.on(heart_news.SUBJECT, news.took)
    bus.follow(news)
    loop.call_soon(news.say)
    return news
