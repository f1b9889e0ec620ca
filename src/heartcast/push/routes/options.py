"""Settings of the ways out."""

from __future__ import annotations

import msgspec

from heartcast.push.merging import MergingOptions
from heartcast.resilience.breaker import BreakerPolicy
from heartcast.resilience.limits import Limit
from heartcast.resilience.retry import Backoff

# An endpoint that takes every second POST is worth asking; one that is slow is not broken.
_BREAKER = BreakerPolicy(
    failure_rate=0.8, slow_s=5.0, slow_rate=1.0, window="count", window_size=20, min_calls=10
)


class Webhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One endpoint that pushes can be posted to."""

    url: str
    """Where to; https, unless ``allow_private``."""

    secrets: list[str] = []
    """``whsec_…``, at most four; each signs, so that one can be replaced without a gap."""

    categories: list[str] = []
    """Categories of pushes that it is for; empty: all."""

    user_id: int | str | None = None
    """The one user whose pushes it is for; null: everyone's."""

    disabled: bool = False
    """Whether nothing is posted to it; a 410 sets it."""


class WebhookOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The route ``webhook``."""

    endpoints: dict[str, Webhook] = {}
    """Endpoints by name, beside those made by ``PUT /api/v1/webhooks/{name}``. These cannot be
    changed while the server runs."""

    allow_private: bool = False
    """Whether addresses inside this machine and its networks may be posted to, and plain http with them."""

    max_endpoints: int = 1_000
    """Endpoints that may be made through the API."""

    timeout_s: float = 10.0
    """Longest time of one POST, in seconds."""

    in_flight: int = 8
    """POSTs under way to one endpoint at a time, from one node."""

    rate: str = ""
    """Most POSTs to one endpoint, like ``100/s burst 20``; "": as many as it takes. Of many nodes each
    has this rate."""

    max_array_bytes: int = 262_144
    """Longest array of merged pushes, in bytes."""

    retry: Backoff = msgspec.field(default_factory=lambda: Backoff(attempts=12, first_s=5.0, max_s=3600.0))
    """How often to try and how long to wait: twelve tries are some five hours."""

    longest_wait_s: float = 3600.0
    """A Retry-After beyond this many seconds counts as this."""

    breaker: BreakerPolicy = msgspec.field(default_factory=lambda: _BREAKER)
    """When an endpoint that fails is left alone for a while. Counted in calls, as one that hangs
    has few of them in any time."""

    merging: MergingOptions = msgspec.field(default_factory=MergingOptions)
    """When its pushes are posted as an array."""

    def __post_init__(self) -> None:
        for name in ("max_endpoints", "timeout_s", "in_flight", "max_array_bytes", "longest_wait_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: must be > 0, got {getattr(self, name)}")
        if self.rate:
            Limit.parse(self.rate)
