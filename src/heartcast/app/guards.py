"""The breakers of a running heartcast: one registry, its log lines, and what readiness says of them."""

from __future__ import annotations

from random import SystemRandom

import structlog

from heartcast.resilience.breaker import Change, Registry, State
from heartcast.resilience.limits.shared import REDIS_BREAKER

LIMITS = "limits"
"""What the breaker of the server that counts requests is called in metrics and logs."""

_log = structlog.get_logger("heartcast")
_WITHOUT = {
    LIMITS: "limits are not shared",
    "hearts_writes": "hearts cannot be stored",
    "hearts_reads": "hearts cannot be counted",
}


def registry() -> Registry:
    """The registry: ``get`` a breaker from it for whatever is called over a network."""
    return Registry({LIMITS: REDIS_BREAKER}, random=SystemRandom(), on_change=_changed)


def degraded(breakers: Registry) -> list[str]:
    """What is being done without at the moment, one short sentence each."""
    return sorted(
        {
            _WITHOUT.get(name, f"{name} is not called")
            for (name, _), breaker in breakers
            if breaker.state in (State.OPEN, State.HALF_OPEN, State.FORCED_OPEN)
        }
    )


def _changed(change: Change) -> None:
    say = _log.info if change.after is State.CLOSED else _log.warning
    before, after = change.before.name.lower(), change.after.name.lower()
    say("breaker", dependency=change.breaker.name, before=before, after=after)
