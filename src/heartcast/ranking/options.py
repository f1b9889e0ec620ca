"""What an operator can set about ranking."""

from __future__ import annotations

import re

import msgspec

from heartcast.ranking.decay import HALF_LIVES_S

MAX_LIMIT = 100
"""Most places of a board that can be asked for."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_MAX_BOARDS = 16
_LONGEST_HALF_LIFE_S = 10 * 366 * 86_400.0


class HotOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hot lists."""

    boards: dict[str, float | str] = msgspec.field(
        default_factory=lambda: {"hour": "hour", "day": "day", "week": "week"}
    )
    """Half-life of each board by its name: seconds, or the name of a preset (danmaku,
    social, long_tail, hour, day, week). 1 to 16 boards. The defaults answer "right now",
    "today" and "this week"."""

    max_items: int = 100_000
    """Items kept over all boards, >= 1000; beyond it the items that are coldest on every
    board are forgotten. 100,000 items take about 22 MB, far more than any list shows."""

    publish_interval_s: float = 0.25
    """Shortest time between two publications of one board, 0.05 to 60 seconds. Four a
    second looks live and costs nothing."""

    refresh_interval_s: float = 10.0
    """How often the fading scores of a watched board are published when nothing else
    happens, 1 to 3600 seconds."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.boards) <= _MAX_BOARDS:
            raise ValueError(f"boards: must be 1 to {_MAX_BOARDS}, got {len(self.boards)}")
        self.half_lives_s()
        if self.max_items < 1000:
            raise ValueError("max_items: must be >= 1000")
        if not 0.05 <= self.publish_interval_s <= 60:
            raise ValueError("publish_interval_s: must be 0.05 to 60")
        if not 1 <= self.refresh_interval_s <= 3600:
            raise ValueError("refresh_interval_s: must be 1 to 3600")

    def half_lives_s(self) -> dict[str, float]:
        """Half-life of each board in seconds, presets resolved.

        Raises:
            ValueError: a name or a half-life cannot be used.
        """
        return {name: _half_life_s(name, value) for name, value in self.boards.items()}


def _half_life_s(name: str, value: float | str) -> float:
    if not _NAME(name):
        raise ValueError(f"boards.{name}: the name must be 1 to 64 of A-Z a-z 0-9 . _ -")
    if isinstance(value, str):
        if value not in HALF_LIVES_S:
            raise ValueError(f"boards.{name}: must be seconds or one of {', '.join(HALF_LIVES_S)}")
        return HALF_LIVES_S[value]
    if not 1 <= value <= _LONGEST_HALF_LIFE_S:
        raise ValueError(f"boards.{name}: must be 1 to {_LONGEST_HALF_LIFE_S:.0f} seconds")
    return float(value)
