"""A push service on a clock and an event loop moved by hand, and a hub that writes down what it is given."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from heartcast.core.ids import IdSource
from heartcast.core.wheel import TimingWheel
from heartcast.push.gates import Ask, Gate
from heartcast.push.inbox import Appended, Kept, Mark, Missing
from heartcast.push.inbox.memory import MemoryInbox
from heartcast.push.journal import Journal
from heartcast.push.model import Extra, Push, State
from heartcast.push.options import PushOptions
from heartcast.push.service import PushService
from heartcast.push.templates import load
from heartcast.testing import ManualClock
from heartcast.testing.providers import Behaviour, ManualReceiver, healthy
from heartcast.testing.turns import ManualTurns


class FlakyInbox(MemoryInbox):
    """Answers when the test says so, if ``is_slow``; refuses ``refusals`` times."""

    def __init__(self, new_epoch: Callable[[], str], max_pushes: int) -> None:
        super().__init__(new_epoch, max_pushes)
        self.is_slow = False
        self.refusals: list[Any] = []
        self.held: list[Callable[[], None]] = []

    def append(self, pushes: Any, now_ms: int, done: Appended) -> None:
        if self.refusals:
            done(self.refusals.pop())
        elif self.is_slow:
            self.held.append(lambda: MemoryInbox.append(self, pushes, now_ms, done))
        else:
            super().append(pushes, now_ms, done)

    def answer(self) -> None:
        """Let everything held back be stored now."""
        held, self.held = self.held, []
        for call in held:
            call()


class PushRig:
    """Everything around a service.

    Args:
        gates: Asked after the service's own.
        journal: None: one in memory.
        behave: What every endpoint does with a POST; see ``heartcast.testing.providers``.
        options: Fields of ``PushOptions``.
    """

    def __init__(
        self, *gates: Ask, journal: Journal | None = None, behave: Behaviour = healthy, **options: Any
    ) -> None:
        self.clock = ManualClock()
        self.wheel = TimingWheel(0.05, 200, self.clock.monotonic_s())
        self.turns = ManualTurns(self.clock, self.wheel.advance)
        self.watched: set[str] = set()
        self.sent: list[tuple[str, bytes, int, dict[str, str]]] = []
        self.reports: list[str] = []
        self.options = PushOptions(**options)
        self.receiver = ManualReceiver(self.turns, self.options.webhooks.timeout_s, behave)
        ids = IdSource(self.clock, Random(1))  # noqa: S311 - repeatable ids, no secrets
        self.inbox = FlakyInbox(ids.next, self.options.max_inbox)
        self.service = PushService(
            self.options,
            clock=self.clock,
            ids=ids,
            loop=self.turns,
            wheel=self.wheel,
            templates=load(),
            inbox=self.inbox,
            deliver=self._deliver,
            is_watched=self.watched.__contains__,
            report=lambda text, error: self.reports.append(f"{text}: {error}"),
            journal=journal,
            gates=tuple(Gate("test", gate) for gate in gates),
            posting=self.receiver,
            random=Random(2),  # noqa: S311 - repeatable pauses between tries
        )
        self.service.start()

    def _deliver(self, channel: str, data: bytes, offset: int, tags: dict[str, str]) -> int:
        self.sent.append((channel, data, offset, tags))
        return 1

    def push(self, user: int | str = "ann", title: str = "x", **more: Any) -> Push:
        """Accept a push of ``news_v2``."""
        return self.service.accept(user, "news_v2", {"title": title, **more})[0]

    def special(self, user: int | str = "ann", title: str = "x", **extra: Any) -> Push:
        """Accept a push of ``news_v2`` with these extras."""
        return self.service.accept(user, "news_v2", {"title": title}, Extra(**extra))[0]

    def connect(self, user: str, mark: Mark | None = None, limit: int = 300) -> Kept | Missing:
        """Subscribe a session of this user, as the hub does, and give the inbox's answer."""
        answers: list[Kept | Missing] = []
        self.service.delivery.catch_up(user, mark, limit, answers.append)
        self.watched.add(f"inbox:#{user}")
        [answer] = answers
        return answer

    def take_sent(self) -> list[tuple[str, int, bool]]:
        """(push id, offset, marked as redelivered) of everything sent since the last call."""
        sent, self.sent = self.sent, []
        return [(tags["id"], offset, "redelivered" in tags) for _, _, offset, tags in sent]

    def ends(self) -> dict[State, int]:
        """How many ended in which state; states that none ended in are left out."""
        return {state: count for state, count in self.service.ledger.ended.items() if count}
