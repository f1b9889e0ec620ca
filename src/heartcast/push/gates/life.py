"""The gates of a push's own life: has it waited too long, was it called back."""

from __future__ import annotations

from collections.abc import Callable

from heartcast.push.gates import Gate, Verdict
from heartcast.push.model import Push, State

_EXPIRED = Verdict(State.EXPIRED, "ttl")
_CANCELLED = Verdict(State.CANCELLED, "")
_CALLED_OFF = Verdict(State.CANCELLED, "broadcast")


def expired(ttl_ms: int) -> Gate:
    """Holds back what has waited longer than its own ttl, or than ``ttl_ms`` where it has none."""

    def ask(push: Push, now_ms: int) -> Verdict | None:
        if push.extra is None:
            return _EXPIRED if now_ms - push.accepted_ms > ttl_ms else None
        return _EXPIRED if now_ms > push.expires_ms(ttl_ms) else None

    return Gate("expired", ask)


def cancelled(is_called_off: Callable[[str], bool]) -> Gate:
    """Holds back what was called back.

    A cancelled push has ended and is not asked about; for single pushes this gate is the
    second lock on a door that must never open. For those of a broadcast it is the first.

    Args:
        is_called_off: Whether the broadcast with this id was cancelled.
    """

    def ask(push: Push, now_ms: int) -> Verdict | None:
        if push.state is State.CANCELLED:
            return _CANCELLED
        broadcast = push.asked.broadcast
        return _CALLED_OFF if broadcast and is_called_off(broadcast) else None

    return Gate("cancelled", ask, needs_extras=True)


def experiment() -> Gate:
    """Has its place in the chain, and lets everything pass: no experiments run."""
    return Gate("experiment", lambda push, now_ms: None, needs_extras=True)
