"""The push domain as the rest of the program sees it.

``intake`` takes a push: it checks, gives an id, picks the shard and appends, without a
task and, in memory, without waiting. From there a worker takes the push through the gates
into the user's inbox, and delivery takes it to the user. A push lives until it is delivered,
suppressed, expired, cancelled or dead; it reaches exactly one of those once.

This module joins the parts: what follows from one in another, their start and their stop.
``docs/explanation/push-guarantees.md`` says what survives what.
"""

from __future__ import annotations

from random import Random

from heartcast.core.clock import Clock
from heartcast.core.hashing import shard_of
from heartcast.core.ids import IdSource
from heartcast.core.wheel import TimingWheel
from heartcast.push import acks
from heartcast.push.broadcasts import Broadcasts
from heartcast.push.chores import Chore, Chores
from heartcast.push.dead import KIND as DEAD
from heartcast.push.dead import DeadLetters
from heartcast.push.delivery import Delivery, Report
from heartcast.push.endings import Endings
from heartcast.push.gates import Chain, Gate
from heartcast.push.gates.order import in_order
from heartcast.push.gates.remembering import Remembering
from heartcast.push.health import ShardHealth, health_of
from heartcast.push.inbox import Inbox
from heartcast.push.intake import Intake
from heartcast.push.journal import Change, Journal, Note
from heartcast.push.journal.memory import MemoryJournal
from heartcast.push.ledger import Ledger
from heartcast.push.model import BEFORE_US, Push
from heartcast.push.once import KIND as ONCE
from heartcast.push.once import Once
from heartcast.push.options import PushOptions
from heartcast.push.outgoing import KIND as ROUTES
from heartcast.push.outgoing import Outgoing
from heartcast.push.passage import Passage
from heartcast.push.people import People
from heartcast.push.preferences import KIND as PREFERENCES
from heartcast.push.preferences import PreferenceBook
from heartcast.push.recall import Recall
from heartcast.push.receipts import Receipts
from heartcast.push.routes import RouteHealth
from heartcast.push.routes.door import WebhookDoor
from heartcast.push.routes.lane import Posting
from heartcast.push.routes.realtime import Deliver, IsWatched, RealtimeRoute
from heartcast.push.routes.webhook import WebhookRoute
from heartcast.push.settling import Settling
from heartcast.push.templates import Templates
from heartcast.push.topics import KNOWN, SUBSCRIPTIONS, Topics
from heartcast.push.waiting import Waiting
from heartcast.push.webhooks import KIND as WEBHOOKS
from heartcast.push.webhooks import WebhookBook
from heartcast.push.workers import Loop, WorkerPool

SWEEP_S = 1.0
TICK_S = 0.1
FORGET_S = 60.0
"""Between two rounds of forgetting what ran out and is large to look through."""


