"""Pushes on many nodes: a push service for each shard that this node owns.

Gaining a shard loads what Redis keeps of it into a service of its own and starts that; losing
it drops the service where it stands, since everything it was told is in Redis already. Between
the two the shard is *hosted*. What is accepted elsewhere comes through the shard's stream: the
node that accepted says so, and once in a while the host looks by itself, as a word may get lost.

Before every outgoing call the lease is asked for again (``Host.is_ours``): a process that was
paused must not deliver what another node took over meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import msgspec
import structlog

from heartcast.app.commons import SharedCommons
from heartcast.app.shard_host import Host, Parts, Totals
from heartcast.app.watchers import Watchers
from heartcast.backends.redis_pipe import RedisPipe
from heartcast.cluster.membership import Membership
from heartcast.cluster.post import Post
from heartcast.core.errors import SettingsError, StoreUnavailable
from heartcast.push.acceptor import Acceptor
from heartcast.push.broadcast import What
from heartcast.push.broadcast_parts import Directory
from heartcast.push.commons.redis import SCRIPTS as COMMONS_SCRIPTS
from heartcast.push.commons.redis import RedisCommons
from heartcast.push.redis import SCRIPTS
from heartcast.push.routes.webhook import WebhookRoute
from heartcast.push.service import PushService
from heartcast.push.takeover import take_over

POLL_S = 0.5
"""Between two looks of a host at its stream, where nobody says that there is something."""
RETRY_S = 0.5
MAX_SHARDS = 1024
"""As many as fit into an id."""
WAKE = "push.wake"

_log = structlog.get_logger("heartcast")


class ShardHosts:
    """All shards that this node owns.

    Args:
        url: Of the Redis where the nodes meet.
        prefix: In front of the shards' numbers in every key.

    Raises:
        SettingsError: there are more shards than ids can tell apart.
    """

    def __init__(
        self, parts: Parts, membership: Membership, post: Post, watchers: Watchers, *, url: str, prefix: str
    ) -> None:
        if parts.options.shards > MAX_SHARDS:
            raise SettingsError(f"must be at most {MAX_SHARDS} on many nodes", path="push.shards")
        self.parts = parts
        self.membership = membership
        self.post = post
        self.watchers = watchers
        self.totals = Totals()
        self.directory: Directory
        """All broadcasts; set, as what follows, before the first shard comes."""
        self.posts: WebhookRoute
        """The way to webhooks that all shards here share."""
        self.on_host: Callable[[Host], None] = lambda host: None
        """Told of each host that has started."""
        self._prefix = prefix
        self._pipe = RedisPipe(url, timeout_s=2.0, scripts=(*SCRIPTS, *COMMONS_SCRIPTS), is_text=False)
        self.commons = SharedCommons(
            RedisCommons(self._pipe, prefix=prefix), membership, post, parts.loop, parts.clock.wall_ms
        )
        self._hosts: dict[int, Host] = {}
        self._loading: dict[int, asyncio.Task[None]] = {}
        self._gained_s: dict[int, float] = {}
        """The loop's time at which each shard became ours that is still being loaded."""
        self._closing: set[asyncio.Task[None]] = set()
        self._polling: asyncio.TimerHandle | None = None
        self._wakes: set[int] = set()
        self.acceptor = Acceptor(
            self._pipe, parts.options, clock=parts.clock, ids=parts.ids, templates=parts.templates,
            accepted=self._woken, prefix=prefix,
        )  # fmt: skip
        membership.on_gain = self._gain
        membership.on_loss = self._lose
        membership.on_release = self._release
        post.on(WAKE, self._told)

    # ── finding ──────────────────────────────────────────────────────────────

    def find(self, shard: int) -> Host | None:
        """The host of a shard that is ours and takes requests; None: it is somebody else's, or moves."""
        host = self._hosts.get(shard)
        return host if host is not None and host.is_open and host.is_ours else None

    def __iter__(self) -> Iterator[Host]:
        return iter(list(self._hosts.values()))

    def services(self) -> list[PushService]:
        """The services of the shards that are here, in the order of the shards."""
        return [host.service for host in sorted(self, key=lambda host: host.shard)]

    def _share(self) -> float:
        """How much of all shards is here, 0 to 1."""
        return len(self._hosts) / self.parts.options.shards

    def stalled(self) -> dict[int, int]:
        """Shards of ours that stand still for another reason than their queues, with the milliseconds:
        they cannot be loaded, or what was accepted elsewhere cannot be read from Redis."""
        since_s = dict(self._gained_s)
        for host in self:
            if (failing_s := host.taken.store.failing_since_s) is not None:
                since_s[host.shard] = failing_s
        now_s, after_s = self.parts.loop.time(), self.parts.options.stalled_after_s
        return {shard: round((now_s - s) * 1000) for shard, s in since_s.items() if now_s - s > after_s}

    # ── coming and going ─────────────────────────────────────────────────────

    def _gain(self, shard: int, epoch: int) -> None:
        self._drop(shard)
        self._gained_s[shard] = self.parts.loop.time()
        self._loading[shard] = self.parts.loop.create_task(
            self._load(shard, epoch), name=f"take shard {shard}"
        )

    async def _load(self, shard: int, epoch: int) -> None:
        parts, options = self.parts, self.parts.options
        while self.membership.epoch_of(shard) == epoch:
            try:
                # What was made while the shard was another's, its templates first.
                await self.commons.caught_up()
                taken = await take_over(
                    self._pipe, shard, epoch, templates=parts.templates, new_epoch=parts.ids.next,
                    max_pushes=options.max_inbox, max_ended=options.of_one_shard().max_ended,
                    horizon_ms=parts.clock.wall_ms() + round(options.near_s * 1000), prefix=self._prefix,
                )  # fmt: skip
            except StoreUnavailable as error:
                _log.error("a shard could not be taken over; trying again", shard=shard, reason=error.detail)
                await asyncio.sleep(RETRY_S)
                continue
            if self.membership.epoch_of(shard) != epoch:
                taken.store.abandon()
                return
            self._host(
                Host(
                    parts, taken, epoch, self.membership, self.watchers, self.totals, self.commons,
                    self.directory, self.posts, self._share,
                )
            )  # fmt: skip
            return

    def _host(self, host: Host) -> None:
        self._hosts[host.shard] = host
        self._loading.pop(host.shard, None)
        self._gained_s.pop(host.shard, None)
        # Redis is faster with this news than our lease: somebody else has it for certain.
        host.taken.store.on_fenced = lambda: self._lose(host.shard)
        host.start()
        self.on_host(host)

    def _lose(self, shard: int) -> None:
        self._drop(shard)

    def _drop(self, shard: int) -> None:
        self._gained_s.pop(shard, None)
        if (loading := self._loading.pop(shard, None)) is not None:
            loading.cancel()
        if (host := self._hosts.pop(shard, None)) is not None:
            host.is_open = False
            self.totals.accepted += host.service.ledger.accepted
            host.service.halt()
            host.taken.store.abandon()

    def _release(self, shard: int, finished: Callable[[], None]) -> None:
        host = self._hosts.get(shard)
        if host is None:
            self._drop(shard)
            finished()
            return
        task = self.parts.loop.create_task(self._hand_over(host, finished), name=f"hand over shard {shard}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _hand_over(self, host: Host, finished: Callable[[], None]) -> None:
        host.is_open = False
        # What waits, waits in Redis: only what is under way must be finished.
        host.service.halt()
        await host.taken.store.close()
        if self._hosts.get(host.shard) is host:
            self._drop(host.shard)
        finished()

    # ── broadcasts ───────────────────────────────────────────────────────────

    def adopt(self, what: What) -> None:
        """A broadcast is new or has another status: every shard that is here follows."""
        for host in self:
            host.broadcasts.adopt(what)

    def drop_broadcast(self, broadcast_id: str) -> None:
        """A broadcast is not kept any more."""
        for host in self:
            host.broadcasts.drop(broadcast_id)

    # ── what is accepted elsewhere ───────────────────────────────────────────

    def _woken(self, shard: int) -> None:
        if not self._wakes:
            self.parts.loop.call_soon(self._tell_owners)
        self._wakes.add(shard)

    def _tell_owners(self) -> None:
        shards, self._wakes = self._wakes, set()
        by_owner: dict[str, list[int]] = {}
        for shard in shards:
            if (host := self._hosts.get(shard)) is not None:
                host.taken.store.poll()
            elif owner := self.membership.owner_of(shard):
                by_owner.setdefault(owner, []).append(shard)
        for owner, owned in by_owner.items():
            self.post.tell(owner, WAKE, msgspec.msgpack.encode(owned))

    def _told(self, sender: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        for shard in msgspec.msgpack.decode(body, type=list[int]):
            if (host := self._hosts.get(shard)) is not None:
                host.taken.store.poll()

    def _poll(self) -> None:
        self._polling = self.parts.loop.call_later(POLL_S, self._poll)
        for host in self._hosts.values():
            host.taken.store.poll()

    # ── life, as that of one service ─────────────────────────────────────────

    @property
    def queued(self) -> int:
        """Pushes that wait in the shards that are here."""
        return sum(host.service.queued for host in self._hosts.values())

    @property
    def accepted(self) -> int:
        """Pushes that came into shards here since the start."""
        return self.totals.accepted + sum(host.service.ledger.accepted for host in self._hosts.values())

    def start(self) -> None:
        """Begin to look at streams; shards come when the node has joined."""
        self.commons.start()
        self._polling = self.parts.loop.call_later(POLL_S, self._poll)

    def refuse(self) -> None:
        """First step of a stop: the shards go to other nodes by ``Membership.leave``."""

    async def stop(self) -> None:
        """Stop working, and hang up. Whatever waits is in Redis."""
        if self._polling is not None:
            self._polling.cancel()
            self._polling = None
        self.commons.stop()
        for shard in [*self._loading, *self._hosts]:
            self._drop(shard)
        if self._closing:
            await asyncio.wait(self._closing)
        await self._pipe.close()
