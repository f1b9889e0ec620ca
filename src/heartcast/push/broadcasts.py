"""Broadcasts: one push to each subscriber of a topic, or to everybody who is known.

A broadcast goes through its audience in the order of the users' ids, a page at a time. A
page's pushes and the place that they reach are written together: after a crash either both
are there or neither, so nobody gets it twice and nobody is left out. Who subscribes behind
that place while it runs is not reached, who leaves in front of it is not pushed to.

Nothing of the audience is copied: in memory is the place, and the pushes that were
accepted. A broadcast waits while the shards have enough to do, so that a single push finds
at most ``MOST_QUEUED`` of it in front of itself; when others keep the shards that full it
goes on with a trickle. It also leaves a share of the room for waiting pushes to others.

Its figures add up at any moment: accepted = waiting + delivered + suppressed + expired +
cancelled + failed + dead. Ends are counted in the same write that ends a push.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from heartcast.core.clock import Clock
from heartcast.core.errors import (
    Conflict,
    HeartcastError,
    NotFound,
    Overloaded,
    StoreUnavailable,
    Unavailable,
)
from heartcast.core.ids import IdSource
from heartcast.core.ordered import OrderedKeys
from heartcast.push.broadcast import ENDED, REACHED, WHAT, Broadcast, Reached, Status, What, restored
from heartcast.push.intake import Intake, Taken
from heartcast.push.journal import Change, Journal, Note, Written
from heartcast.push.ledger import Ledger
from heartcast.push.model import Extra, Push
from heartcast.push.options import PushOptions
from heartcast.push.topics import Topics
from heartcast.push.workers import Loop

PAGE = 256
"""Users served in one turn of the event loop: about 3 ms."""
MOST_QUEUED = 2_000
"""Pushes in shards at which a broadcast slows down: some 50 ms of work."""
TRICKLE = 64
"""Users served in a round while the shards are that full: 640 a second."""
BUSY_S, IDLE_S = 0.01, 0.1
"""Pause before the next round, when the last one was a full page and when it was not."""
REFUSED_S = 1.0
"""Pause when the journal could not take a page."""

FEEDING = (Status.SCHEDULED, Status.RUNNING)
Notes = Callable[[], Sequence[Note]]


class Broadcasts:
    """All broadcasts of this process. ``service`` makes one and hands it its parts."""

    def __init__(
        self,
        options: PushOptions,
        *,
        clock: Clock,
        ids: IdSource,
        loop: Loop,
        topics: Topics,
        intake: Intake,
        journal: Journal,
        ledger: Ledger,
        queued: Callable[[], int],
    ) -> None:
        self._limit = options.max_broadcasts
        self._keep_ms = round(options.keep_ended_s * 1000)
        self._most_kept = round(options.max_kept * options.broadcast_share)
        self._clock = clock
        self._ids = ids
        self._loop = loop
        self._topics = topics
        self._intake = intake
        self._journal = journal
        self._ledger = ledger
        self._queued = queued
        self._all: dict[str, Broadcast] = {}
        self._timer: Any = None
        self._is_stopped = False
        self._resume_s = 0.0
        self._page, self._trickle, self._most_queued, self._busy_s = PAGE, TRICKLE, MOST_QUEUED, BUSY_S

    # ── asking ───────────────────────────────────────────────────────────────

    def find(self, broadcast_id: str) -> Broadcast:
        """The broadcast with this id.

        Raises:
            NotFound: there is none (code ``no_broadcast``).
        """
        broadcast = self._all.get(broadcast_id)
        if broadcast is None:
            raise NotFound("no broadcast has this id, or its record is no longer kept", code="no_broadcast")
        return broadcast

    def by_status(self) -> Counter[str]:
        """How many records are kept of each status."""
        return Counter(broadcast.what.status.value for broadcast in self._all.values())

    def page(self, before: str, limit: int) -> list[Broadcast]:
        """Broadcasts made before the one with this id ("": all), newest first, at most ``limit``."""
        ids = sorted((id_ for id_ in self._all if not before or id_ < before), reverse=True)
        return [self._all[id_] for id_ in ids[:limit]]

    def audience(self, broadcast: Broadcast) -> OrderedKeys:
        """Whom it is for, as it is now."""
        topic = broadcast.what.topic
        return self._topics.subscribers(topic) if topic else self._topics.everybody

    # ── changing ─────────────────────────────────────────────────────────────

    def make(
        self, topic: str, template: str, payload: bytes, extra: Extra, per_s: float, due_ms: int
    ) -> Broadcast:
        """A new broadcast, which is not known before ``begin``.

        Raises:
            Overloaded: as many are kept as may be (code ``broadcasts_full``).
        """
        if len(self._all) >= self._limit:
            self._make_room()
        now_ms = self._clock.wall_ms()
        status = Status.SCHEDULED if due_ms > now_ms else Status.RUNNING
        what = What(
            self._ids.next(), topic, template, payload, extra, per_s, due_ms, now_ms, status, "", now_ms
        )  # fmt: skip
        return Broadcast(what)

    def begin(self, broadcast: Broadcast, notes: Sequence[Note], done: Written) -> None:
        """Keep a broadcast and, when ``done`` was told None, let it run."""
        change = Change(notes=[broadcast.what_note(), *notes])
        self._journal.write(change, partial(self._begun, broadcast, done))

    def set_status(self, broadcast: Broadcast, status: Status, notes: Notes, done: Written) -> None:
        """Pause, resume or cancel. It acts at once; ``done`` is told when that is safe.

        Args:
            notes: Called when it has acted: what must be written with it.

        Raises:
            Conflict: it is over (code ``broadcast_ended``).
        """
        what = broadcast.what
        is_done = what.status not in (*FEEDING, Status.PAUSED)
        if what.status is not status and is_done and (status is not Status.CANCELLED or broadcast.is_over):
            raise Conflict(f"this broadcast is over: {what.status.value}", code="broadcast_ended")
        now_ms = self._clock.wall_ms()
        if status is Status.RUNNING and what.due_ms > now_ms:
            status = Status.SCHEDULED
        before = (what.status, what.changed_ms)
        self._enter(broadcast, status, now_ms)
        change = Change(notes=[broadcast.what_note(), *notes()])
        self._journal.write(change, partial(self._set, broadcast, before, done))

    def _begun(self, broadcast: Broadcast, done: Written, error: StoreUnavailable | None) -> None:
        if error is None:
            self._all[broadcast.what.id] = broadcast
            self._wake()
        done(error)

    def _set(
        self,
        broadcast: Broadcast,
        before: tuple[Status, int],
        done: Written,
        error: StoreUnavailable | None,
    ) -> None:
        # What a cancel has ended cannot be brought back; nobody was promised that it goes on.
        if error is not None and broadcast.what.status is not Status.CANCELLED:
            self._enter(broadcast, *before)
        done(error)

    def _enter(self, broadcast: Broadcast, status: Status, now_ms: int) -> None:
        if broadcast.what.status is not status:
            broadcast.what.status, broadcast.what.changed_ms = status, now_ms
            # What its rate allowed meanwhile is gone: it does not catch up.
            broadcast.pace.credited_s = 0.0
        self._wake()

    def _make_room(self) -> None:
        over = [id_ for id_, broadcast in self._all.items() if broadcast.is_over]
        if not over:
            raise Overloaded(
                "as many broadcasts are kept as may be", retry_after_s=60, code="broadcasts_full"
            )
        self._drop(over[0])

    # ── serving ──────────────────────────────────────────────────────────────

    def _wake(self) -> None:
        if self._timer is None and not self._is_stopped:
            self._timer = self._loop.call_later(self._busy_s, self._round)

    def _round(self) -> None:
        self._timer = None
        now_s, now_ms = self._clock.monotonic_s(), self._clock.wall_ms()
        feeding = [broadcast for broadcast in self._all.values() if broadcast.what.status in FEEDING]
        is_busy = False
        for broadcast in feeding:
            if broadcast.what.status is Status.SCHEDULED:
                if broadcast.what.due_ms > now_ms:
                    continue
                self._enter(broadcast, Status.RUNNING, now_ms)
            if not broadcast.is_writing and now_s >= self._resume_s and self._may_serve():
                is_busy |= self._serve(broadcast, now_s)
        if feeding and self._timer is None and not self._is_stopped:
            pause_s = self._busy_s if is_busy else max(self._busy_s, IDLE_S)
            self._timer = self._loop.call_later(pause_s, self._round)

    def _serve(self, broadcast: Broadcast, now_s: float) -> bool:
        """Accept a page of pushes; returns whether it was a full one."""
        broadcast.pace.earn(now_s, self._share())
        most = self._room()
        if broadcast.what.per_s:
            most = min(most, int(broadcast.pace.credit))
        if most <= 0:
            return False
        users = self.audience(broadcast).after(broadcast.reached.cursor, most)
        if not users:
            self._finish(broadcast, Status.DONE, "")
            return False
        taken = self._take(broadcast, users)
        if taken:
            broadcast.pace.credit -= len(taken)
            last = taken[-1][0].user
            reached = Reached(last, broadcast.reached.accepted + len(taken))
            broadcast.is_writing = True
            self._intake.submit(
                taken, [broadcast.reached_note(reached)], partial(self._served, broadcast, reached)
            )
        return len(taken) == self._page

    def _may_serve(self) -> bool:
        return True

    def _share(self) -> float:
        """How much of a broadcast's rate is for those served here, 0 to 1."""
        return 1.0

    def _room(self) -> int:
        kept = len(self._ledger.live) + len(self._ledger.timed)
        most = self._page if self._queued() < self._most_queued else self._trickle
        return min(most, self._most_kept - kept)

    def _take(self, broadcast: Broadcast, users: Iterable[str]) -> list[Taken]:
        taken: list[Taken] = []
        what = broadcast.what
        try:
            for user in users:
                extra = broadcast.extra()
                taken.append(self._intake.take(user, what.template, broadcast.payload, extra))
        except Unavailable:
            # A shard is full, or all is: the rest has its turn in a later round.
            return taken
        except HeartcastError as error:
            # Its template is gone, or no longer takes what it took when this was made.
            self._finish(broadcast, Status.FAILED, error.detail)
        return taken

    def _served(self, broadcast: Broadcast, reached: Reached, error: StoreUnavailable | None) -> None:
        broadcast.is_writing = False
        if error is None:
            broadcast.reached = reached
        else:
            # A full disk must not be hammered.
            self._resume_s = self._clock.monotonic_s() + REFUSED_S

    def _finish(self, broadcast: Broadcast, status: Status, reason: str) -> None:
        self._enter(broadcast, status, self._clock.wall_ms())
        broadcast.what.reason = reason
        self._journal.write(Change(notes=[broadcast.what_note()]), None)

    # ── what becomes of the pushes ───────────────────────────────────────────

    def is_cancelled(self, broadcast_id: str) -> bool:
        """Whether the pushes of this broadcast that have not left must not leave."""
        broadcast = self._all.get(broadcast_id)
        return broadcast is not None and broadcast.what.status is Status.CANCELLED

    def ended(self, push: Push) -> None:
        """A push of a broadcast ended; called before that end is written."""
        if broadcast := self._all.get(push.asked.broadcast):
            broadcast.ended[push.state] += 1
            # In the turn of the loop that writes the end, and so in one group with it.
            self._journal.write(Change(notes=[broadcast.ended_note()]), None)

    # ── life ─────────────────────────────────────────────────────────────────

    def restore(self, now_ms: int) -> None:
        """Take up what an earlier process kept; nothing runs before ``start``."""
        reached = {note.key[len(REACHED) :]: note.value for note in self._journal.notes(REACHED, now_ms)}
        ended = {note.key[len(ENDED) :]: note.value for note in self._journal.notes(ENDED, now_ms)}
        for note in self._journal.notes(WHAT, now_ms):
            id_ = note.key[len(WHAT) :]
            self._all[id_] = restored(note, reached.get(id_), ended.get(id_))

    def start(self) -> None:
        """Go on with what is not over."""
        self._wake()

    def stop(self) -> None:
        """Accept nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        self._is_stopped = True

    def forget(self, now_ms: int) -> None:
        """Drop the records of those that are over for long."""
        for id_, broadcast in list(self._all.items()):
            if broadcast.is_over and now_ms - broadcast.what.changed_ms > self._keep_ms:
                self._drop(id_)

    def _drop(self, broadcast_id: str) -> None:
        broadcast = self._all.pop(broadcast_id)
        self._journal.write(Change(notes=broadcast.gone_notes()), None)