class PushService:
    """Accepts pushes and sees each of them to its end.

    Args:
        journal: None: in memory.
        deliver: ``deliver(channel, data, offset, tags)`` hands a publication to current
            subscribers and returns how many sessions it reached.
        is_watched: Whether a channel has subscribers.
        wheel: The program's one timing wheel; its owner advances it.
        report: Told of failures that end or delay a push, for the log.
        gates: Asked after the service's own.
        posting: Makes POSTs; None: there is no route ``webhook``. Closed with the service.
        door: The way to webhooks, where this service shares one with others.
        random: Spreads retries; None: the system's.
        first_shard: What its first shard is called, where it has only some of them.
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
        journal: Journal | None = None,
        gates: tuple[Gate, ...] = (),
        posting: Posting | None = None,
        door: WebhookDoor | None = None,
        random: Random | None = None,
        first_shard: int = 0,
    ) -> None:
        now_ms = clock.wall_ms()
        self.first_shard = first_shard
        self.options = options
        self.templates = templates
        self.inbox = inbox
        self.journal: Journal = journal or MemoryJournal()
        self.ledger = Ledger(options)
        self.ledger.on_end = self._ended
        self.dead = DeadLetters(self.journal, options.max_dead)
        self.once = Once(options.max_keys, round(options.keep_keys_s * 1000))
        self.preferences = PreferenceBook()
        self.receipts = Receipts()
        self.wall_ms = clock.wall_ms
        self._ttl_ms = round(options.ttl_s * 1000)
        settling = Settling(inbox, self.journal)
        endings = Endings(ledger=self.ledger, journal=self.journal, settling=settling, dead=self.dead)
        self.delivery = Delivery(
            options, clock, inbox=inbox, ledger=self.ledger, settling=settling,
            route=RealtimeRoute(deliver, is_watched), wheel=wheel, report=report, die=endings.die,
        )  # fmt: skip
        self.waiting = Waiting(
            options, journal=self.journal, ledger=self.ledger, release=self._release,
            expire=self.delivery.expire, report=report, now_ms=now_ms,
        )  # fmt: skip
        self.posts = (
            door.posts
            if door
            else WebhookRoute(
                options.webhooks, clock, book=WebhookBook(options.webhooks), posting=posting,
                note=self._note, random=random,
            )
        )  # fmt: skip
        self.webhooks = self.posts.book
        self.outgoing = Outgoing(
            clock, routes=(door or self.posts,), backoff=options.webhooks.retry,
            fallback_ms=round(options.fallback_after_s * 1000), ttl_ms=self._ttl_ms,
            wishes_of=self.preferences.find, ledger=self.ledger, journal=self.journal,
            settling=settling, die=endings.die, report=report, random=random,
        )  # fmt: skip
        self.topics = Topics(options.max_subscriptions)
        remembering = self._remembering = Remembering(
            options, wishes_of=self.preferences.find, note=self._note, replace=endings.replace,
            may_pass=self._may_pass, absorb=endings.absorb,
        )  # fmt: skip
        own_gates = in_order(
            options, remembering, wishes_of=self.preferences.find,
            is_called_off=self._is_called_off, why_not=self.outgoing.why_not,
        )  # fmt: skip
        self.chain = Chain([*own_gates, *gates], self.preferences.said)
        self.passage = Passage(
            clock, chain=self.chain, preferences=self.preferences, inbox=inbox, journal=self.journal,
            ledger=self.ledger, waiting=self.waiting, delivery=self.delivery, outgoing=self.outgoing,
            left=remembering.digests.left, die=endings.die, report=report,
        )  # fmt: skip
        passage = self.passage
        self.pool = WorkerPool(
            options, clock, loop, work=passage.work, poisoned=passage.poisoned, report=report
        )
        self.intake = Intake(
            options, clock=clock, ids=ids, templates=templates, journal=self.journal, ledger=self.ledger,
            pool=self.pool, waiting=self.waiting, duplicates=remembering.duplicates,
            collapses=remembering.collapses, digests=remembering.digests,
        )  # fmt: skip
        self.accept = self.intake.accept
        self.broadcasts = Broadcasts(
            options, clock=clock, ids=ids, loop=loop, topics=self.topics, intake=self.intake,
            journal=self.journal, ledger=self.ledger, queued=lambda: self.queued,
        )  # fmt: skip
        self.recall = Recall(
            clock=clock, intake=self.intake, settling=settling, journal=self.journal,
            ledger=self.ledger, waiting=self.waiting,
        )  # fmt: skip
        self.people = People(
            clock=clock, ledger=self.ledger, waiting=self.waiting, journal=self.journal, settling=settling,
            dead=self.dead, duplicates=remembering.duplicates, preferences=self.preferences,
            receipts=self.receipts, topics=self.topics, frequencies=remembering.frequencies,
            digests=remembering.digests, webhooks=self.webhooks,
        )  # fmt: skip
        self._clock = clock
        self._chores = Chores(loop, clock.wall_ms, self._by_pause_s())
        self.bad_sends = 0
        """Messages of clients that were no acknowledgement."""

    def _by_pause_s(self) -> dict[float, tuple[Chore, ...]]:
        delivery, remembering = self.delivery, self._remembering
        return {
            TICK_S: (self.waiting.advance, self.waiting.fetch, self.outgoing.tick),
            SWEEP_S: (
                delivery.judge, delivery.expire_overdue, self.ledger.forget, self.inbox.forget,
                remembering.forget,
            ),
            FORGET_S: (
                self.once.forget, self.broadcasts.forget, remembering.frequencies.forget, self.journal.forget,
            ),
        }  # fmt: skip

    @property
    def refused(self) -> int:
        """Pushes answered with 503."""
        return self.intake.refused

    def shard_of(self, push: Push) -> int:
        """The shard that this push belongs to, as it is called outside."""
        return self.first_shard + shard_of(push.user, self.options.shards)

    # ── what follows elsewhere ───────────────────────────────────────────────

    def _release(self, push: Push) -> None:
        self.recall.release(push)

    def _is_called_off(self, broadcast: str) -> bool:
        return self.broadcasts.is_cancelled(broadcast)

    def _may_pass(self, push: Push, now_ms: int) -> bool:
        return self.chain.may_pass(push, now_ms)

    def _ended(self, push: Push) -> None:
        self._remembering.ended(push)
        if push.asked.has_routes:
            self.outgoing.ended(push)
        if push.asked.broadcast:
            self.broadcasts.ended(push)

    def _note(self, note: Note) -> None:
        self.journal.write(Change(notes=(note,)), None)

    # ── what comes back ──────────────────────────────────────────────────────

    def on_send(self, user: str | None, data: bytes) -> None:
        """A connected client sent something; what is about pushes is taken, all else is counted."""
        said = acks.read(data)
        if said is None:
            self.bad_sends += 1
        elif user is not None:
            self.delivery.settle(user, said, self._clock.wall_ms())

    def health(self) -> list[ShardHealth]:
        """Every shard's queues, and whether they move."""
        now_s, now_ms = self._clock.monotonic_s(), self._clock.wall_ms()
        stalled_after_ms = self.options.stalled_after_s * 1000
        healths = [health_of(shard, now_s, now_ms, stalled_after_ms) for shard in self.pool.shards]
        return [health._replace(id=self.first_shard + health.id) for health in healths]

    def route_health(self) -> list[RouteHealth]:
        """Every way out, and how many may leave together there."""
        others = (health for route in self.outgoing.routes.values() for health in route.health())
        return [self.delivery.health(), *others]

    @property
    def queued(self) -> int:
        """Pushes that wait in shards."""
        return sum(shard.waiting for shard in self.pool.shards)

    # ── life ─────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Take up what inbox and journal kept, and begin to work."""
        self._restore_notes()
        for push in self.inbox.kept():
            push.attempted_ms = BEFORE_US
            self.ledger.restore(push)
            if push.extra is not None:
                self.waiting.watch_ttl(push)
                self._remembering.restore_sent(push)
        sent = [push for push in self.ledger.timed.values() if push.asked.has_routes]
        replay = self.journal.replay(self.waiting.horizon_ms)
        self.waiting.far = replay.far
        for push in replay.pushes:
            self.outgoing.resume(push)
            self.intake.restore(push)
        self.outgoing.drop_orphans()
        for push in sent:
            self.outgoing.resume(push)
            self.outgoing.start(push, self._clock.wall_ms())
        self.pool.start()
        self.broadcasts.start()
        self._chores.start()

    def _restore_notes(self) -> None:
        now_ms = self._clock.wall_ms()
        self._remembering.restore(self.journal, now_ms)
        self.dead.restore(self.journal.notes(DEAD, now_ms))
        self.once.restore(self.journal.notes(ONCE, now_ms))
        self.preferences.restore(self.journal.notes(PREFERENCES, now_ms))
        self.topics.restore(self.journal.notes(SUBSCRIPTIONS, now_ms), self.journal.notes(KNOWN, now_ms))
        self.broadcasts.restore(now_ms)
        self.webhooks.restore(self.journal.notes(WEBHOOKS, now_ms))
        self.outgoing.restore(self.journal.notes(ROUTES, now_ms))

    def refuse(self) -> None:
        """Accept nothing more: first step of a stop."""
        self.intake.is_stopping = True

    def halt(self) -> None:
        """Work no more; what was begun is still answered."""
        self.refuse()
        self.pool.stop()
        self.broadcasts.stop()
        self._chores.stop()
        self.outgoing.close()

    async def stop(self) -> None:
        """Stop working and close inbox and journal, which write what they hold.

        Call ``refuse`` first and wait, for as long as you like, until ``queued`` is 0: what is
        still queued then is lost with the process, unless the journal is durable.
        """
        self.halt()
        await self.inbox.close()
        await self.journal.close()
