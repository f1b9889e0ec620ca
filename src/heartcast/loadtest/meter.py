"""Latencies, second by second.

A message is added to the present second only; at its end the second is read once and
merged into the whole run. Microseconds throughout, always from the intended moment.
"""

from __future__ import annotations

import msgspec

from heartcast.core.quantiles import Histogram


class Quantiles(msgspec.Struct, frozen=True):
    """What a histogram says, in milliseconds; None where nothing was counted."""

    count: int
    mean_ms: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    max_ms: float | None

    @classmethod
    def of(cls, histogram: Histogram) -> Quantiles:
        count = histogram.count
        if not count:
            return cls(0, None, None, None, None, None, None)
        read = {q: (histogram.quantile(q) or 0) / 1000 for q in (0.5, 0.9, 0.99, 0.999, 1.0)}
        return cls(count, histogram.sum / count / 1000, *read.values())


class Meter:
    """One kind of latency."""

    __slots__ = ("_now", "add", "is_warm", "last", "total")

    def __init__(self) -> None:
        self.total = Histogram()
        """The run so far without its warm-up, up to the last ``turn``."""
        self.is_warm = False
        """Whether seconds count in the total from now on."""
        self.last = Histogram()
        """The second that ended last."""
        self._now = Histogram()
        self.add = self._now.add
        """Count one latency in microseconds, >= 0."""

    def turn(self) -> Quantiles:
        """End the present second: what it held."""
        said = Quantiles.of(self._now)
        if self.is_warm:
            self.total.merge(self._now)
        self.last = Histogram()
        self.last.merge(self._now)
        self._now.clear()
        return said
