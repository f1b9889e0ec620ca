"""Shedding: under too much load, do the important part well instead of everything badly.

The decision is taken many times a second from how full we are and how late the event loop
runs; per request it is one comparison: ``priority > shedder.level``. What is least important
goes first and comes back last. It goes share by share: where a priority is on its way out,
just as much of it passes as there is room for. All or nothing would have the server either
drown or idle, a few times a second each.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum

import msgspec

# One late turn is a hiccup (a collection, a checkpoint, a neighbour); three in a row are load.
_LOOKS = 3


class Priority(IntEnum):
    """Lower is more important."""

    CRITICAL = 0
    """Acknowledgements, health, what an operator does. Has a reserve of its own."""
    NORMAL = 1
    """Hearts, pushes."""
    SHEDDABLE = 2
    """Batches, counts, lists."""
    BEST_EFFORT = 3
    """Recommendations, boards, statistics: pages do without them for a moment."""


class ShedPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which load on a growing share of a priority is refused; 1.0 is full.

    Of batches and what goes before them nothing passes where the next more important begins to be refused.
    """

    normal: float = 1.0
    """Normal work is touched last before the critical: when we are full."""

    sheddable: float = 0.75
    """Batches make room while hearts and pushes still fit, <= normal."""

    best_effort: float = 0.5
    """What nobody waits for goes first, > 0 and <= sheddable."""

    reserve: float = 2.0
    """Load on top of normal over which normal work goes share by share, > 0. All that is too much has to be
    spread over it: at three times the capacity the load settles two thirds up."""

    critical: float = 20.0
    """Critical work is refused only when all else has long been, >= normal + reserve."""

    lag_s: float = 0.05
    """Event-loop lag that counts as load 1.0, > 0. It is Python's sign of a busy CPU."""

    def __post_init__(self) -> None:
        if not 0 < self.best_effort <= self.sheddable <= self.normal < 100:
            raise ValueError("best_effort: must be > 0 and <= sheddable <= normal")
        if not self.reserve > 0 or not self.normal + self.reserve <= self.critical < 1e9:
            raise ValueError("reserve: must be > 0, and critical >= normal + reserve")
        if not self.lag_s > 0:
            raise ValueError(f"lag_s: must be > 0, got {self.lag_s}")


class Shedder:
    """Knows which priorities pass at the moment."""

    __slots__ = ("_ends", "_owed", "_thresholds", "level", "policy", "share", "shed")

    def __init__(self, policy: ShedPolicy | None = None) -> None:
        self.policy = policy = policy or ShedPolicy()
        self._thresholds = (policy.critical, policy.normal, policy.sheddable, policy.best_effort)
        # Where nothing of a priority passes any more.
        self._ends = (2 * policy.critical, policy.normal + policy.reserve, policy.normal, policy.sheddable)
        self._owed = 0.0
        self.level = int(Priority.BEST_EFFORT)
        """The least important priority of which everything passes; -1 when of none."""
        self.share = 1.0
        """Share of the next priority that passes as well, in [0, 1]."""
        self.shed = [0, 0, 0, 0]
        """Refused requests by priority."""

    def refuses(self, priority: int) -> bool:
        """Whether a request of this priority is turned away; if so it is counted."""
        if priority <= self.level:
            return False
        if priority == self.level + 1:
            # Evenly and not by dice: of a third, every third.
            self._owed += self.share
            if self._owed >= 1:
                self._owed -= 1
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
        thresholds = self._thresholds
        level = -1
        for priority, threshold in enumerate(thresholds):
            if load < threshold:
                level = priority
        self.level = level
        if level < Priority.BEST_EFFORT:
            begins, ends = self._thresholds[level + 1], self._ends[level + 1]
            self.share = max(0.0, (ends - load) / (ends - begins)) if ends > begins else 0.0


class LoopLag:
    """How late the event loop runs what is due: the owner calls ``tick`` from a timer.

    Args:
        every_s: Seconds between two ticks as they are planned, > 0.
    """

    __slots__ = ("_due_s", "_every_s", "_lately_s", "lag_s", "standing_s")

    def __init__(self, every_s: float, now_s: float) -> None:
        if not every_s > 0:
            raise ValueError(f"every_s: must be > 0, got {every_s}")
        self._every_s = every_s
        self._due_s = now_s + every_s
        self._lately_s = deque([0.0] * _LOOKS, _LOOKS)
        self.lag_s = 0.0
        """Decaying maximum of the lateness, in seconds: for people to see."""
        self.standing_s = 0.0
        """Least lateness of the last ticks, in seconds: what is there all the time, to decide by."""

    def late_s(self, now_s: float) -> float:
        """How overdue the next tick is already, in seconds."""
        return max(0.0, now_s - self._due_s)

    def tick(self, now_s: float) -> float:
        """Note when this tick ran; plan the next one ``every_s`` from now. Returns how late it was."""
        late_s = self.late_s(now_s)
        self._lately_s.append(late_s)
        self.standing_s = min(self._lately_s)
        # Rises at once and falls slowly, by half in half a second where it is looked at 40 times in one.
        self.lag_s = max(late_s, self.lag_s * 0.966)
        self._due_s = now_s + self._every_s
        return late_s
