"""Where a push is and why: its record and its trace, in words."""

from __future__ import annotations

import msgspec

from heartcast.core.clock import rfc3339
from heartcast.push.model import Push, Round, State


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened to a push."""

    step: str
    """``accepted``, the name of a gate, ``inbox``, a route, ``fallback`` or ``end``."""
    verdict: str
    """``passed``, ``deferred``, ``suppressed``, ``stored``, ``sent``, ``delivered`` …"""
    at: str
    reason: str | None = None
    until: str | None = None
    """When deferred: until when."""
    push: str | None = None
    """The other push that this verdict is about."""
    count: int | None = None
    """How often, where it happened more than once; ``at`` is the last time then."""


class PushState(msgspec.Struct, frozen=True):
    """Where a push is."""

    id: str
    user_id: int | str
    template: str
    version: int
    """The version that was active when the push was accepted."""
    status: str
    """queued, deferred, sending, sent, delivered, suppressed, expired, cancelled, failed or dead."""
    reason: str | None
    """Why it ended so, or what it waits for; null when the status says all."""
    shard: int
    attempts: int
    """How often it was handed to sessions of the user, or to another route."""
    timestamp: str
    """When it was accepted; RFC 3339, UTC."""
    changed_at: str
    """When it entered this status."""
    attempted_at: str | None
    """The last attempt; null before the first."""
    priority: str
    category: str | None
    locale: str | None
    """Language asked for, by the push or by its user; null: the template's base."""
    due_at: str | None
    """When deferred: when it will leave, if all gates let it."""
    expires_at: str
    receipts: dict[str, str]
    """When the user's devices reported what, by event."""
    trace: list[Step]
    """All that happened, oldest first: why it was sent, held, merged or dropped."""


def state_of(push: Push, shard: int, gates: list[str], ttl_ms: int, receipts: dict[str, int]) -> PushState:
    """The record of a push.

    Args:
        gates: Names of all gates, in their order.
        ttl_ms: The server's own time to live.
        receipts: Wall time of the first receipt of each event.
    """
    asked = push.asked
    return PushState(
        id=push.id,
        user_id=push.user_id,
        template=push.template.name,
        version=push.template.version,
        status=push.state.value,
        reason=push.reason or (_waits_for(push) if push.state is State.DEFERRED else None),
        shard=shard,
        attempts=push.attempts + asked.posted,
        timestamp=rfc3339(push.accepted_ms),
        changed_at=rfc3339(push.changed_ms),
        attempted_at=rfc3339(push.attempted_ms) if push.attempted_ms > 0 else None,
        priority=asked.priority.value,
        category=asked.category or None,
        locale=asked.locale or None,
        due_at=rfc3339(asked.due_ms) if push.state is State.DEFERRED else None,
        expires_at=rfc3339(push.expires_ms(ttl_ms)),
        receipts={event: rfc3339(at_ms) for event, at_ms in receipts.items()},
        trace=trace_of(push, gates),
    )


def trace_of(push: Push, gates: list[str]) -> list[Step]:
    """All that happened to a push.

    What is kept is compact: only verdicts that held it, and when it passed. The gates that
    let it pass on the way to each of these are told from their order.
    """
    asked = push.asked
    steps = [Step("accepted", "accepted", rfc3339(push.accepted_ms))]
    if asked.retry_of:
        steps[0] = Step("accepted", "retried", rfc3339(push.accepted_ms), push=asked.retry_of)
    if asked.sends_at_ms:
        at = rfc3339(push.accepted_ms)
        steps.append(Step("schedule", "deferred", at, "send_at", rfc3339(asked.sends_at_ms)))
    later: list[Round] = []
    for held in asked.rounds:
        if push.gated_ms and held.at_ms >= push.gated_ms:
            later.append(held)
        else:
            steps += _round(held, gates)
    if push.gated_ms:
        steps += [Step(gate, "passed", rfc3339(push.gated_ms)) for gate in gates]
    if push.offset:
        steps.append(Step("inbox", "stored", rfc3339(push.gated_ms or push.accepted_ms)))
    if push.attempts:
        steps.append(Step("realtime", "sent", rfc3339(push.attempted_ms), count=push.attempts))
    steps += [_held(held) for held in later]
    if push.state.is_terminal:
        steps.append(Step("end", push.state.value, rfc3339(push.changed_ms), push.reason or None))
    return steps


def _round(held: Round, gates: list[str]) -> list[Step]:
    at = rfc3339(held.at_ms)
    before = gates[: gates.index(held.gate)] if held.gate in gates else []
    return [*(Step(gate, "passed", at) for gate in before), _held(held)]


def _held(held: Round) -> Step:
    until = rfc3339(held.until_ms) if held.until_ms else None
    return Step(held.gate, held.verdict, rfc3339(held.at_ms), held.reason or None, until, held.other or None)


def _waits_for(push: Push) -> str:
    rounds = push.asked.rounds
    return rounds[-1].reason if rounds and rounds[-1].until_ms == push.due_ms else "send_at"
