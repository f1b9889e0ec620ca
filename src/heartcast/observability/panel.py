"""The live panel: what happens right now, in four or five figures.

The owner calls ``sample`` once a second; the counters are read then, and only then.
A rate is the growth over the last few seconds, so that a burst is seen at once and
does not vanish before anyone has looked. The last minute of each figure is kept, so
that a page that opens can draw its curves at once instead of starting empty.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import msgspec

WINDOW = 3
"""Samples that a rate looks back: smooths the beat between sampling and traffic."""

KEPT = 60
"""Samples kept for the curves: a minute at one per second."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The panel at one moment."""

    rates: dict[str, float]
    """Growth per second of each counter over the last seconds."""
    gauges: dict[str, float | None]
    """The latest reading of each gauge; None: it had nothing to say."""
    history: dict[str, list[float | None]]
    """Up to 60 samples of each figure, oldest first."""
    sampled_s: float
    """Monotonic time of the last sample; 0.0 before the first."""


class Panel:
    """Samples counters and gauges, and says how fast they grow.

    Args:
        counters: Read-outs of numbers that only grow, by name.
        gauges: Read-outs of present values, by name; None means "nothing to say".
    """

    def __init__(
        self,
        counters: Mapping[str, Callable[[], int]],
        gauges: Mapping[str, Callable[[], float | None]],
    ) -> None:
        if both := counters.keys() & gauges.keys():
            raise ValueError(f"a figure is a counter or a gauge, not both: {sorted(both)}")
        self._counters = dict(counters)
        self._gauges = dict(gauges)
        self._readings: deque[tuple[float, dict[str, int]]] = deque(maxlen=WINDOW + 1)
        self._history: dict[str, deque[float | None]] = {
            name: deque(maxlen=KEPT) for name in (*self._counters, *self._gauges)
        }
        self._figures = Figures(
            rates=dict.fromkeys(self._counters, 0.0),
            gauges=dict.fromkeys(self._gauges),
            history={name: [] for name in self._history},
            sampled_s=0.0,
        )

    def sample(self, now_s: float) -> None:
        """Read everything once.

        Args:
            now_s: Monotonic seconds. A reading that is not later than the last is ignored:
                no rate could be told from it.
        """
        if self._readings and now_s <= self._readings[-1][0]:
            return
        self._readings.append((now_s, {name: read() for name, read in self._counters.items()}))
        rates = self._rates()
        gauges = {name: read() for name, read in self._gauges.items()}
        for name, value in (*rates.items(), *gauges.items()):
            self._history[name].append(value)
        self._figures = Figures(
            rates=rates,
            gauges=gauges,
            history={name: list(values) for name, values in self._history.items()},
            sampled_s=now_s,
        )

    def _rates(self) -> dict[str, float]:
        (then_s, then), (now_s, now) = self._readings[0], self._readings[-1]
        gap_s = now_s - then_s
        if gap_s <= 0:
            return dict.fromkeys(now, 0.0)
        # max(): a counter that was reset (a part was restarted) is not negative traffic.
        return {name: max(0, value - then[name]) / gap_s for name, value in now.items()}

    def figures(self) -> Figures:
        """What the last sample found."""
        return self._figures
