"""Which ways out a push takes, and that there is one.

A push goes at once over each of its *first* routes that is open, and later, or when none of
those is, over its fallback. A route is closed where the user has switched its kind off and
where there is nobody to call. When all are closed the push ends here, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from heartcast.push.gates import Gate, Verdict
from heartcast.push.gates.preference import WishesOf
from heartcast.push.model import Push, State
from heartcast.push.routes import REALTIME, kind_of

WhyNot = Callable[[Push, str], str]
"""``why_not(push, route)``: why a route other than realtime is closed; "": it is open."""


class Choice(NamedTuple):
    """The open routes of a push."""

    first: list[str]
    """At once."""
    fallback: list[str]
    """When none of the first had an acknowledgement in time."""
    reason: str
    """Why all are closed; "" when one is open."""


def choice_of(push: Push, wishes_of: WishesOf, why_not: WhyNot) -> Choice:
    """The open routes of a push, now."""
    wishes = wishes_of(push.user)
    off = wishes.routes_off if wishes is not None else frozenset()
    reason = ""

    def is_open(route: str) -> bool:
        nonlocal reason
        closed = "route_off" if kind_of(route) in off else "" if route == REALTIME else why_not(push, route)
        reason = reason or closed
        return not closed

    first = [route for route in push.asked.routes or [REALTIME] if is_open(route)]
    fallback = [route for route in push.asked.fallback if is_open(route)]
    return Choice(first, fallback, "" if first or fallback else reason)


def route_choice(wishes_of: WishesOf, why_not: WhyNot) -> Gate:
    """Holds back what has no open route."""

    def ask(push: Push, now_ms: int) -> Verdict | None:
        if not push.asked.has_routes:
            # Realtime alone: the preference gate has said what there is to say.
            return None
        choice = choice_of(push, wishes_of, why_not)
        return Verdict(State.SUPPRESSED, choice.reason) if choice.reason else None

    return Gate("route", ask, needs_extras=True)
