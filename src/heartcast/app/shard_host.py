"""One shard at the node that owns it: its push service, and what that is joined with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from heartcast.api import push as push_routes
from heartcast.api.route import Route
from heartcast.app.commons import SharedCommons
from heartcast.app.watchers import Watchers
from heartcast.cluster.membership import Membership
from heartcast.core.clock import Clock
from heartcast.core.errors import HeartcastError
from heartcast.core.ids import IdSource, ShardIds
from heartcast.core.quantiles import Histogram
from heartcast.core.wheel import TimingWheel
from heartcast.push.broadcast_parts import Directory
from heartcast.push.broadcast_parts import Parts as BroadcastParts
from heartcast.push.model import Push, State
from heartcast.push.options import PushOptions
from heartcast.push.routes.door import WebhookDoor
from heartcast.push.routes.lane import Posting
from heartcast.push.routes.webhook import WebhookRoute
from heartcast.push.service import PushService
from heartcast.push.takeover import Taken
from heartcast.push.templates import Templates

Handlers = dict[tuple[str, str], Route]


class Parts(NamedTuple):
    """What every host is made of."""

    options: PushOptions
    clock: Clock
    loop: asyncio.AbstractEventLoop
    ids: IdSource
    wheel: TimingWheel
    templates: Templates
    report: Callable[[str, BaseException], None]
    posting: Posting | None = None
    """Makes POSTs; None: there is no route ``webhook``."""


class Host:
    """One shard that is ours."""

    __slots__ = (
        "_early",
        "broadcasts",
        "commons",
        "epoch",
        "handlers",
        "is_open",
        "membership",
        "service",
        "shard",
        "taken",
        "watchers",
    )

    def __init__(
        self,
        parts: Parts,
        taken: Taken,
        epoch: int,
        membership: Membership,
        watchers: Watchers,
        totals: Totals,
        commons: SharedCommons,
        directory: Directory,
        posts: WebhookRoute,
        share: Callable[[], float],
    ) -> None:
        self.shard = taken.store.shard
        self.epoch = epoch
        self.taken = taken
        self.membership = membership
        self.watchers = watchers
        self.commons = commons
        self._early: list[Push] = []
        """Arrivals behind one whose template this node has not heard of."""
        self.is_open = True
        """Whether it takes requests; False while it is handed over and afterwards."""
        parts.ids.skip_past(taken.last_id)
        self.service = PushService(
            parts.options.of_one_shard(),
            clock=parts.clock,
            ids=ShardIds(parts.ids, self.shard),
            loop=parts.loop,
            wheel=parts.wheel,
            templates=parts.templates,
            inbox=taken.inbox,
            journal=taken.journal,
            deliver=self._deliver,
            is_watched=self._is_watched,
            report=parts.report,
            door=WebhookDoor(posts, lambda: self.is_ours),
            first_shard=self.shard,
        )
        service = self.service
        self.broadcasts = service.broadcasts = BroadcastParts(
            directory, shard=self.shard, shards=parts.options.shards, share=share,
            is_sure=lambda: not taken.store.must_reread, options=service.options, clock=parts.clock,
            ids=parts.ids, loop=parts.loop, topics=service.topics, intake=service.intake,
            journal=service.journal, ledger=service.ledger, queued=lambda: service.queued,
        )  # fmt: skip
        # One account for all shards that this process ever had.
        self.service.ledger.ended = totals.ended
        self.service.delivery.latency = totals.latency
        self.service.outgoing.ends = totals.route_ends
        self.handlers: Handlers = {
            (route.method, route.path): route for route in push_routes.routes(self.service)
        }

    def start(self) -> None:
        service = self.service
        for push in self.taken.ended:
            service.ledger.remember(push)
        self.taken.store.on_arrival = self._arrived
        service.start()

    def _arrived(self, push: Push) -> None:
        if push.asked.broadcast:
            self.broadcasts.arrived(push)
        if push.template.is_there and not self._early:
            self.service.intake.restore(push)
            return
        # Another node knew its template: so shall we, before any later push of the shard.
        self._early.append(push)
        if len(self._early) == 1:
            self.commons.sync(self._caught_up)

    def _caught_up(self, error: HeartcastError | None) -> None:
        early, self._early = self._early, []
        if self.is_open:
            for push in early:
                push.template = self.service.templates.find_or_absent(push.template.key)
                self.service.intake.restore(push)

    @property
    def is_ours(self) -> bool:
        """Whether our lease is valid now, and is the one that this was loaded under."""
        return self.membership.holds(self.shard) and self.membership.epoch_of(self.shard) == self.epoch

    def _deliver(self, channel: str, data: bytes, offset: int, tags: dict[str, str]) -> int:
        return self.watchers.deliver(channel, data, offset, tags) if self.is_ours else 0

    def _is_watched(self, channel: str) -> bool:
        return self.is_ours and self.watchers.is_watched(channel)


class Totals:
    """What happened in all hosts together, those that are gone too."""

    def __init__(self) -> None:
        self.ended = dict.fromkeys((state for state in State if state.is_terminal), 0)
        self.latency = Histogram()
        self.route_ends: dict[tuple[str, str], int] = {}
        self.post_latency = Histogram()
        self.accepted = 0
        """Of hosts that are gone."""
