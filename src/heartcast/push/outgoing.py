"""Pushes that are under way on routes which answer for themselves, or will fall back to one.

A push leaves over all of its first routes at once. Whichever has an acknowledgement first
ends it, and the others stop: what has not been sent is passed over. A try that failed is
made again, later and later; a route that was refused, or tried as often as may be, is
over. When all are over, or when none had an acknowledgement in time, the fallback begins.
When that is over too, and the push is not in an inbox where its user may still find it,
it dies, and its letter is kept.

How far a push has come is a note in the journal, ``r:<id>``: a new process goes on with
the next try instead of asking the gates again. The push itself stays where it is kept until it
has ended, so a crash may repeat a try and forgets none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random, SystemRandom

import msgspec

from heartcast.core.clock import Clock
from heartcast.push.endings import Die
from heartcast.push.gates.preference import WishesOf
from heartcast.push.gates.route import Choice, choice_of
from heartcast.push.journal import Change, Journal, Note
from heartcast.push.ledger import Ledger
from heartcast.push.model import MAX_ROUNDS, Push, Round, State
from heartcast.push.routes import REALTIME, Outcome, Result, Route, kind_of
from heartcast.push.settling import Settling
from heartcast.push.wheel import PushWheel
from heartcast.resilience.retry import Backoff

KIND = "r:"
_KEEP_MS = 24 * 3_600_000
"""How much longer than its push a note is kept, should its end not have been written."""
Report = Callable[[str, BaseException], None]


class Leg(msgspec.Struct, gc=False, omit_defaults=True):
    """One route of one push."""

    tries: int = 0
    """How many failed."""
    next_ms: int = 0
    """When the next is due; 0: one is under way."""


class Progress(msgspec.Struct, omit_defaults=True):
    """How far a push has come on its routes."""

    gated_ms: int
    """When all gates let it pass."""
    fallback_ms: int = 0
    """Wall time at which it falls back; 0: it has, or has nothing to fall back to."""
    legs: dict[str, Leg] = {}
    """Routes that are not over."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Progress).decode


