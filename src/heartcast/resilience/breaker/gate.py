"""The dynamic threshold: is this window worse than what has been normal here?

"Below mean - 2 sigma of the last 15 minutes" goes blind during the very outage it should
see: the outage enters the mean and widens sigma until, after a fifth of the window, any
depth of failure is normal. So the baseline here is made of counts, lags one window
behind, takes in no window that looked bad, and stands still while the gate is tripped.

A window is bad when its success share is below the baseline by more than ``margin`` even
at the upper end of its Wilson interval: three failures of five calls prove nothing.
"""

from __future__ import annotations

from collections import deque

import msgspec


def wilson(good: int, total: int, z: float) -> tuple[float, float]:
    """Bounds of the true share of ``good`` in ``total``, z standard errors wide; (0, 1) for no calls."""
    if not total:
        return 0.0, 1.0
    share, width = good / total, z * z / total
    middle = share + width / 2
    reach = z * (share * (1 - share) / total + width / total / 4) ** 0.5
    return max(0.0, (middle - reach) / (1 + width)), min(1.0, (middle + reach) / (1 + width))


class GatePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a gate."""

    baseline_windows: int = 60
    """Windows that make the baseline, >= 1: 15 minutes of 15 seconds."""

    min_calls: int = 100
    """Windows with fewer calls say nothing, >= 1."""

    z: float = 3.0
    """Standard errors, > 0: a healthy window looks bad about once in a thousand."""

    margin: float = 0.005
    """A drop of the success share smaller than this is nobody's outage, in [0, 1)."""

    trip_of: tuple[int, int] = (2, 3)
    """Trips when so many of the last so many windows were bad."""

    recover_after: int = 2
    """Recovers after so many good windows in a row, >= 1."""

    def __post_init__(self) -> None:
        for field in ("baseline_windows", "min_calls", "recover_after"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}: must be >= 1, got {getattr(self, field)}")
        if not 0 < self.z < 100 or not 0 <= self.margin < 1:
            raise ValueError(f"z, margin: must be > 0 and in [0, 1), got {self.z} and {self.margin}")
        if not 1 <= self.trip_of[0] <= self.trip_of[1]:
            raise ValueError(f"trip_of: must be (k, n) with 1 <= k <= n, got {self.trip_of}")


class SloGate:
    """Follows windows of counts and says whether the service is worse than it was."""

    __slots__ = ("_bad", "_good_run", "_held", "_policy", "_windows", "is_tripped")

    def __init__(self, policy: GatePolicy | None = None) -> None:
        self._policy = policy = policy or GatePolicy()
        self._windows: deque[tuple[int, int]] = deque(maxlen=policy.baseline_windows)
        self._held: tuple[int, int] | None = None
        self._bad: deque[bool] = deque(maxlen=policy.trip_of[1])
        self._good_run = 0
        self.is_tripped = False

    @property
    def baseline(self) -> float | None:
        """Success share that counts as normal, weighted by traffic; None before there is one."""
        total = sum(total for _, total in self._windows)
        return sum(good for good, _ in self._windows) / total if total else None

    def observe(self, good: int, total: int) -> bool:
        """Take one window's counts.

        Returns:
            Whether the gate is tripped now.

        Raises:
            ValueError: the counts are no counts.
        """
        if not 0 <= good <= total:
            raise ValueError(f"good: must be in [0, total], got {good} of {total}")
        if total < self._policy.min_calls:
            return self.is_tripped
        bad = self._is_bad(good, total)
        self._bad.append(bad)
        self._good_run = 0 if bad else self._good_run + 1
        if self.is_tripped:
            self.is_tripped = self._good_run < self._policy.recover_after
            if not self.is_tripped:
                self._bad.clear()
        else:
            self.is_tripped = sum(self._bad) >= self._policy.trip_of[0]
            self._learn((good, total), bad)
        return self.is_tripped

    def _is_bad(self, good: int, total: int) -> bool:
        baseline = self.baseline
        return (
            baseline is not None and wilson(good, total, self._policy.z)[1] < baseline - self._policy.margin
        )

    def _learn(self, window: tuple[int, int], bad: bool) -> None:
        # One window late: the first window of an outage may look good by a hair.
        if self.is_tripped or bad:
            self._held = None
            return
        if self._held is not None:
            self._windows.append(self._held)
        self._held = window
