"""Shedding: under too much load, do the important part well instead of everything badly.

The decision is taken a few times a second from how full we are and how late the event
loop runs; per request it is one comparison: ``priority > shedder.level``. What is least
important goes first, and comes back last and a little later than it left, so that the
level does not flap.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec


class Priority(IntEnum):
    """Lower is more important."""

    CRITICAL = 0
    """Acknowledgements, health, what an operator does. Has a reserve of its own."""
    NORMAL = 1
    """Hearts, pushes."""
    SHEDDABLE = 2
    """Batches, counts."""
    BEST_EFFORT = 3
    """Prefetching, statistics."""


class ShedPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which utilisation each priority is refused; 1.0 is the limit without the reserve."""

    normal: float = 1.0
    """Normal work goes last before the critical: at the limit itself."""

    sheddable: float = 0.85
    """Batches make room while hearts and pushes still fit, <= normal."""

    best_effort: float = 0.7
    """What nobody waits for goes first, > 0 and <= sheddable."""

    reserve: float = 0.2
    """Share on top that only the critical may use, in [0, 1): they are refused beyond 1 + reserve."""

    hysteresis: float = 0.05
    """A priority comes back when the utilisation is this much below its threshold, >= 0."""

    lag_s: float = 0.05
    """Event-loop lag that counts as utilisation 1.0, > 0. It is Python's sign of a busy CPU."""

    def __post_init__(self) -> None:
        if not 0 < self.best_effort <= self.sheddable <= self.normal < 100:
            raise ValueError("best_effort: must be > 0 and <= sheddable <= normal")
        if not 0 <= self.reserve < 1 or not 0 <= self.hysteresis < self.best_effort or not self.lag_s > 0:
            raise ValueError("reserve: must be in [0, 1), hysteresis in [0, best_effort), lag_s > 0")


class Shedder:
    """Knows which priorities pass at the moment."""

    __slots__ = ("_thresholds", "level", "policy", "shed")

    def __init__(self, policy: ShedPolicy | None = None) -> None:
        self.policy = policy = policy or ShedPolicy()
        self._thresholds = (1 + policy.reserve, policy.normal, policy.sheddable, policy.best_effort)
        self.level = int(Priority.BEST_EFFORT)
        """The least important priority that passes; -1 when nothing does."""
        self.shed = [0, 0, 0, 0]
        """Refused requests by priority."""

    def refuses(self, priority: int) -> bool:
        """Whether a request of this priority is turned away; if so it is counted."""
        if priority <= self.level:
            return False
        self.shed[priority] += 1
        return True

    def update(self, utilisation: float, lag_s: float = 0.0) -> None:
        """Take the present load: the share of the limit in use, and how late the event loop ran.

        Raises:
            ValueError: one of them is not a number >= 0; the level stays.
        """
        if not (utilisation >= 0 and lag_s >= 0):
            raise ValueError(f"utilisation and lag_s must be >= 0, got {utilisation} and {lag_s}")
        load = max(utilisation, lag_s / self.policy.lag_s)
        level = -1
        for priority, threshold in enumerate(self._thresholds):
            # Who is out already needs a little more room to come back.
            needed = threshold - self.policy.hysteresis if priority > self.level else threshold
            if load < needed:
                level = priority
        self.level = level


class LoopLag:
    """How late the event loop runs what is due: the owner calls ``tick`` from a timer.

    Args:
        every_s: Seconds between two ticks as they are planned, > 0.
    """

    __slots__ = ("_due_s", "_every_s", "lag_s")

    def __init__(self, every_s: float, now_s: float) -> None:
        if not every_s > 0:
            raise ValueError(f"every_s: must be > 0, got {every_s}")
        self._every_s = every_s
        self._due_s = now_s + every_s
        self.lag_s = 0.0
        """Decaying maximum of the lateness, in seconds."""

    def tick(self, now_s: float) -> float:
        """Note when this tick ran; plan the next one ``every_s`` from now."""
        late_s = max(0.0, now_s - self._due_s)
        # Rises at once and falls slowly: one quiet tick is no recovery.
        self.lag_s = max(late_s, self.lag_s * 0.8)
        self._due_s = now_s + self._every_s
        return self.lag_s
