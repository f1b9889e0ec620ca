"""This node's place among the others: joining, and what must be shared before it may.

A node that is alone is a cluster of one, on memory: it owns every shard, and what asks where
something belongs works alike. With ``cluster.redis_url`` it joins the others there; then
whatever a domain keeps must be where the others see it, or the start is refused by name.
"""

from __future__ import annotations

import asyncio
import importlib.util
import socket
from dataclasses import dataclass

import structlog

from heartcast import __version__
from heartcast.app import heart_stores
from heartcast.app.settings import Settings
from heartcast.cluster.carrier import Carrier
from heartcast.cluster.carrier.memory import MemoryCarrier, MemoryStreet
from heartcast.cluster.membership import Membership
from heartcast.cluster.node import Node
from heartcast.cluster.post import Post
from heartcast.cluster.registry import Registry
from heartcast.cluster.registry.memory import MemoryRegistry
from heartcast.core.clock import Clock, SleeplessClock
from heartcast.core.errors import HeartcastError, SettingsError
from heartcast.core.ids import IdSource

LOOK = "cluster.look"
_LEAVE_PATIENCE_S = 2.0
"""Beyond ``release_s``: for the last words to the registry."""

_log = structlog.get_logger("heartcast")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """This node among the others. Opened by ``open_cluster``; ``close`` it at the end."""

    membership: Membership
    post: Post
    registry: Registry
    is_alone: bool
    """Whether there can be no other node."""

    def join(self, settings: Settings, url: str, admin_url: str = "") -> None:
        """Say that we are there, and where; shards come from now on.

        Args:
            url: Where we listen, with the port that we got.
            admin_url: Where our own metrics are; "" when there is no such port.
        """
        port = url.rpartition(":")[2]
        self.membership.introduce(
            name=_name(settings, port),
            url=_url_for_others(settings, url),
            admin_url=admin_url,
            group=f"{socket.gethostname()}:{port}" if settings.cluster.worker else "",
        )
        self.membership.start()

    def why_not(self) -> str | None:
        """One sentence while this node cannot tell who else is there; None while it can."""
        seen_s = self.membership.seen_s
        if seen_s is None:
            return "this node has not joined its cluster yet"
        if not self.is_alone and SleeplessClock.monotonic_s() - seen_s > self.membership.options.lease_s:
            return "this node has lost touch with its cluster: Redis does not answer"
        return None

    async def leave(self) -> None:
        """Hand the shards over, and be off the list; bounded, whatever the others do."""
        left = asyncio.Event()
        self.membership.leave(left.set)
        try:
            async with asyncio.timeout(self.membership.options.release_s + _LEAVE_PATIENCE_S):
                await left.wait()
        except TimeoutError:
            _log.error("left the cluster without handing everything over; leases end by themselves")

    async def close(self) -> None:
        await self.post.close()
        await self.registry.close()


async def open_cluster(settings: Settings, clock: Clock, loop: asyncio.AbstractEventLoop) -> Cluster:
    """Connect to where nodes meet. Nobody is told of us before ``join``.

    Raises:
        SettingsError: a domain is not shared, or the server is not one to rely on.
        StoreUnavailable: the server cannot be reached.
    """
    options, shards = settings.cluster, settings.push.shards
    me = Node(id=IdSource(clock).next().lower(), name="", started_ms=clock.wall_ms(), version=__version__)
    registry: Registry
    carrier: Carrier
    if not options.redis_url:
        registry, carrier = (
            MemoryRegistry(SleeplessClock(), shards),
            MemoryCarrier(MemoryStreet(loop.call_soon)),
        )
    else:
        check_shared(settings)
        await check_server(settings)
        registry, carrier = await _on_redis(options.redis_url, shards, options.prefix)
    membership = Membership(me, registry, SleeplessClock(), loop.call_later, shards=shards, options=options)
    post = Post(me.id, carrier, loop.call_later)
    cluster = Cluster(membership=membership, post=post, registry=registry, is_alone=not options.redis_url)
    _look_together(membership, post, loop)
    try:
        await post.open()
    except HeartcastError:
        await cluster.close()
        raise
    return cluster


