"""A clock that stands still until a test moves it."""

from __future__ import annotations


class ManualClock:
    """Implements ``heartcast.core.clock.Clock``.

    Args:
        wall_ms: Wall time to start at.
        monotonic_ns: Monotonic time to start at.
    """

    def __init__(self, wall_ms: int = 1_700_000_000_000, monotonic_ns: int = 1_000_000_000) -> None:
        self._wall_ms = wall_ms
        self._monotonic_ns = monotonic_ns

    def monotonic_s(self) -> float:
        return self._monotonic_ns / 1e9

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def wall_ms(self) -> int:
        return self._wall_ms

    def advance(self, seconds: float) -> None:
        """Move both clocks forward. ``seconds`` >= 0: monotonic time cannot go back."""
        if seconds < 0:
            raise ValueError(
                f"seconds must be >= 0, got {seconds}; use step_wall to move the wall clock back"
            )
        self._monotonic_ns += round(seconds * 1e9)
        self._wall_ms += round(seconds * 1000)

    def step_wall(self, seconds: float) -> None:
        """Let the wall clock jump either way, as an operator or NTP does."""
        self._wall_ms += round(seconds * 1000)