class Outgoing:
    """Sends, waits, and sends again.

    Args:
        routes: One of each kind.
        backoff: How often one route is tried for one push, and the waits between.
        fallback_ms: How long the first routes have, where the push does not say.
        ttl_ms: The server's own time to live.
        die: Ends a push whose routes are all over.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        routes: Iterable[Route],
        backoff: Backoff,
        fallback_ms: int,
        ttl_ms: int,
        wishes_of: WishesOf,
        ledger: Ledger,
        journal: Journal,
        settling: Settling,
        die: Die,
        report: Report,
        random: Random | None = None,
    ) -> None:
        self._clock = clock
        self.routes = {route.kind: route for route in routes}
        self._backoff = backoff
        self._fallback_ms = fallback_ms
        self._ttl_ms = ttl_ms
        self._wishes_of = wishes_of
        self._ledger = ledger
        self._journal = journal
        self._settling = settling
        self._die = die
        self._report = report
        self._random = random or SystemRandom()
        self._wheel = PushWheel(clock.wall_ms())
        self._under_way: dict[str, Progress] = {}
        self.retried = 0
        """Tries beyond the first."""
        self.fallen_back = 0
        """Pushes that went on to their fallback."""
        self.ends: dict[tuple[str, str], int] = {}
        """Pushes that ended here, by kind of route and ``success`` or ``failed``."""
        for route in self.routes.values():
            route.done = self._done

    def __len__(self) -> int:
        return len(self._under_way)

    def why_not(self, push: Push, route: str) -> str:
        """Why a push cannot go over a route other than realtime; "": it can."""
        found = self.routes.get(kind_of(route))
        return found.why_not(push, route) if found else "no_such_route"

    def choice(self, push: Push) -> Choice:
        """The routes that are open to this push, now."""
        return choice_of(push, self._wishes_of, self.why_not)

    def needs_inbox(self, push: Push) -> bool:
        """Whether this push, which passed all gates, goes into its user's inbox."""
        return not push.asked.routes or REALTIME in self.choice(push).first

    def start(self, push: Push, now_ms: int) -> None:
        """A push that passed all gates is ``SENT``, in the inbox if it goes there: begin, or go on."""
        if not push.asked.has_routes:
            return
        try:
            self._start(push, now_ms)
        except Exception as error:
            # It has left its shard: nobody else would ever look after it again.
            self._report(f"push {push.id} could not be sent", error)
            self._end_badly(push, "routes_failed", repr(error), now_ms)

    def _start(self, push: Push, now_ms: int) -> None:
        progress = self._under_way.get(push.id)
        if progress is None:
            self._begin(push, now_ms)
            return
        if progress.fallback_ms:
            self._wheel.put(push, progress.fallback_ms)
        for leg in progress.legs.values():
            if leg.next_ms > now_ms:
                self._wheel.put(push, leg.next_ms)
        self._try_all(push, progress, now_ms)
        self._go_on(push, progress, now_ms)

    def _begin(self, push: Push, now_ms: int) -> None:
        choice = self.choice(push)
        progress = Progress(push.gated_ms or now_ms)
        progress.legs = {route: Leg() for route in choice.first if route != REALTIME}
        if push.asked.fallback and choice.first:
            progress.fallback_ms = now_ms + (push.asked.fallback_ms or self._fallback_ms)
            self._wheel.put(push, progress.fallback_ms)
        self._under_way[push.id] = progress
        if choice.first:
            self._note(push, progress)
            self._try_all(push, progress, now_ms)
        else:
            self._fall_back(push, progress, "routes_closed", now_ms)
        self._go_on(push, progress, now_ms)

    def _try_all(self, push: Push, progress: Progress, now_ms: int) -> None:
        """Try the routes whose time has come."""
        for route, leg in list(progress.legs.items()):
            # Those before it may have ended the push, or this route, already.
            if leg.next_ms <= now_ms and progress.legs.get(route) is leg and push.state is State.SENT:
                self._try(push, route, leg, now_ms)

    def _try(self, push: Push, route: str, leg: Leg, now_ms: int) -> None:
        leg.next_ms = 0
        if leg.tries:
            self.retried += 1
        found = self.routes.get(kind_of(route))
        if found is None:
            self._done(push, route, Outcome(Result.REFUSED, "no_such_route"), now_ms)
        else:
            found.send(push, route, now_ms)

    def tick(self, now_ms: int) -> None:
        """Try again and fall back where it is time; called ten times a second."""
        if self._wheel.entries:
            for push in self._wheel.advance(now_ms):
                self._due(push, now_ms)
        for route in self.routes.values():
            route.tick(now_ms)

    def _due(self, push: Push, now_ms: int) -> None:
        progress = self._under_way.get(push.id)
        if progress is None or push.state is not State.SENT:
            return
        # An entry of a time that was changed since finds nothing due; there is a later one.
        for route, leg in list(progress.legs.items()):
            if 0 < leg.next_ms <= now_ms and push.state is State.SENT:
                self._try(push, route, leg, now_ms)
        if 0 < progress.fallback_ms <= now_ms and push.state is State.SENT:
            self._fall_back(push, progress, "no_ack", now_ms)
            self._go_on(push, progress, now_ms)

    def _done(self, push: Push, route: str, outcome: Outcome, now_ms: int) -> None:
        progress = self._under_way.get(push.id)
        if progress is None or push.state is not State.SENT:
            return
        if outcome.result is Result.TAKEN:
            self._told(push, Round(now_ms, route, State.DELIVERED.value, ""))
            if self._ledger.end(push, State.DELIVERED, "", now_ms):
                self._count(route, "success")
                self._settling.settle([push], is_lost=False, now_ms=now_ms)
            return
        if outcome.result is Result.UNTRIED:
            return
        leg = progress.legs.get(route)
        if leg is None:
            return
        leg.tries += 1
        self._told(push, Round(now_ms, route, outcome.result.value, outcome.reason))
        if outcome.result is Result.REFUSED or leg.tries >= self._backoff.attempts:
            del progress.legs[route]
            self._go_on(push, progress, now_ms)
        else:
            wait_s = self._backoff.wait_s(leg.tries, self._random, retry_after_s=outcome.wait_s)
            leg.next_ms = now_ms + max(1, round(wait_s * 1000))
            self._wheel.put(push, leg.next_ms)
        if push.id in self._under_way:
            self._note(push, progress)

    def _go_on(self, push: Push, progress: Progress, now_ms: int) -> None:
        """What follows when no route is left, if none is."""
        if progress.legs or push.state is not State.SENT:
            return
        if progress.fallback_ms and not self._waits_for_user(push):
            self._fall_back(push, progress, "routes_over", now_ms)
        if not progress.legs and not progress.fallback_ms and not self._waits_for_user(push):
            rounds = push.asked.rounds
            last = next((told for told in reversed(rounds) if told.gate != "fallback"), rounds[-1])
            self._count(last.gate, "failed")
            self._end_badly(push, "routes_failed", last.reason, now_ms)

    def _waits_for_user(self, push: Push) -> bool:
        """Whether it is in the inbox, where its user may still acknowledge it."""
        return push.offset > 0

    def _fall_back(self, push: Push, progress: Progress, reason: str, now_ms: int) -> None:
        progress.fallback_ms = 0
        routes = [route for route in self.choice(push).fallback if route not in progress.legs]
        self.fallen_back += 1
        self._told(push, Round(now_ms, "fallback", "began" if routes else "impossible", reason))
        for route in routes:
            progress.legs[route] = Leg()
        self._note(push, progress)
        for route in routes:
            if (leg := progress.legs.get(route)) is not None and push.state is State.SENT:
                self._try(push, route, leg, now_ms)

    def _end_badly(self, push: Push, reason: str, detail: str, now_ms: int) -> None:
        if push.state is State.SENT:
            self._die(push, reason, detail, now_ms)
            self._settling.settle([push], is_lost=True, now_ms=now_ms)

    def _count(self, route: str, end: str) -> None:
        key = kind_of(route), end
        self.ends[key] = self.ends.get(key, 0) + 1

    def _told(self, push: Push, told: Round) -> None:
        """Keep it for the trace; of the same said again only the last time."""
        rounds = push.made_special().rounds
        if rounds and rounds[-1][1:] == told[1:]:
            rounds[-1] = told
        else:
            rounds.append(told)
            del rounds[:-MAX_ROUNDS]

    def _note(self, push: Push, progress: Progress) -> None:
        until_ms = push.expires_ms(self._ttl_ms) + _KEEP_MS
        self._journal.write(Change(notes=[Note(KIND + push.id, _encode(progress), until_ms)]), None)

    def ended(self, push: Push) -> None:
        """A push has ended, whoever ended it."""
        if self._under_way.pop(push.id, None) is not None:
            self._journal.write(Change(notes=[Note(KIND + push.id, None)]), None)

    # ── a new life ───────────────────────────────────────────────────────────

    def restore(self, notes: Iterable[Note]) -> None:
        """How far pushes had come in an earlier process; before they are restored themselves."""
        for note in notes:
            self._under_way[note.key.removeprefix(KIND)] = _decode(note.value or b"{}")

    def resume(self, push: Push) -> None:
        """A push is back in its shard: one that had passed the gates does not meet them again."""
        if (progress := self._under_way.get(push.id)) is not None:
            push.gated_ms = progress.gated_ms

    def drop_orphans(self) -> None:
        """Everything is restored: forget the notes of pushes that had ended."""
        for push_id in [known for known in self._under_way if self._ledger.living(known) is None]:
            del self._under_way[push_id]
            self._journal.write(Change(notes=[Note(KIND + push_id, None)]), None)

    def close(self) -> None:
        """Start nothing more."""
        for route in self.routes.values():
            route.close()
