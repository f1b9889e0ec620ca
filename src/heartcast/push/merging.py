"""How many pushes leave together: more when the other side fails, fewer when it is well.

A side that answers with errors is not helped by the same number of requests again. While
more than a few per cent of the last seconds' requests fail, the *size* (pushes that may
leave in one request) doubles every second; once they go well for a while it comes down
step by step. Between the two thresholds nothing moves, and neither does anything while
there are too few requests to tell.

What is moved here is the request rate: doubling the size halves it, so this is additive
increase and multiplicative decrease seen from the other side. What "together" means is
each route's own: one frame with several messages, or one POST of an array.
"""

from __future__ import annotations

import msgspec

from heartcast.resilience.breaker.window import TimeWindow

_SECOND_NS = 1_000_000_000


class MergingOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When pushes are merged on a route that fails."""

    above: float = 0.03
    """Share of failed requests above which the size doubles, in (0, 1)."""

    below: float = 0.01
    """Share below which it comes down again, in [0, above]: the gap keeps it from swinging."""

    least_requests: int = 20
    """No verdict on fewer requests within the window, >= 1."""

    window_s: int = 5
    """Seconds that are looked at, >= 1."""

    calm_s: int = 3
    """Seconds in a row below ``below`` before the size comes down, >= 1."""

    step: int = 5
    """By how much it comes down each second, >= 1."""

    most: int = 50
    """Largest size, >= 1; 1 switches merging off."""

    def __post_init__(self) -> None:
        if not 0 <= self.below <= self.above < 1 or self.above <= 0:
            raise ValueError(f"above, below: must be 0 <= {self.below} <= {self.above} < 1, above > 0")
        for name in ("least_requests", "window_s", "calm_s", "step", "most"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be >= 1, got {getattr(self, name)}")


class Merging:
    """The size of one route."""

    __slots__ = ("_calm", "_options", "_window", "size")

    def __init__(self, options: MergingOptions, now_ns: int = 0) -> None:
        self._options = options
        # One slot more: the one that has just begun is empty when the others are judged.
        self._window = TimeWindow(options.window_s + 1, _SECOND_NS, now_ns)
        self._calm = 0
        self.size = 1
        """Pushes that may leave in one request."""

    def record(self, *, failed: bool) -> None:
        """A request ended."""
        self._window.add(failed, slow=False)

    def add(self, requests: int, failures: int) -> None:
        """So many requests ended, and so many of them failed."""
        self._window.calls += requests
        self._window.failures += failures

    @property
    def error_rate(self) -> float:
        """Share of the window's requests that failed, 0.0 to 1.0; 0.0 when there were none."""
        return self._window.failures / self._window.calls if self._window.calls else 0.0

    def look(self, now_ns: int) -> int:
        """Judge the last seconds; called once a second.

        Args:
            now_ns: Monotonic time in nanoseconds.

        Returns:
            The size from now on.
        """
        options, window = self._options, self._window
        window.turn(now_ns)
        if not window.calls:
            # Nothing was tried: that a breaker is open must not look like recovery.
            return self.size
        is_enough = window.calls >= options.least_requests
        if is_enough and self.error_rate > options.above:
            self._calm = 0
            self.size = min(options.most, self.size * 2)
        elif self.error_rate < options.below or not window.failures:
            # Merged requests are few: of too few that went well it comes down all the same.
            self._calm += 1
            if self._calm >= options.calm_s:
                self.size = max(1, self.size - options.step)
        else:
            self._calm = 0
        return self.size
