"""Idempotency-Key over HTTP: one ticket per write.

A handler takes a ticket, writes the ticket's notes together with its effect, and gives its
answer through ``commit``. Without the header the ticket is free and does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from heartcast.api.idempotency import HEADER, REPLAYED, key_in, owner_of
from heartcast.api.problems import problem
from heartcast.api.route import Answer, Call
from heartcast.core.errors import HeartcastError, StoreUnavailable
from heartcast.push.journal import Note, Written
from heartcast.push.once import Once, Record, Use


class Ticket:
    """What a handler knows of its request's key."""

    __slots__ = ("_now_ms", "_once", "_use")

    def __init__(self, once: Once | None, use: Use | None, now_ms: int) -> None:
        self._once = once
        self._use = use
        self._now_ms = now_ms

    def notes(self, answer: Answer) -> Sequence[Note]:
        """What must be written with the effect that this answer tells of."""
        if self._once is None or self._use is None:
            return ()
        return (self._once.note(self._use, answer.status, answer.body, self._now_ms),)

    def keep(self, answer: Answer) -> None:
        """The effect is there."""
        if self._once is not None and self._use is not None:
            self._once.keep(self._use, answer.status, answer.body, self._now_ms)

    def drop(self) -> None:
        """There was no effect."""
        if self._once is not None and self._use is not None:
            self._once.drop(self._use)


FREE = Ticket(None, None, 0)
Handler = Callable[[Call, Ticket], Answer | None]


class Tickets:
    """Gives each request its ticket."""

    def __init__(self, once: Once, wall_ms: Callable[[], int]) -> None:
        self._once = once
        self._wall_ms = wall_ms

    def guard(self, scope: str, handler: Handler) -> Callable[[Call], Answer | None]:
        """The handler as a route takes it.

        Args:
            scope: Method and path; the values of its parts are added.
        """

        def guarded(call: Call) -> Answer | None:
            raw = call.header(HEADER)
            if raw is None:
                return handler(call, FREE)
            return self.run(call, raw, scope, handler)

        return guarded

    def run(self, call: Call, raw: bytes, scope: str, handler: Handler) -> Answer | None:
        """Answer a request that has a key."""
        now_ms = self._wall_ms()
        whole = "\0".join((scope, *call.params.values(), owner_of(call)))
        found = self._once.begin(key_in(raw), whole, call.body, now_ms)
        if isinstance(found, Record):
            return Answer(found.status, found.body, REPLAYED)
        ticket = Ticket(self._once, found, now_ms)
        try:
            return handler(call, ticket)
        except BaseException:
            ticket.drop()
            raise


def commit(call: Call, ticket: Ticket, answer: Answer) -> Written:
    """What to hand to a store as ``done``: answers the call when the effect is safe."""
    return partial(_written, call, ticket, answer)


def refuse(call: Call, ticket: Ticket, error: HeartcastError) -> None:
    """Answer a call whose handler has returned already with an error."""
    ticket.drop()
    call.respond(problem(error))


def _written(call: Call, ticket: Ticket, answer: Answer, error: StoreUnavailable | None) -> None:
    if error is not None:
        refuse(call, ticket, error)
        return
    ticket.keep(answer)
    call.respond(answer)
