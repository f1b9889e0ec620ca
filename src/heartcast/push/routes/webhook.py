"""The way out to a server of the sender's: signed POSTs, as Standard Webhooks has them.

A push goes to the endpoint that is for it (``push.webhooks``), over that endpoint's lane. A
2xx is its acknowledgement. Pushes have their id as ``webhook-id`` in every try, and once
more inside, where an array has several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from random import Random, SystemRandom

from heartcast.core.clock import Clock
from heartcast.core.quantiles import Histogram
from heartcast.push.journal import Note
from heartcast.push.model import Push
from heartcast.push.routes import WEBHOOK, Done, Outcome, Result, RouteHealth, one_of
from heartcast.push.routes.lane import Lane, Posting, Turn
from heartcast.push.routes.options import WebhookOptions
from heartcast.push.webhooks import WebhookBook
from heartcast.resilience.breaker import Breaker

_LOOK_NS = 1_000_000_000


def _nobody(push: Push, route: str, outcome: Outcome, now_ms: int) -> None:
    """Nobody has asked to be told."""


def _always() -> bool:
    return True


class WebhookRoute:
    """Implements ``Route``.

    Args:
        posting: Makes POSTs; None: there is no way to, and every push is told so.
        note: Given what must be remembered.
    """

    kind = WEBHOOK

    def __init__(
        self,
        options: WebhookOptions,
        clock: Clock,
        *,
        book: WebhookBook,
        posting: Posting | None,
        note: Callable[[Note], None],
        random: Random | None = None,
    ) -> None:
        self._options = options
        self._clock = clock
        self.book = book
        self._posting = posting
        self._note = note
        self._random = random or SystemRandom()
        self._lanes: dict[str, Lane] = {}
        self._look_ns = 0
        self._is_closed = False
        self.done: Done = _nobody
        self.latency = Histogram()
        """Microseconds from accepted to taken."""
        self.results: dict[str, int] = {}
        """POSTs of endpoints that are gone, by ``2xx`` … ``5xx`` and ``no_answer``."""
        book.on_change = self._changed

    def why_not(self, push: Push, route: str) -> str:
        if self._posting is None:
            return "no_endpoint"
        if name := one_of(route):
            endpoint = self.book.find(name)
            if endpoint is None:
                return "no_endpoint"
            return "endpoint_disabled" if endpoint.webhook.disabled else ""
        return "" if self.book.choose(push) else "no_endpoint"

    def send(self, push: Push, route: str, now_ms: int) -> None:
        self.submit(push, route, now_ms, self.done, _always)

    def submit(self, push: Push, route: str, now_ms: int, done: Done, may_send: Callable[[], bool]) -> None:
        """Try once, for whoever is told by ``done``; ``may_send`` is asked right before it leaves."""
        name = one_of(route)
        if not name:
            endpoint = self.book.choose(push)
            name = endpoint.name if endpoint else ""
        turn = Turn(push, route, now_ms, done, may_send)
        if not name or self._posting is None or self._is_closed:
            self._answer(turn, Outcome(Result.UNTRIED if self._is_closed else Result.REFUSED, "no_endpoint"))
            return
        self.lane(name).add(turn)

    def lane(self, name: str) -> Lane:
        """The way to this endpoint."""
        lane = self._lanes.get(name)
        if lane is None:
            assert self._posting is not None
            lane = self._lanes[name] = self._new_lane(name, self._posting)
        return lane

    def tick(self, now_ms: int) -> None:
        now_ns = self._clock.monotonic_ns()
        is_look = now_ns >= self._look_ns
        if is_look:
            self._look_ns = now_ns + _LOOK_NS
        for name, lane in list(self._lanes.items()):
            if is_look:
                lane.merging.look(now_ns)
            lane.pump()
            if lane.is_idle and self.book.find(name) is None:
                self._forget(name)

    def health(self) -> list[RouteHealth]:
        return [self._lanes[name].health() for name in sorted(self._lanes)]

    def close(self) -> None:
        self._is_closed = True
        for lane in self._lanes.values():
            lane.is_closed = True
        if self._posting is not None:
            self._posting.close()

    def breakers(self) -> Iterator[tuple[tuple[str, str], Breaker]]:
        """Every endpoint's breaker, as the metrics of the resilience kit want them."""
        return iter([((WEBHOOK, name), lane.breaker) for name, lane in self._lanes.items()])

    def counts(self) -> dict[str, int]:
        """POSTs by ``2xx`` … ``5xx`` and ``no_answer``, since the start."""
        counts = dict(self.results)
        for lane in self._lanes.values():
            for kind, count in lane.results.items():
                counts[kind] = counts.get(kind, 0) + count
        return counts

    def _new_lane(self, name: str, posting: Posting) -> Lane:
        return Lane(
            name, self._options, self._clock, self._random,
            find=partial(self.book.find, name), posting=posting, answer=self._answer,
            gone=partial(self._gone, name),
        )  # fmt: skip

    def _answer(self, turn: Turn, outcome: Outcome) -> None:
        now_ms = self._clock.wall_ms()
        if outcome.result is Result.TAKEN:
            self.latency.add(max(0, now_ms - turn.push.accepted_ms) * 1000)
        turn.done(turn.push, turn.route, outcome, now_ms)

    def _gone(self, name: str) -> None:
        if (note := self.book.disable(name)) is not None:
            self._note(note)

    def _changed(self, name: str) -> None:
        if (lane := self._lanes.get(name)) is not None:
            lane.changed()

    def _forget(self, name: str) -> None:
        for kind, count in self._lanes.pop(name).results.items():
            self.results[kind] = self.results.get(kind, 0) + count