def _look_together(membership: Membership, post: Post, loop: asyncio.AbstractEventLoop) -> None:
    """Who comes gets its share at once, and what is given back has a new owner as soon as it is free."""
    is_due = False

    def tell() -> None:
        nonlocal is_due
        is_due = False
        post.tell_all(LOOK, b"")

    def news() -> None:
        nonlocal is_due
        if not is_due:
            is_due = True
            loop.call_soon(tell)

    membership.on_news = news
    post.on(LOOK, lambda sender, body, answer: membership.look_now())


async def _on_redis(url: str, shards: int, prefix: str) -> tuple[Registry, Carrier]:
    from heartcast.cluster.carrier.redis import RedisCarrier
    from heartcast.cluster.registry.redis import RedisRegistry

    registry = RedisRegistry(url, shards, prefix=prefix)
    try:
        await registry.open()
    except HeartcastError:
        await registry.close()
        raise
    return registry, RedisCarrier(url, prefix=prefix)


def _name(settings: Settings, port: str) -> str:
    """What a node is called, the same after a restart."""
    name = settings.cluster.node_name or f"{socket.gethostname()}:{port}"
    return f"{name}.{settings.cluster.worker}" if settings.cluster.worker else name


def _url_for_others(settings: Settings, url: str) -> str:
    """Where other machines find this node: as set, or where it listens, by this machine's name
    where that is every address."""
    if settings.cluster.advertise_url:
        return settings.cluster.advertise_url.rstrip("/")
    if settings.http.host not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return url
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{socket.gethostname()}:{rest.rpartition(':')[2]}"


def check_shared(settings: Settings) -> None:
    """Whether every domain keeps its things where other nodes see them.

    Raises:
        SettingsError: one does not; the sentence names it and says what to do.
    """
    for domain, problem in unshared(settings):
        if domain not in settings.cluster.local:
            raise SettingsError(
                f'{problem}; or take part with {domain} of this node\'s own: cluster.local = ["{domain}"]',
                path="cluster.redis_url",
            )


def unshared(settings: Settings) -> list[tuple[str, str]]:
    """Domains that only this node would see, and why."""
    found = []
    if not heart_stores.is_server(heart_stores.url_of(settings)):
        found.append(
            (
                "hearts",
                "hearts are kept by this node alone, and other nodes would count others; "
                'set hearts.store = "redis" or "postgres"',
            )
        )
    if settings.limits_on and settings.limits.backend == "local":
        found.append(
            (
                "limits",
                'every node would grant each client a whole budget of its own; set limits.backend = "redis"',
            )
        )
    if settings.ranking.recommendations != "off":
        found.append(
            (
                "ranking",
                "feedback, strategies and what items are would belong to the node that was told; "
                'set ranking.recommendations = "off"',
            )
        )
    return found


async def check_server(settings: Settings) -> str:
    """Whether the server keeps what it is given.

    Returns:
        Its name and version.

    Raises:
        SettingsError: it is too old, of the wrong kind, or may forget; or its driver is missing.
        StoreUnavailable: it cannot be reached.
    """
    for module in ("redis", "hiredis"):
        if importlib.util.find_spec(module) is None:
            raise SettingsError("a cluster needs the driver of Redis: pip install 'heartcast[redis]'")
    from heartcast.backends.redis_fitness import fitness
    from heartcast.backends.redis_pipe import RedisPipe

    pipe = RedisPipe(settings.cluster.redis_url, timeout_s=2.0)
    try:
        found = await fitness(pipe)
    finally:
        await pipe.close()
    if found.unusable:
        raise SettingsError(f"this Redis cannot be used: {found.unusable[0]}", path="cluster.redis_url")
    if found.volatile and not settings.cluster.allow_volatile:
        raise SettingsError(
            f"this Redis may forget what was accepted: {found.volatile[0]}, "
            "or set cluster.allow_volatile = true",
            path="cluster.redis_url",
        )
    for problem in found.volatile:
        _log.warning("this Redis may forget what was accepted", reason=problem)
    return found.server
