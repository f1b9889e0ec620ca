"""Ways out for pushes, one file each.

``realtime`` is the user's own channel: pushes wait in the user's inbox, clients come and go,
and it is they who acknowledge. All other routes call somebody: what is called answers for
itself, and its "taken" is the acknowledgement. Those have the port below; ``push.outgoing``
decides which push goes over which of them and what follows from the answer.

A push names routes by their kind, ``webhook``, or one of a kind, ``webhook:crm``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple, Protocol

from heartcast.push.model import Push

REALTIME = "realtime"
WEBHOOK = "webhook"


def kind_of(route: str) -> str:
    """``webhook`` of ``webhook:crm``: what users switch off."""
    return route.partition(":")[0]


def one_of(route: str) -> str:
    """``crm`` of ``webhook:crm``; "" when any will do."""
    return route.partition(":")[2]


class Result(Enum):
    """What became of one try."""

    TAKEN = "taken"
    """The other side has it: it is delivered."""
    FAILED = "failed"
    """Not now; it may be tried again."""
    REFUSED = "refused"
    """Never: another try would get the same answer."""
    UNTRIED = "untried"
    """Nobody was asked; it may be tried again, and this was no try."""


class Outcome(NamedTuple):
    """What became of one try, and why."""

    result: Result
    reason: str = ""
    """A stable word: ``503``, ``no_answer``, ``gone`` …"""
    wait_s: float = 0.0
    """Seconds that the other side asked to be left alone, at least."""


Done = Callable[[Push, str, Outcome, int], None]
"""``done(push, route, outcome, now_ms)``."""


class RouteHealth(NamedTuple):
    """How one way out is doing, for ``/healthz`` and metrics."""

    name: str
    """``realtime``, ``webhook:crm`` …"""
    batch_size: int
    """Pushes that may leave together."""
    waiting: int
    """Pushes that wait for their turn here."""
    error_rate: float
    """Share of the last seconds' requests that failed."""
    circuit: str
    """``closed``, ``open``, ``half_open``; "" where there is none."""
    is_disabled: bool = False


class Route(Protocol):
    """A way out that answers for itself.

    Guarantees, each with a contract test of the same number:

    1. **Answered once.** For every push given to ``send``, ``done`` is called exactly once,
       later than ``send`` returns or within it.
    2. **Known by id.** The other side sees the push's id in every try, so that it knows repetitions.
    3. **Ended is not sent.** A push that is no longer ``SENT`` when its turn comes is passed
       over as ``UNTRIED``.
    4. **Counted.** A push that the other side may have seen has one more ``Extra.posted`` than before.
    5. **Bounded.** No try lasts longer than the route's time; no more are under way than its limit.
    6. **Order of turns.** Pushes of one destination get their turns in the order in which they were given.
    """

    kind: str
    done: Done
    """Told what became of each try; set by whoever sends."""

    def why_not(self, push: Push, route: str) -> str:
        """Why this push cannot go this way at all, as a stable word; "": it can."""
        ...

    def send(self, push: Push, route: str, now_ms: int) -> None:
        """Try once."""
        ...

    def tick(self, now_ms: int) -> None:
        """Look after what waits; called ten times a second."""
        ...

    def health(self) -> list[RouteHealth]:
        """Every destination, by name."""
        ...

    def close(self) -> None:
        """Start nothing more."""
        ...
