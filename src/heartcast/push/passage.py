"""From the shard into the inbox, or straight to the routes that need none.

A worker hands over a batch. What all gates let pass goes into the inboxes in one call and
is handed to delivery when it is there; until then it is ``SENDING`` and can no longer be
called back. What a gate held back ends or waits, and keeps the verdict for its trace.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from heartcast.core.clock import Clock
from heartcast.core.errors import StoreUnavailable
from heartcast.push.delivery import Delivery, Report
from heartcast.push.endings import Die
from heartcast.push.gates import Chain, Verdict
from heartcast.push.inbox import Inbox
from heartcast.push.journal import Change, Journal
from heartcast.push.ledger import Ledger
from heartcast.push.model import MAX_ROUNDS, Push, Round, State
from heartcast.push.outgoing import Outgoing
from heartcast.push.preferences import PreferenceBook
from heartcast.push.waiting import Waiting
from heartcast.push.workers import Finish


class Passage:
    """What workers do with a batch.

    Args:
        left: Told of each push that no longer waits in its shard, but for a time.
        die: Ends a push that cannot be worked off.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        chain: Chain,
        preferences: PreferenceBook,
        inbox: Inbox,
        journal: Journal,
        ledger: Ledger,
        waiting: Waiting,
        delivery: Delivery,
        outgoing: Outgoing,
        left: Callable[[Push], None],
        die: Die,
        report: Report,
    ) -> None:
        self._clock = clock
        self._chain = chain
        self._preferences = preferences
        self._inbox = inbox
        self._journal = journal
        self._ledger = ledger
        self._waiting = waiting
        self._delivery = delivery
        self._outgoing = outgoing
        self._left = left
        self._die = die
        self._report = report
        self.held: dict[tuple[str, str], int] = {}
        """Verdicts that did not let a push pass, by gate and reason."""

    def work(self, batch: list[Push], finish: Finish) -> None:
        """Take a batch through; see ``WorkerPool``."""
        now_ms = self._clock.wall_ms()
        leaving: list[Push] = []
        ask, queued, sending = self._chain.ask, State.QUEUED, State.SENDING
        said = self._preferences.said
        try:
            for push in batch:
                if push.state is not queued:
                    continue
                # One that the inbox refused has passed, and was counted, already.
                if not push.gated_ms:
                    if (spoken := ask(push, now_ms)) is not None:
                        self._hold(push, *spoken, now_ms)
                        continue
                    push.gated_ms = now_ms
                    if push.user in said:
                        self._localize(push)
                if push.extra is not None and not self._outgoing.needs_inbox(push):
                    self._leave_outside(push, now_ms)
                    continue
                push.state = sending
                leaving.append(push)
            if leaving:
                self._inbox.append(leaving, now_ms, partial(self._stored, leaving, finish))
            else:
                finish(0)
        except Exception:
            for push in leaving:
                if push.state is State.SENDING:
                    push.state = State.QUEUED
            raise

    def poisoned(self, push: Push, error: Exception) -> None:
        """A push made its worker fail alone."""
        # One that reached the inbox is safe there, whatever failed afterwards.
        if push.state is State.QUEUED:
            now_ms = self._clock.wall_ms()
            self._die(push, "worker_crashed", repr(error), now_ms)
            self._journal.write(Change(ended=(push,)), None)

    def _localize(self, push: Push) -> None:
        # Here and not when it is rendered: what is in the inbox no longer changes its language.
        locale = self._preferences.of(push.user).document.locale
        if locale is not None and not push.asked.locale:
            push.made_special().locale = locale

    def _leave_outside(self, push: Push, now_ms: int) -> None:
        """A push that only calls somebody: its user's inbox is not to see it."""
        push.state = State.SENT
        push.changed_ms = now_ms
        self._waiting.watch_ttl(push)
        self._outgoing.start(push, now_ms)

    def _hold(self, push: Push, gate: str, verdict: Verdict, now_ms: int) -> None:
        key = (gate, verdict.reason)
        self.held[key] = self.held.get(key, 0) + 1
        rounds = push.made_special().rounds
        rounds.append(
            Round(now_ms, gate, verdict.state.value, verdict.reason, verdict.until_ms, verdict.other)
        )
        del rounds[:-MAX_ROUNDS]
        if verdict.state is State.DEFERRED:
            self._left(push)
            self._waiting.defer(push, verdict.until_ms, now_ms)
        else:
            self._ledger.end(push, verdict.state, verdict.reason, now_ms)
            self._journal.write(Change(ended=(push,)), None)

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
                self._waiting.watch_ttl(push)
            if push.extra is not None and push.extra.has_routes:
                special.append(push)
        for push in result:
            self._ledger.end(push, State.EXPIRED, "inbox_full", now_ms)
        failed = self._deliver(pushes, now_ms)
        for push in special:
            if push.state is sent:
                self._outgoing.start(push, now_ms)
        finish(failed)

    def _deliver(self, pushes: list[Push], now_ms: int) -> int:
        failed = 0
        stored = self._delivery.stored
        for push in pushes:
            # One that was evicted at once, by those behind it, has nothing left to send.
            if push.state is State.SENT and not stored(push, now_ms):
                failed += 1
        return failed
