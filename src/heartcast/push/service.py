"""The push domain as the rest of the program sees it.

``accept`` is the hot path: it checks, gives an id, picks the shard and appends, without
a task and without waiting. From there a worker takes the push through the gates into
the user's inbox, and delivery takes it to the user. A push lives until it is delivered,
suppressed, expired, cancelled or failed; it reaches exactly one of those once.

What is queued in shards is in memory only in this version: ``docs/explanation/push-guarantees.md``
says what survives what.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import msgspec

from heartcast.core.clock import Clock
from heartcast.core.errors import BodyTooLarge, Overloaded, StoreUnavailable, Unavailable
from heartcast.core.hashing import shard_of
from heartcast.core.ids import IdSource
from heartcast.core.names import user_text
from heartcast.core.wheel import TimingWheel
from heartcast.push.delivery import Delivery, Report
from heartcast.push.gates import Gate, expired
from heartcast.push.inbox import Inbox
from heartcast.push.ledger import Ledger
from heartcast.push.model import Push, State
from heartcast.push.options import PushOptions
from heartcast.push.routes.realtime import Deliver, IsWatched, RealtimeRoute
from heartcast.push.templates import Templates
from heartcast.push.workers import Finish, Loop, WorkerPool

SWEEP_S = 1.0
SWEEP_PUSHES = 5_000
"""Most pushes that expire in one sweep, so that it takes milliseconds."""

_encode = msgspec.json.Encoder().encode


class Acknowledgement(msgspec.Struct, frozen=True):
    """What a client sends: ``{"ack": ["<push id>", …]}``."""

    ack: list[str]


_decode_ack = msgspec.json.Decoder(Acknowledgement).decode


class ShardHealth(NamedTuple):
    """One shard, for ``/healthz``."""

    id: int
    pending: int
    active: int
    error_rate: float
    oldest_ms: int
    """Age of the push that waits longest; 0 when nothing waits."""
    last_progress_ms: int
    """Milliseconds since a push last left; 0 when nothing waits."""
    is_stalled: bool


class PushService:
    """Accepts pushes and sees each of them to its end.

    Args:
        deliver: ``deliver(channel, data, offset, tags)`` hands a publication to current
            subscribers and returns how many sessions it reached.
        is_watched: Whether a channel has subscribers.
        wheel: The program's one timing wheel; its owner advances it.
        report: Told of failures that end or delay a push, for the log.
    """

    def __init__(
        self,
        options: PushOptions,
        *,
        clock: Clock,
        ids: IdSource,
        loop: Loop,
        wheel: TimingWheel,
        templates: Templates,
        inbox: Inbox,
        deliver: Deliver,
        is_watched: IsWatched,
        report: Report,
        gates: tuple[Gate, ...] = (),
    ) -> None:
        self.options = options
        self.templates = templates
        self.ledger = Ledger(options)
        self.inbox = inbox
        self.pool = WorkerPool(options, clock, loop, work=self._work, poisoned=self._poisoned, report=report)
        route = RealtimeRoute(deliver, is_watched)
        self.delivery = Delivery(
            options, clock, inbox=inbox, ledger=self.ledger, route=route, wheel=wheel, report=report
        )
        self._clock = clock
        self._ids = ids
        self._loop = loop
        self._report = report
        self._ttl_ms = round(options.ttl_s * 1000)
        self._gates = (expired(self._ttl_ms), *gates)
        self._sweeping: Any = None
        self._is_stopping = False
        self.bad_sends = 0
        """Messages of clients that were no acknowledgement."""
        self.refused = 0
        """Pushes answered with 503."""

    # ── accepting ────────────────────────────────────────────────────────────

    def accept(self, user_id: int | str, template_name: str, payload: dict[str, Any]) -> tuple[Push, int]:
        """Take a push, or say why not.

        Returns:
            The queued push and its shard.

        Raises:
            InvalidInput: the user may not be an id, or the payload does not fit the template.
            NotFound: there is no such template.
            BodyTooLarge: the payload is larger than the bound.
            Overloaded: the shard, or everything, is full. Nothing was taken.
        """
        user = user_text(user_id)
        template = self.templates.find(template_name)
        template.check(payload)
        data = _encode(payload)
        options = self.options
        if len(data) > options.max_payload_bytes:
            raise BodyTooLarge(
                f"must be at most {options.max_payload_bytes} bytes as JSON",
                pointer="/payload",
                code="payload_too_large",
            )
        if is_numeric := isinstance(user_id, int):
            index = user_id % options.shards
        else:
            index = shard_of(user, options.shards)
        shard = self.pool.shards[index]
        if len(shard.pending) + shard.left >= options.max_queued_per_shard or self._is_stopping:
            raise self._full()
        now_ms = self._clock.wall_ms()
        push = Push(self._ids.next(), user, is_numeric, template, data, now_ms, now_ms)
        try:
            self.ledger.open(push)
        except Overloaded:
            self.refused += 1
            raise
        shard.pending.append(push)
        if not shard.is_listed:
            self.pool.wake(shard)
        return push, index

    def shard_of(self, push: Push) -> int:
        """The shard that this push belongs to."""
        return shard_of(push.user, self.options.shards)

    def _full(self) -> Unavailable:
        self.refused += 1
        if self._is_stopping:
            return Unavailable("this server is stopping", code="stopping")
        return Overloaded("the shard of this user is full", retry_after_s=1, code="shard_full")

    # ── working off ──────────────────────────────────────────────────────────

    def _work(self, batch: list[Push], finish: Finish) -> None:
        now_ms = self._clock.wall_ms()
        leaving = [push for push in batch if push.state is State.QUEUED and self._passes(push, now_ms)]
        if leaving:
            self.inbox.append(leaving, now_ms, partial(self._stored, leaving, finish))
        else:
            finish(0)

    def _passes(self, push: Push, now_ms: int) -> bool:
        for gate in self._gates:
            verdict = gate(push, now_ms)
            if verdict is not None:
                self.ledger.end(push, verdict.state, verdict.reason, now_ms)
                return False
        return True

    def _stored(self, pushes: list[Push], finish: Finish, result: list[Push] | StoreUnavailable) -> None:
        if isinstance(result, StoreUnavailable):
            self._report("the inbox could not take pushes; they stay queued", result)
            finish(None)
            return
        now_ms = self._clock.wall_ms()
        for push in pushes:
            push.state = State.SENT
            push.changed_ms = now_ms
        for push in result:
            self.ledger.end(push, State.EXPIRED, "inbox_full", now_ms)
        finish(self._deliver(pushes, now_ms))

    def _deliver(self, pushes: list[Push], now_ms: int) -> int:
        failed = 0
        stored = self.delivery.stored
        for push in pushes:
            # One that was evicted at once, by those behind it, has nothing left to send.
            if push.state is State.SENT and not stored(push, now_ms):
                failed += 1
        return failed

    def _poisoned(self, push: Push) -> None:
        # One that reached the inbox is safe there, whatever failed afterwards.
        if push.state is State.QUEUED:
            self.ledger.end(push, State.FAILED, "worker_crashed", self._clock.wall_ms())

    # ── what comes back ──────────────────────────────────────────────────────

    def on_send(self, user: str | None, data: bytes) -> None:
        """A connected client sent something; acknowledgements are taken, all else is counted."""
        try:
            ids = _decode_ack(data).ack
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.bad_sends += 1
            return
        if user is not None:
            self.delivery.acknowledge(user, ids, self._clock.wall_ms())

    def find(self, push_id: str) -> Push:
        """The push with this id.

        Raises:
            NotFound: unknown, or no longer kept (code ``push_forgotten``).
        """
        return self.ledger.find(push_id)

    def health(self) -> list[ShardHealth]:
        """Every shard's queues, and whether they move."""
        now_s, now_ms = self._clock.monotonic_s(), self._clock.wall_ms()
        health = []
        for shard in self.pool.shards:
            oldest = shard.oldest
            age_ms = max(0, now_ms - oldest.accepted_ms) if oldest else 0
            # A shard that was empty for an hour has not stalled because a push just came.
            still_ms = min(round((now_s - shard.progress_s) * 1000), age_ms)
            is_stalled = still_ms > self.options.stalled_after_s * 1000
            health.append(
                ShardHealth(
                    shard.id, len(shard.pending), shard.left, shard.error_rate, age_ms, still_ms, is_stalled
                )
            )
        return health

    @property
    def queued(self) -> int:
        """Pushes that wait in shards."""
        return sum(shard.waiting for shard in self.pool.shards)

    # ── life ─────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Take up what the inbox kept, and begin to work."""
        for push in self.inbox.kept():
            self.ledger.restore(push)
        self.pool.start()
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
        now_ms = self._clock.wall_ms()
        overdue = list(self.ledger.overdue(self._ttl_ms, now_ms, SWEEP_PUSHES))
        self.delivery.lost(overdue, State.EXPIRED, "ttl", now_ms)
        self.ledger.forget(now_ms)
        self.inbox.forget(now_ms)

    def refuse(self) -> None:
        """Accept nothing more: first step of a stop."""
        self._is_stopping = True

    async def stop(self) -> None:
        """Stop working and close the inbox, which writes what it holds.

        Call ``refuse`` first and wait, for as long as you like, until ``queued`` is 0: what is
        still queued now is lost with the process.
        """
        self.refuse()
        self.pool.stop()
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        await self.inbox.close()
