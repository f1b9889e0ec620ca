"""The share of pushes that came in time, over the last minute.

Hot code counts what was in time and what there was at all, and never divides. Each look
remembers the counts, so that the next ones can tell what has happened since: whoever looks
every fifteen seconds sees the last sixty.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from heartcast.observability.metrics import Labels, Values

WINDOW_S = 60.0
LEAST = 20
"""Below so many within the window there is no share: one late push of three is no outage."""


class Timely(NamedTuple):
    """Counts since the start."""

    in_time: int
    total: int


class SlaRatio:
    """Reads the share, by labels.

    Args:
        now_s: Monotonic.
        counts: The counts as they are now.
    """

    def __init__(self, now_s: Callable[[], float], counts: Callable[[], Mapping[Labels, Timely]]) -> None:
        self._now_s = now_s
        self._counts = counts
        self._looks: deque[tuple[float, Mapping[Labels, Timely]]] = deque([(now_s(), counts())])

    def __call__(self) -> Values:
        """0.0 to 1.0; labels with fewer than 20 pushes are left out."""
        now_s, counts = self._now_s(), self._counts()
        looks = self._looks
        looks.append((now_s, counts))
        # The oldest look stays until another one covers the window.
        while len(looks) > 2 and looks[1][0] <= now_s - WINDOW_S:
            looks.popleft()
        before = looks[0][1]
        ratios: dict[Labels, float] = {}
        for labels, now in counts.items():
            then = before.get(labels, Timely(0, 0))
            if (total := now.total - then.total) >= LEAST:
                ratios[labels] = (now.in_time - then.in_time) / total
        return ratios
