"""Settings of how heartcast itself uses the kit."""

from __future__ import annotations

from typing import Literal

import msgspec

MetricNames = Literal["resilience", "resilience4j"]


class ResilienceOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``[resilience]`` part of the settings."""

    metric_names: MetricNames = "resilience"
    """How the metrics of breakers are called; with ``resilience4j`` dashboards made for it work."""
