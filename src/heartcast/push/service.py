"""The push domain as the rest of the program sees it.

``intake`` takes a push: it checks, gives an id, picks the shard and appends, without a
task and, in memory, without waiting. From there a worker takes the push through the gates
into the user's inbox, and delivery takes it to the user. A push lives until it is delivered,
suppressed, expired, cancelled or dead; it reaches exactly one of those once.

This module joins the parts and keeps the way from the shard into the inbox.
``docs/explanation/push-guarantees.md`` says what survives what.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from heartcast.core.clock import Clock
from heartcast.core.errors import StoreUnavailable
from heartcast.core.hashing import shard_of
from heartcast.core.ids import IdSource
from heartcast.core.wheel import TimingWheel
from heartcast.push import acks
from heartcast.push.broadcasts import Broadcasts
from heartcast.push.dead import KIND as DEAD
from heartcast.push.dead import DeadLetters
from heartcast.push.delivery import Delivery, Report
from heartcast.push.digests import KIND as DIGESTS
from heartcast.push.digests import Digests
from heartcast.push.gates import Chain, Gate, Verdict
from heartcast.push.gates.cap import KIND as CAPS
from heartcast.push.gates.cap import Caps
from heartcast.push.gates.frequency import KIND as FREQUENCY
from heartcast.push.gates.frequency import Frequencies
from heartcast.push.gates.life import cancelled, experiment, expired
from heartcast.push.gates.preference import preference, quiet_hours
from heartcast.push.gates.repeats import KIND as KEYS
from heartcast.push.gates.repeats import Collapses, Duplicates
from heartcast.push.gates.route import route_choice
from heartcast.push.health import ShardHealth, health_of
from heartcast.push.inbox import Inbox
from heartcast.push.intake import Intake
from heartcast.push.journal import Change, Journal, Note
from heartcast.push.journal.memory import MemoryJournal
from heartcast.push.ledger import Ledger
from heartcast.push.model import MAX_ROUNDS, Push, Round, State
from heartcast.push.once import KIND as ONCE
from heartcast.push.once import Once
from heartcast.push.options import PushOptions
from heartcast.push.outgoing import KIND as ROUTES
from heartcast.push.outgoing import Outgoing
from heartcast.push.people import People
from heartcast.push.preferences import KIND as PREFERENCES
from heartcast.push.preferences import PreferenceBook
from heartcast.push.recall import Recall
from heartcast.push.receipts import Receipts
from heartcast.push.routes import RouteHealth
from heartcast.push.routes.lane import Posting
from heartcast.push.routes.realtime import Deliver, IsWatched, RealtimeRoute
from heartcast.push.routes.webhook import WebhookRoute
from heartcast.push.settling import Settling
from heartcast.push.templates import Templates
from heartcast.push.topics import KNOWN, SUBSCRIPTIONS, Topics
from heartcast.push.waiting import Waiting
from heartcast.push.webhooks import KIND as WEBHOOKS
from heartcast.push.webhooks import WebhookBook
from heartcast.push.workers import Finish, Loop, WorkerPool

SWEEP_S = 1.0
TICK_S = 0.1
FORGET_EVERY = 60
"""Sweeps between two rounds of forgetting notes that ran out."""
SWEEP_PUSHES = 5_000
"""Most pushes that expire in one sweep, so that it takes milliseconds."""


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
        self.pool = WorkerPool(options, clock, loop, work=self._work, poisoned=self._poisoned, report=report)
        self.dead = DeadLetters(self.journal, options.max_dead)
        self.once = Once(options.max_keys, round(options.keep_keys_s * 1000))
        self.preferences = PreferenceBook()
        self.receipts = Receipts()
        self.wall_ms = clock.wall_ms
        self._ttl_ms = round(options.ttl_s * 1000)
        settling = self._settling = Settling(inbox, self.journal)
        self.delivery = Delivery(
            options, clock, inbox=inbox, ledger=self.ledger, settling=settling,
            route=RealtimeRoute(deliver, is_watched), wheel=wheel, report=report, die=self._die,
        )  # fmt: skip
        self.waiting = Waiting(
            options, journal=self.journal, ledger=self.ledger, release=self._release,
            expire=self._expire, report=report, now_ms=now_ms,
        )  # fmt: skip
        self.webhooks = WebhookBook(options.webhooks)
        self.posts = WebhookRoute(
            options.webhooks, clock, book=self.webhooks, posting=posting, note=self._note
        )
        self.outgoing = Outgoing(
            clock, routes=(self.posts,), backoff=options.webhooks.retry,
            fallback_ms=round(options.fallback_after_s * 1000), ttl_ms=self._ttl_ms,
            wishes_of=self.preferences.find, ledger=self.ledger, journal=self.journal,
            settling=settling, die=self._die, report=report,
        )  # fmt: skip
        self._caps = Caps(options.cap, options.category_caps, self._note)
        self._frequencies = Frequencies(self.preferences.find, self._note)
        self.topics = Topics(options.max_subscriptions)
        self._duplicates = Duplicates(options.max_dedupe_keys, self._note)
        self._collapses = Collapses(self._replace)
        self._digests = Digests(
            options.max_payload_bytes, wishes_of=self.preferences.find, note=self._note,
            may_pass=self._may_pass, absorb=self._absorb,
        )  # fmt: skip
        self.intake = Intake(
            options, clock=clock, ids=ids, templates=templates, journal=self.journal, ledger=self.ledger,
            pool=self.pool, waiting=self.waiting, duplicates=self._duplicates, collapses=self._collapses,
            digests=self._digests,
        )  # fmt: skip
        self.accept = self.intake.accept
        self.broadcasts = Broadcasts(
            options, clock=clock, ids=ids, loop=loop, topics=self.topics, intake=self.intake,
            journal=self.journal, ledger=self.ledger, queued=lambda: self.queued,
        )  # fmt: skip
        self.chain = Chain([*self._own_gates(), *gates], self.preferences.said)
        self.recall = Recall(
            clock=clock, intake=self.intake, settling=settling, journal=self.journal,
            ledger=self.ledger, waiting=self.waiting,
        )  # fmt: skip
        self.people = People(
            clock=clock, ledger=self.ledger, waiting=self.waiting, journal=self.journal, settling=settling,
            dead=self.dead, duplicates=self._duplicates, preferences=self.preferences,
            receipts=self.receipts, topics=self.topics, frequencies=self._frequencies,
        )  # fmt: skip
        self._clock = clock
        self._loop = loop
        self._report = report
        self._sweeping: Any = None
        self._ticking: Any = None
        self._sweeps = 0
        self.bad_sends = 0
        """Messages of clients that were no acknowledgement."""
        self.held: dict[tuple[str, str], int] = {}
        """Verdicts that did not let a push pass, by gate and reason."""

    def _own_gates(self) -> list[Gate]:
        wishes_of = self.preferences.find
        cap = self._caps.gate()
        return [
            expired(self._ttl_ms),
            cancelled(self.broadcasts.is_cancelled),
            preference(wishes_of),
            self._duplicates.gate(),
            experiment(),
            *((cap,) if cap else ()),
            self._frequencies.gate(),
            quiet_hours(wishes_of, round(self.options.quiet_jitter_s * 1000)),
            self._collapses.gate(),
            route_choice(wishes_of, self.outgoing.why_not),
            self._digests.gate(),
        ]

    @property
    def refused(self) -> int:
        """Pushes answered with 503."""
        return self.intake.refused

    def shard_of(self, push: Push) -> int:
        """The shard that this push belongs to, as it is called outside."""
        return self.first_shard + shard_of(push.user, self.options.shards)

    # ── working off ──────────────────────────────────────────────────────────

    def _work(self, batch: list[Push], finish: Finish) -> None:
        now_ms = self._clock.wall_ms()
        leaving: list[Push] = []
        ask, queued, sending = self.chain.ask, State.QUEUED, State.SENDING
        said = self.preferences.said
        try:
            for push in batch:
                if push.state is not queued:
                    continue
                # One that the inbox refused has passed, and was counted, already.
                if not push.gated_ms:
                    if (spoken := ask(push, now_ms)) is not None:
                        self._held(push, *spoken, now_ms)
                        continue
                    push.gated_ms = now_ms
                    if push.user in said:
                        self._localize(push)
                if push.extra is not None and not self.outgoing.needs_inbox(push):
                    self._leave_outside(push, now_ms)
                    continue
                push.state = sending
                leaving.append(push)
            if leaving:
                self.inbox.append(leaving, now_ms, partial(self._stored, leaving, finish))
            else:
                finish(0)
        except Exception:
            for push in leaving:
                if push.state is State.SENDING:
                    push.state = State.QUEUED
            raise

    def _localize(self, push: Push) -> None:
        # Here and not when it is rendered: what is in the inbox no longer changes its language.
        locale = self.preferences.of(push.user).document.locale
        if locale is not None and not push.asked.locale:
            push.made_special().locale = locale

    def _leave_outside(self, push: Push, now_ms: int) -> None:
        """A push that only calls somebody: its user's inbox is not to see it."""
        push.state = State.SENT
        push.changed_ms = now_ms
        self.waiting.watch_ttl(push)
        self.outgoing.start(push, now_ms)

    def _held(self, push: Push, gate: str, verdict: Verdict, now_ms: int) -> None:
        key = (gate, verdict.reason)
        self.held[key] = self.held.get(key, 0) + 1
        rounds = push.made_special().rounds
        rounds.append(
            Round(now_ms, gate, verdict.state.value, verdict.reason, verdict.until_ms, verdict.other)
        )
        del rounds[:-MAX_ROUNDS]
        if verdict.state is State.DEFERRED:
            self._digests.left(push)
            self.waiting.defer(push, verdict.until_ms, now_ms)
        else:
            self.ledger.end(push, verdict.state, verdict.reason, now_ms)
            self.journal.write(Change(ended=(push,)), None)

    def _stored(self, pushes: list[Push], finish: Finish, result: list[Push] | StoreUnavailable) -> None:
        if isinstance(result, StoreUnavailable):
            self._report("the inbox could not take pushes; they stay queued", result)
            for push in pushes:
                push.state = State.QUEUED
            finish(None)
            return
        now_ms = self._clock.wall_ms()
        sent = State.SENT
        special: list[Push] = []
        for push in pushes:
            push.state = sent
            push.changed_ms = now_ms
            if push.extra is not None and (push.extra.ttl_ms or push.extra.due_ms):
                self.waiting.watch_ttl(push)
            if push.extra is not None and push.extra.has_routes:
                special.append(push)
        for push in result:
            self.ledger.end(push, State.EXPIRED, "inbox_full", now_ms)
        failed = self._deliver(pushes, now_ms)
        for push in special:
            if push.state is sent:
                self.outgoing.start(push, now_ms)
        finish(failed)

    def _deliver(self, pushes: list[Push], now_ms: int) -> int:
        failed = 0
        stored = self.delivery.stored
        for push in pushes:
            # One that was evicted at once, by those behind it, has nothing left to send.
            if push.state is State.SENT and not stored(push, now_ms):
                failed += 1
        return failed

    def _poisoned(self, push: Push, error: Exception) -> None:
        # One that reached the inbox is safe there, whatever failed afterwards.
        if push.state is State.QUEUED:
            now_ms = self._clock.wall_ms()
            self._die(push, "worker_crashed", repr(error), now_ms)
            self.journal.write(Change(ended=(push,)), None)

    # ── what other parts report ──────────────────────────────────────────────

    def _die(self, push: Push, reason: str, detail: str, now_ms: int) -> None:
        if self.ledger.living(push.id) is push:
            # First the letter: a crash in between leaves both, and the push dies again.
            is_kept = self.dead.add(push, reason, detail, now_ms)
            self.ledger.end(push, State.DEAD if is_kept else State.FAILED, reason, now_ms)

    def _release(self, push: Push) -> None:
        self.recall.release(push)

    def _expire(self, push: Push, now_ms: int) -> None:
        self.delivery.lost([push], State.EXPIRED, "ttl", now_ms)

    def _replace(self, older: Push, newer: Push, now_ms: int) -> None:
        older.made_special().rounds.append(
            Round(now_ms, "merge", State.SUPPRESSED.value, "collapsed", 0, newer.id)
        )
        if self.ledger.end(older, State.SUPPRESSED, "collapsed", now_ms):
            # Its user misses nothing: the newer one stands for it.
            self._settling.settle([older], is_lost=False, now_ms=now_ms)

    def _may_pass(self, push: Push, now_ms: int) -> bool:
        return self.chain.may_pass(push, now_ms)

    def _absorb(self, push: Push, others: list[Push], payload: bytes, now_ms: int) -> None:
        self.ledger.resize(push, payload)
        for other in others:
            other.made_special().rounds.append(
                Round(now_ms, "digest", State.SUPPRESSED.value, "merged", 0, push.id)
            )
            self.ledger.end(other, State.SUPPRESSED, "merged", now_ms)
        self.journal.write(Change(changed=[push], ended=others), None)

    def _ended(self, push: Push) -> None:
        self._digests.left(push)
        if push.asked.has_routes:
            self.outgoing.ended(push)
        if push.asked.dedupe_key:
            self._duplicates.ended(push)
        if push.asked.collapse_key:
            self._collapses.ended(push)
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

    def find(self, push_id: str) -> Push:
        """The push with this id, unless it is far: ``recall.find`` finds those too.

        Raises:
            NotFound: unknown, or no longer kept (code ``push_forgotten``).
        """
        return self.ledger.find(push_id)

    def health(self) -> list[ShardHealth]:
        """Every shard's queues, and whether they move."""
        now_s, now_ms = self._clock.monotonic_s(), self._clock.wall_ms()
        stalled_after_ms = self.options.stalled_after_s * 1000
        healths = [health_of(shard, now_s, now_ms, stalled_after_ms) for shard in self.pool.shards]
        return [health._replace(id=self.first_shard + health.id) for health in healths]

    def route_health(self) -> list[RouteHealth]:
        """Every way out, and how many may leave together there."""
        return [self.delivery.health(), *self.posts.health()]

    @property
    def queued(self) -> int:
        """Pushes that wait in shards."""
        return sum(shard.waiting for shard in self.pool.shards)

    # ── life ─────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Take up what inbox and journal kept, and begin to work."""
        self._restore_notes()
        for push in self.inbox.kept():
            self.ledger.restore(push)
            if push.extra is not None:
                self._restore_sent(push)
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
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
        self._ticking = self._loop.call_later(TICK_S, self._tick)

    def _restore_notes(self) -> None:
        now_ms = self._clock.wall_ms()
        self._caps.restore(self.journal.notes(CAPS, now_ms))
        self._duplicates.restore(self.journal.notes(KEYS, now_ms))
        self.dead.restore(self.journal.notes(DEAD, now_ms))
        self.once.restore(self.journal.notes(ONCE, now_ms))
        self.preferences.restore(self.journal.notes(PREFERENCES, now_ms))
        self._frequencies.restore(self.journal.notes(FREQUENCY, now_ms))
        self.topics.restore(self.journal.notes(SUBSCRIPTIONS, now_ms), self.journal.notes(KNOWN, now_ms))
        self.broadcasts.restore(now_ms)
        self.webhooks.restore(self.journal.notes(WEBHOOKS, now_ms))
        self._digests.restore(self.journal.notes(DIGESTS, now_ms))
        self.outgoing.restore(self.journal.notes(ROUTES, now_ms))

    def _restore_sent(self, push: Push) -> None:
        self.waiting.watch_ttl(push)
        if push.asked.collapse_key:
            self._collapses.add(push)

    def _tick(self) -> None:
        self._ticking = self._loop.call_later(TICK_S, self._tick)
        now_ms = self._clock.wall_ms()
        self.waiting.advance(now_ms)
        self.waiting.fetch(now_ms)
        self.outgoing.tick(now_ms)

    def _sweep(self) -> None:
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
        now_ms = self._clock.wall_ms()
        self.delivery.judge(self._clock.monotonic_ns())
        overdue = list(self.ledger.overdue(self._ttl_ms, now_ms, SWEEP_PUSHES))
        self.delivery.lost(overdue, State.EXPIRED, "ttl", now_ms)
        self.ledger.forget(now_ms)
        self.inbox.forget(now_ms)
        self._duplicates.forget(now_ms)
        self._digests.forget(now_ms)
        self._sweeps += 1
        if self._sweeps % FORGET_EVERY == 0:
            self.once.forget(now_ms)
            self.broadcasts.forget(now_ms)
            self._frequencies.forget(now_ms)
            self.journal.forget(now_ms)

    def refuse(self) -> None:
        """Accept nothing more: first step of a stop."""
        self.intake.is_stopping = True

    def halt(self) -> None:
        """Work no more; what was begun is still answered."""
        self.refuse()
        self.pool.stop()
        self.broadcasts.stop()
        for timer in (self._sweeping, self._ticking):
            if timer is not None:
                timer.cancel()
        self._sweeping = self._ticking = None
        self.outgoing.close()

    async def stop(self) -> None:
        """Stop working and close inbox and journal, which write what they hold.

        Call ``refuse`` first and wait, for as long as you like, until ``queued`` is 0: what is
        still queued then is lost with the process, unless the journal is durable.
        """
        self.halt()
        await self.inbox.close()
        await self.journal.close()
