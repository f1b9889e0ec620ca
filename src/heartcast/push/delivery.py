"""From the inbox to the user, and back with an acknowledgement.

A push that is in the inbox goes at once to the user's sessions, if there are any. While
it is not acknowledged and the user stays connected it is sent again, after a pause that
doubles. A user who comes back gets what waits with the answer to the subscription,
page by page. One whose position is no longer good is told so, and gets everything that
waits as redeliveries, in slices and *in order*: until it has all gone, new pushes of
that user only join the queue.

While handing pushes to sessions fails, a user's pushes wait a moment for each other and go
out together, as one frame with several messages: see ``push.merging``.

What is kept per connected user is a ``Follow``; it goes with the last session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from heartcast.core.clock import Clock
from heartcast.core.quantiles import Histogram
from heartcast.core.wheel import TimingWheel
from heartcast.push.acks import MAX_RETRY_AFTER_MS, Nak, Place, Said
from heartcast.push.endings import Die
from heartcast.push.follow import Follow
from heartcast.push.inbox import Inbox, Kept, Mark, Missing, Since
from heartcast.push.ledger import Ledger
from heartcast.push.merging import Merging
from heartcast.push.model import Push, State
from heartcast.push.options import PushOptions
from heartcast.push.routes import REALTIME, RouteHealth
from heartcast.push.routes.realtime import RealtimeRoute, channel_of, rendered
from heartcast.push.settling import Settling
from heartcast.push.templates import RenderingFailed

CATCH_UP_SLICE = 100
"""Pushes per slice while a user catches up, and per round of redelivery."""
CATCH_UP_PAUSE_S = 0.05
ACK_SLICE = 500
"""Pushes that a cumulative acknowledgement settles at a time."""
LINGER_S = 0.2
"""How long a push waits for others of its user while pushes are merged."""
SWEEP_PUSHES = 5_000
"""Most pushes that expire in one sweep, so that it takes milliseconds."""
Report = Callable[[str, BaseException], None]


class Delivery:
    """Sends what the inbox holds and settles what is acknowledged."""

    def __init__(
        self,
        options: PushOptions,
        clock: Clock,
        *,
        inbox: Inbox,
        ledger: Ledger,
        settling: Settling,
        route: RealtimeRoute,
        wheel: TimingWheel,
        report: Report,
        die: Die,
    ) -> None:
        self._options = options
        self._ttl_ms = round(options.ttl_s * 1000)
        self._clock = clock
        self._inbox = inbox
        self._settling = settling
        self._ledger = ledger
        self._route = route
        self._wheel = wheel
        self._report = report
        self._die = die
        self._follows: dict[str, Follow] = {}
        self.latency = Histogram()
        """Microseconds from accepted to handed to a connected client, first deliveries only."""
        self.merging = Merging(options.merging, clock.monotonic_ns())
        self.handed = 0
        """Times a push was to be handed to sessions."""
        self.unheard = 0
        """Times that failed: the connection side raised, or took it for no session."""
        self._looked_at = (0, 0)
        self.redelivered = 0
        """Pushes sent again."""
        self.rejected = 0
        """Pushes that a client refused for good."""
        self.broken = 0
        """Times the connection side raised; the push stayed in the inbox."""

    def stored(self, push: Push, now_ms: int) -> bool:
        """The push is in the inbox: hand it to its user if connected.

        Returns:
            False when it could not be rendered; it has ended then.
        """
        user = push.user
        try:
            follow = self._follows.get(user)
            if not self._route.reaches(channel_of(user) if follow is None else follow.channel):
                return True
            if follow is None:
                follow = self._follow(user, push.offset - 1)
            if self.merging.size > 1:
                self._hold(push, follow)
                is_fine = True
            else:
                is_fine = follow.cursor is not None or self._send(push, follow, now_ms)
            if follow.timer is None:
                self._time(user, follow)
        except Exception as error:
            # Whatever broke out there, the push is safe in the inbox.
            self.broken += 1
            self._report("the connection side failed on a push", error)
            return True
        return is_fine

    def acknowledge(self, user: str, push_ids: Iterable[str], now_ms: int) -> int:
        """A client of this user has these. Ids of others, unknown and settled ones are passed over.

        Returns:
            How many were settled by this call.
        """
        living = self._ledger.living
        found = [push for push_id in push_ids if (push := living(push_id)) and push.user == user]
        return self._acknowledged(user, found, now_ms)

    def _acknowledged(self, user: str, pushes: list[Push], now_ms: int) -> int:
        sent, delivered, end = State.SENT, State.DELIVERED, self._ledger.end
        settled = [push for push in pushes if push.state is sent and end(push, delivered, "", now_ms)]
        if not settled:
            return 0
        self._settling.settle(settled, is_lost=False, now_ms=now_ms)
        follow = self._follows.get(user)
        if follow is not None and follow.pause_s > self._options.redeliver_after_s:
            # The client is alive and answering: the next pause is short again.
            follow.pause_s = self._options.redeliver_after_s
            self._time_anew(user, follow)
        return len(settled)

    def settle(self, user: str, said: Said, now_ms: int) -> None:
        """Take what a client of this user says about its pushes."""
        if isinstance(said.ack, list):
            self.acknowledge(user, said.ack, now_ms)
        if isinstance(said.ack_through, Place):
            self._acknowledge_through(user, said.ack_through, now_ms)
        if isinstance(said.nak, list):
            for nak in said.nak:
                self._refused(user, nak, now_ms)

    def _acknowledge_through(self, user: str, place: Place, now_ms: int) -> None:
        """Everything up to this place of the user's mailbox, as far as it was ever sent."""
        follow = self._follows.get(user)
        last = min(place.offset, follow.sent) if follow is not None else 0

        def found(kept: Kept | Missing) -> None:
            if isinstance(kept, Kept) and kept.top.epoch == place.epoch:
                pushes = [push for push in kept.pushes if push.offset <= last]
                if self._acknowledged(user, pushes, now_ms) == ACK_SLICE:
                    self._acknowledge_through(user, place, now_ms)

        if last:
            self._inbox.page(user, 0, ACK_SLICE, found)

    def _refused(self, user: str, nak: Nak, now_ms: int) -> None:
        """A client of this user did not take a push: try it later, or give it up."""
        push = self._ledger.living(nak.id)
        if push is None or push.user != user or push.state is not State.SENT:
            return
        if nak.reject:
            self.rejected += 1
            self._die(push, "rejected", nak.reason, now_ms)
            # Not as lost: its user got it, and positions before it stay good.
            self._settling.settle([push], is_lost=False, now_ms=now_ms)
        elif nak.retry_after_ms and (follow := self._follows.get(user)) is not None:
            wait_ms = min(nak.retry_after_ms, MAX_RETRY_AFTER_MS)
            follow.later_ms[push.id] = now_ms + wait_ms
            if follow.cursor is None and wait_ms < follow.pause_s * 1000:
                self._time_anew(user, follow, wait_ms / 1000)

    def catch_up(self, user: str, mark: Mark | None, limit: int, done: Since) -> None:
        """A session of this user subscribes; answers as ``Inbox.since`` does.

        What is answered counts as sent. What is left is sent from here on.
        """
        self._inbox.since(user, mark, limit, partial(self._caught_up, user, done))

    def lost(self, pushes: list[Push], state: State, reason: str, now_ms: int) -> None:
        """End pushes that are in the inbox and that nobody acknowledged."""
        for push in pushes:
            self._ledger.end(push, state, reason, now_ms)
        self._settling.settle(pushes, is_lost=True, now_ms=now_ms)

    def expire(self, push: Push, now_ms: int) -> None:
        """The time of a push ran out before anybody acknowledged it."""
        self.lost([push], State.EXPIRED, "ttl", now_ms)

    def expire_overdue(self, now_ms: int) -> None:
        """End what waited longer than the server's own ttl, some at a time; called once a second."""
        overdue = list(self._ledger.overdue(self._ttl_ms, now_ms, SWEEP_PUSHES))
        self.lost(overdue, State.EXPIRED, "ttl", now_ms)

    def page(self, user: str, after: int, limit: int, done: Since) -> None:
        """A session of this user that catches up asks for more; see ``Inbox.page``."""
        self._inbox.page(user, after, limit, partial(self._caught_up, user, done))

    def look(self, user: str, after: int, limit: int, done: Since) -> None:
        """As ``page``, but nothing counts as sent."""
        self._inbox.page(user, after, limit, partial(self._looked, done))

    def judge(self, now_ms: int) -> None:
        """Judge how the last second went; called once a second."""
        handed, unheard = self._looked_at
        self._looked_at = self.handed, self.unheard
        self.merging.add(self.handed - handed, self.unheard - unheard)
        self.merging.look(self._clock.monotonic_ns())

    def health(self) -> RouteHealth:
        """How the route realtime is doing."""
        return RouteHealth(REALTIME, self.merging.size, 0, self.merging.error_rate, "")

    def _hold(self, push: Push, follow: Follow) -> None:
        if follow.held is None:
            follow.held = [push]
            self._wheel.at(self._clock.monotonic_s() + LINGER_S, partial(self._let_go, push.user, follow))
            return
        follow.held.append(push)
        if len(follow.held) >= self.merging.size:
            self._let_go(push.user, follow)

    def _let_go(self, user: str, follow: Follow) -> None:
        """Send what waited for each other, in one turn of the loop: that makes it one write."""
        held, follow.held = follow.held or [], None
        if follow.cursor is not None or not self._route.reaches(follow.channel):
            # Whoever catches up, or comes back, gets it from the inbox.
            return
        now_ms = self._clock.wall_ms()
        for push in held:
            # A redelivery may have been faster.
            if push.state is State.SENT and push.offset > follow.sent:
                self._send(push, follow, now_ms)

    def _looked(self, done: Since, found: Kept | Missing) -> None:
        now_ms = self._clock.wall_ms()
        if isinstance(found, Kept):
            found = found._replace(pushes=[push for push in found.pushes if self._try_render(push, now_ms)])
        done(found)

    def _caught_up(self, user: str, done: Since, found: Kept | Missing) -> None:
        follow = self._follow(user, 0)
        if isinstance(found, Kept):
            found = self._count_as_sent(found)
            if found.pushes:
                follow.sent = max(follow.sent, found.pushes[-1].offset)
        else:
            # The client now stands at the top; what waits before it follows without offsets.
            follow.sent = max(follow.sent, found.top.offset)
            follow.cursor = 0
            self._time_anew(user, follow)
        self._time(user, follow)
        done(found)

    def _count_as_sent(self, found: Kept) -> Kept:
        now_ms = self._clock.wall_ms()
        fine = [push for push in found.pushes if self._try_render(push, now_ms)]
        for push in fine:
            push.attempts += 1
            push.attempted_ms = now_ms
        return found._replace(pushes=fine)

    def _try_render(self, push: Push, now_ms: int) -> bool:
        try:
            rendered(push)
        except RenderingFailed as error:
            self._fail(push, error, now_ms)
            return False
        return True

    def _send(self, push: Push, follow: Follow, now_ms: int) -> bool:
        is_again = push.offset <= follow.sent
        if is_again and push.attempts >= self._options.max_deliveries:
            self._die(push, "unacknowledged", f"sent {push.attempts} times", now_ms)
            self._settling.settle([push], is_lost=True, now_ms=now_ms)
            return False
        self.handed += 1
        try:
            if not self._route.send(push, follow.channel, is_again=is_again, now_ms=now_ms):
                self.unheard += 1
        except RenderingFailed as error:
            self._fail(push, error, now_ms)
            return False
        except Exception as error:
            # Whatever broke out there, the push is safe in the inbox and goes out again.
            self.broken += 1
            self.unheard += 1
            self._report("a session could not be given a push", error)
        if is_again:
            self.redelivered += 1
        else:
            # A wall clock that was set back must not make a latency below 0.
            self.latency.add(max(0, now_ms - push.accepted_ms) * 1000)
        follow.sent = max(follow.sent, push.offset)
        return True

    def _fail(self, push: Push, error: RenderingFailed, now_ms: int) -> None:
        self._report(f"push {push.id} could not be rendered", error)
        self._die(push, "rendering", str(error), now_ms)
        self._settling.settle([push], is_lost=True, now_ms=now_ms)

    def _follow(self, user: str, sent: int) -> Follow:
        follow = self._follows.get(user)
        if follow is None:
            follow = self._follows[user] = Follow(channel_of(user), sent, self._options.redeliver_after_s)
        return follow

    def _time(self, user: str, follow: Follow, pause_s: float | None = None) -> None:
        if follow.timer is None:
            if pause_s is None:
                pause_s = follow.pause_s if follow.cursor is None else CATCH_UP_PAUSE_S
            due = partial(self._due, user, follow)
            follow.timer = self._wheel.at(self._clock.monotonic_s() + pause_s, due)

    def _time_anew(self, user: str, follow: Follow, pause_s: float | None = None) -> None:
        """The pause became shorter than what the wheel was told."""
        if follow.timer is not None:
            follow.timer.cancel()
            follow.timer = None
        self._time(user, follow, pause_s)

    def _due(self, user: str, follow: Follow) -> None:
        follow.timer = None
        if not self._route.reaches(follow.channel):
            # Nobody listens: the next subscription starts anew.
            self._follows.pop(user, None)
            return
        self._inbox.page(user, follow.cursor or 0, CATCH_UP_SLICE, partial(self._continue, user, follow))

    def _continue(self, user: str, follow: Follow, found: Kept | Missing) -> None:
        pushes = found.pushes if isinstance(found, Kept) else []
        if follow.cursor is not None:
            self._send_rest(follow, pushes)
        elif pushes:
            self._send_again(user, follow, pushes)
        else:
            # Everything is acknowledged: the next push begins anew.
            self._follows.pop(user, None)
            return
        self._time(user, follow)

    def _send_rest(self, follow: Follow, pushes: list[Push]) -> None:
        now_ms = self._clock.wall_ms()
        for push in pushes:
            self._send(push, follow, now_ms)
        follow.cursor = pushes[-1].offset if len(pushes) == CATCH_UP_SLICE else None

    def _send_again(self, user: str, follow: Follow, pushes: list[Push]) -> None:
        now_ms = self._clock.wall_ms()
        due = [push for push in pushes if follow.due_ms(push) <= now_ms]
        rest = [push for push in pushes if follow.due_ms(push) > now_ms]
        for push in due:
            follow.later_ms.pop(push.id, None)
            self._send(push, follow, now_ms)
        if due:
            follow.pause_s = min(follow.pause_s * 2, self._options.redeliver_at_most_s)
        # What was sent since the timer was set, or comes later, waits only for the rest of its time.
        left_s = min(((follow.due_ms(push) - now_ms) / 1000 for push in rest), default=follow.pause_s)
        self._time(user, follow, min(follow.pause_s, left_s))
