"""How many calls at a time are good for a dependency: found out, not configured.

Both are plain arithmetic on samples. ``Aimd`` adds one while calls are quick and takes a
tenth away when one times out or is refused. ``Gradient`` compares how long calls take
with how long they took when nobody queued: as the ratio grows, calls are waiting behind
each other, and the limit comes down before anything times out.
"""

from __future__ import annotations

from heartcast.core.quantiles import Histogram


class Aimd:
    """Additive increase, multiplicative decrease.

    Args:
        least: Lowest limit, >= 1.
        start: First limit.
        most: Highest limit.
        timeout_s: A call longer than this counts as dropped.
    """

    __slots__ = ("_credit", "_least", "_most", "_timeout_ns", "limit")

    def __init__(self, *, least: int = 4, start: int = 20, most: int = 200, timeout_s: float = 5.0) -> None:
        if not 1 <= least <= start <= most or not timeout_s > 0:
            raise ValueError(f"least, start, most: must be 1 <= {least} <= {start} <= {most}, timeout_s > 0")
        self._least, self._most = least, most
        self._timeout_ns = round(timeout_s * 1e9)
        self._credit = 0
        self.limit = start
        """Calls at a time."""

    def sample(self, took_ns: int, in_flight: int, *, dropped: bool = False) -> None:
        """A call ended. ``in_flight`` counts it and those beside it."""
        if dropped or took_ns > self._timeout_ns:
            self.limit = max(self._least, self.limit * 9 // 10)
            self._credit = 0
        elif in_flight * 2 >= self.limit:
            # Grow only where the limit is felt, by one for every limit's worth of calls.
            self._credit += 1
            if self._credit >= self.limit:
                self._credit = 0
                self.limit = min(self._most, self.limit + 1)


# One window in fifty at half the limit costs a hundredth of the capacity.
_PROBE_EVERY = 50


class Gradient:
    """Follows the ratio of the best known duration to the present one.

    Args:
        least: Lowest limit, >= 1.
        start: First limit.
        most: Highest limit.
        window: Samples per step, >= 10.
        tolerance: How much longer than the best calls may take, >= 1.
    """

    __slots__ = (
        "_before_probe",
        "_best_us",
        "_dropped",
        "_least",
        "_most",
        "_peak",
        "_seen",
        "_steps",
        "_tolerance",
        "_window",
        "limit",
    )

    def __init__(
        self, *, least: int = 4, start: int = 20, most: int = 200, window: int = 100, tolerance: float = 1.5
    ) -> None:
        if not 1 <= least <= start <= most or window < 10 or not tolerance >= 1:
            raise ValueError(
                f"least, start, most: must be 1 <= {least} <= {start} <= {most}, window >= 10, tolerance >= 1"
            )
        self._least, self._most = least, most
        self._window, self._tolerance = window, tolerance
        self._seen = Histogram()
        self._best_us = 0.0
        self._peak = self._dropped = self._steps = self._before_probe = 0
        self.limit = start
        """Calls at a time."""

    def sample(self, took_ns: int, in_flight: int, *, dropped: bool = False) -> None:
        """A call ended. A dropped one says "too many" and nothing about durations."""
        self._peak = max(self._peak, in_flight)
        if dropped:
            self._dropped += 1
        else:
            self._seen.add(took_ns // 1000)
        if self._seen.count + self._dropped >= self._window:
            self._step()

    def _step(self) -> None:
        p90_us = float(self._seen.quantile(0.9) or 0)
        if self._before_probe:
            self._best_us = p90_us or self._best_us
            self.limit, self._before_probe = self._before_probe, 0
        else:
            self._follow(p90_us)
        self._steps += 1
        if self._steps % _PROBE_EVERY == 0:
            # The best must be able to become worse when the dependency does. At half the
            # limit little queues, so what is seen there is close to what calls really take.
            self._before_probe = self.limit
            self.limit = max(self._least, self.limit // 2)
        self._seen.clear()
        self._peak = self._dropped = 0

    def _follow(self, p90_us: float) -> None:
        if p90_us and (not self._best_us or p90_us < self._best_us):
            self._best_us = p90_us
        gradient = min(1.0, self._tolerance * self._best_us / p90_us) if p90_us else 0.5
        if self._dropped * 20 > self._window:
            gradient = min(gradient, 0.9)
        limit = self.limit * max(0.5, gradient)
        if gradient == 1.0 and self._peak * 2 >= self.limit:
            # Headroom only while nothing queues, or the limit drifts upwards for ever.
            limit += self.limit**0.5
        self.limit = int(min(self._most, max(self._least, limit)))
