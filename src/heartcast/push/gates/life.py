"""The gates of a push's own life: has it waited too long, was it called back."""

from __future__ import annotations

from heartcast.push.gates import Gate, Verdict
from heartcast.push.model import Push, State

_EXPIRED = Verdict(State.EXPIRED, "ttl")
_CANCELLED = Verdict(State.CANCELLED, "")


def expired(ttl_ms: int) -> Gate:
    """Holds back what has waited longer than its own ttl, or than ``ttl_ms`` where it has none."""

    def ask(push: Push, now_ms: int) -> Verdict | None:
        if push.extra is None:
            return _EXPIRED if now_ms - push.accepted_ms > ttl_ms else None
        return _EXPIRED if now_ms > push.expires_ms(ttl_ms) else None

    return Gate("expired", ask)


def cancelled() -> Gate:
    """Holds back what was called back.

    A cancelled push has ended and is not asked about; this gate is the second lock on a
    door that must never open.
    """

    def ask(push: Push, now_ms: int) -> Verdict | None:
        return _CANCELLED if push.state is State.CANCELLED else None

    return Gate("cancelled", ask, needs_extras=True)


def experiment() -> Gate:
    """Has its place in the chain, and lets everything pass: no experiments run."""
    return Gate("experiment", lambda push, now_ms: None, needs_extras=True)
