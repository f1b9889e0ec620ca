"""When a breaker opens, for how long, and what lets it close."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

import msgspec

from heartcast.resilience.breaker.window import CountWindow, TimeWindow


class State(IntEnum):
    """The numbers are resilience4j's order, so that dashboards can map them."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2
    DISABLED = 3
    """Everything passes, nothing is counted."""
    FORCED_OPEN = 4
    """Nothing passes until an operator says so."""
    METRICS_ONLY = 5
    """Everything passes and is counted; it never opens."""


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a breaker.

    Raises:
        ValueError: a field is out of range; the message begins with its name.
    """

    failure_rate: float = 0.5
    """Opens at this share of failed calls, in (0, 1]. Half of the calls failing is no hiccup."""

    slow_s: float = 1.0
    """A call longer than this is slow, > 0."""

    slow_rate: float = 0.5
    """Opens when *more* than this share is slow, in [0, 1]. 0.05 says "P95 above slow_s"; 1.0 never."""

    trip: Literal["any", "all"] = "any"
    """``any``: either rate opens. ``all``: both must be over, which never opens on failures that are fast."""

    window: Literal["time", "count"] = "time"
    """Whether the window holds seconds or calls."""

    window_size: int = 10
    """Seconds or calls, >= 1. Ten seconds see an outage at once and forgive a hiccup."""

    min_calls: int = 20
    """No verdict on fewer calls, >= 1: one failure of one call is no rate."""

    open_s: float = 5.0
    """First break in seconds, > 0; doubles with each break in a row."""

    max_open_s: float = 60.0
    """Longest break in seconds, >= open_s."""

    jitter: float = 0.2
    """Share by which breaks vary, in [0, 1), so that many processes don't probe in step."""

    probes: int = 5
    """Calls that may pass while half open, >= 1."""

    probes_at_once: int = 2
    """How many of them at the same time, in [1, probes]."""

    probes_needed: int = 4
    """How many must go well, in [1, probes]: one flake neither closes nor reopens."""

    lease_s: float = 0.0
    """A probe without an answer for so long counts as failed; 0 means 4 times slow_s."""

    def __post_init__(self) -> None:
        _require("failure_rate", "in (0, 1]", self.failure_rate, 0 < self.failure_rate <= 1)
        _require("slow_s", "> 0 and finite", self.slow_s, 0 < self.slow_s < 1e9)
        _require("slow_rate", "in [0, 1]", self.slow_rate, 0 <= self.slow_rate <= 1)
        _require("window_size", ">= 1", self.window_size, self.window_size >= 1)
        _require("min_calls", ">= 1", self.min_calls, self.min_calls >= 1)
        fits = self.window == "time" or self.min_calls <= self.window_size
        _require("min_calls", "<= window_size, or no verdict is ever reached", self.min_calls, fits)
        _require("open_s", "> 0 and finite", self.open_s, 0 < self.open_s < 1e9)
        _require("max_open_s", ">= open_s", self.max_open_s, self.open_s <= self.max_open_s < 1e9)
        _require("jitter", "in [0, 1)", self.jitter, 0 <= self.jitter < 1)
        _require("probes", ">= 1", self.probes, self.probes >= 1)
        _require(
            "probes_at_once", "in [1, probes]", self.probes_at_once, 1 <= self.probes_at_once <= self.probes
        )
        _require(
            "probes_needed", "in [1, probes]", self.probes_needed, 1 <= self.probes_needed <= self.probes
        )
        _require(
            "lease_s", ">= slow_s, or 0", self.lease_s, not self.lease_s or self.slow_s <= self.lease_s < 1e9
        )

    def make_window(self, now_ns: int) -> TimeWindow | CountWindow:
        if self.window == "count":
            return CountWindow(self.window_size)
        # At most 60 rows however long the window is.
        slots = min(self.window_size, 60)
        return TimeWindow(slots, self.window_size * 1_000_000_000 // slots, now_ns)


def _require(field: str, must: str, value: object, holds: bool) -> None:
    if not holds:
        raise ValueError(f"{field}: must be {must}, got {value!r}")


HEARTS = BreakerPolicy(failure_rate=0.05, slow_s=0.8, slow_rate=0.05, window_size=60, min_calls=100)
"""The article's thresholds: failures of 5 % or a P95 above 800 ms, over 60 s."""
