"""Gates: reasons for which an accepted push does not leave.

A gate looks at one push and either lets it pass (None) or gives a verdict, which ends
the push. Gates are asked in order and the first verdict counts. They read no clock and
keep no connections, so a gate is tested by calling it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from heartcast.push.model import Push, State


class Verdict(NamedTuple):
    """How a gate ends a push."""

    state: State
    """One of the terminal states."""
    reason: str
    """A stable word for programs, like ``ttl``."""


Gate = Callable[[Push, int], Verdict | None]
"""``gate(push, now_ms)``: None lets the push pass."""


def expired(ttl_ms: int) -> Gate:
    """Holds back what has waited longer than ``ttl_ms`` since it was accepted."""
    verdict = Verdict(State.EXPIRED, "ttl")

    def gate(push: Push, now_ms: int) -> Verdict | None:
        return verdict if now_ms - push.accepted_ms > ttl_ms else None

    return gate
