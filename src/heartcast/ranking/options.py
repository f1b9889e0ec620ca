"""What an operator can set about ranking."""

from __future__ import annotations

import re
from typing import Literal

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


class TasteOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The online model."""

    history: int = 200
    """Newest items remembered per user, 2 to 10,000; 8 bytes each."""
    looked_at: int = 10
    """Newest items that a recommendation looks at, 1 to ``history``. With a half-life of two
    events the rest weighs 3 % and costs time."""
    compared: int = 50
    """Newest items by which people are compared, 1 to 10,000."""
    half_life_events: float = 2.0
    """Events after which a history item counts half, > 0."""
    people_half_life_events: float = 8.0
    """The same where people are compared, and for what they have, > 0."""
    activity: float = 0.5
    """Power of how full somebody's history is as a factor of being similar, 0 to 10, the factor being
    .25 to 1; 0 ignores it."""
    reach: int = 20
    """Two items of one history go together when they stand at most so many places apart, 1 to 200.
    A heart costs as many table entries."""
    half_gap: float = 10.0
    """Places apart after which that counts half, > 0."""
    partners: int = 200
    """Partners kept per item, 1 to 10,000; 8 bytes each. Up to 4,096 items every pair is kept."""
    fans: int = 500
    """Latest people remembered per item, 1 to 100,000; 4 bytes each."""
    neighbours: int = 100
    """Most similar people looked at, 1 to 1000."""
    shrink: float = 5.0
    """Shrinkage between items, >= 0: people that two items must share before it counts."""
    people_shrink: float = 5.0
    """Shrinkage between people, >= 0, in fading hearts: less than one newest heart shared
    is hardly a similarity."""
    max_users: int = 1_000_000
    """Users tracked, >= 1: 1.6 KB each with the defaults, so 1.6 GB when full."""
    max_items: int = 100_000
    """Items tracked, >= 1: 3.6 KB each with the defaults, so 360 MB when full; up to 4,096 items it is
    18 KB each, since every pair has a number."""

    def __post_init__(self) -> None:
        bounds = {"history": (2, 10_000), "partners": (1, 10_000), "fans": (1, 100_000)} | {
            "looked_at": (1, self.history),
            "compared": (1, 10_000),
            "reach": (1, 200),
            "neighbours": (1, 1000),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: must be {low} to {high}")
        for name in ("half_life_events", "people_half_life_events", "half_gap"):
            if not 0 < getattr(self, name) < 1e9:
                raise ValueError(f"{name}: must be > 0")
        for name in ("shrink", "people_shrink"):
            if not 0 <= getattr(self, name) < 1e9:
                raise ValueError(f"{name}: must be >= 0")
        if not 0 <= self.activity <= 10:
            raise ValueError("activity: must be 0 to 10")
        if min(self.max_users, self.max_items) < 1:
            raise ValueError("max_users, max_items: must be >= 1")


class ForYouOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Personal recommendations."""

    items: float = 0.5
    """Share of what goes with the user's newest hearts, >= 0."""
    people: float = 0.2
    """Share of what similar people have, >= 0."""
    hot: float = 0.3
    """Share of what is hot, >= 0: on real data the part that must not be left out."""
    board: str = "week"
    """Which board is hot for this purpose; one that does not exist leaves the part out."""
    spread: float = 0.1
    """0 looks at scores only, 1 at difference from what stands above only."""
    same_author: float = 0.5
    """How alike two items of one author are at least, 0 to 1, when the list is spread."""
    max_age_s: float | None = None
    """Items published longer ago are not recommended, > 0; null: age is no reason."""
    tired_after: int = 5
    """An item shown to somebody so often without a click rests, >= 1."""
    rest_s: float = 86_400.0
    """How long it rests after the last showing, in seconds, >= 0."""
    explore: float = 0.0
    """Share of the places kept for described items that hardly anybody was shown, 0 to 0.5."""
    explore_until: float = 50.0
    """Showings, fading like rates, up to which an item is hardly known."""

    def __post_init__(self) -> None:
        for name in ("items", "people", "hot"):
            if not 0 <= getattr(self, name) <= 1e6:
                raise ValueError(f"{name}: must be >= 0")
        if self.items + self.people + self.hot <= 0:
            raise ValueError("items, people, hot: one must be > 0")
        for name, low, high in (
            ("spread", 0.0, 1.0),
            ("same_author", 0.0, 1.0),
            ("explore", 0.0, 0.5),
            ("explore_until", 0.0, 1e9),
            ("tired_after", 1, 1_000_000),
            ("rest_s", 0.0, 1e9),
            ("max_age_s", 1e-3, 1e10),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name}: must be {low:g} to {high:g}")


class FeedbackOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What people do beside hearting."""

    taste: dict[str, float] = msgspec.field(
        default_factory=lambda: {"click": 0.3, "watch": 0.6, "conversion": 1.0}
    )
    """How sure an event makes us that somebody likes an item, by type, 0 to 1; a heart is 1."""
    hot: dict[str, float] = {}
    """What an event counts on the hot boards, by type, 0 to 1000; a heart is 1. Empty: only hearts count."""
    half_life_s: float = 7 * 86_400.0
    """Half-life of click, conversion and watch rates in seconds, >= 60."""
    keep_s: float = 30 * 86_400.0
    """How long events are kept, in seconds, > 0."""
    max_events: int = 2_000_000
    """Events kept, >= 1000; of more, the oldest go. About 150 bytes each on the disk."""

    def __post_init__(self) -> None:
        for name, most in (("taste", 1.0), ("hot", 1000.0)):
            for kind, weight in getattr(self, name).items():
                if kind not in ("click", "watch", "conversion", *(("exposure",) if name == "hot" else ())):
                    raise ValueError(f"{name}.{kind}: there is click, watch, conversion")
                if not 0 <= weight <= most:
                    raise ValueError(f"{name}.{kind}: must be 0 to {most:g}")
        if not 60 <= self.half_life_s < 1e10:
            raise ValueError("half_life_s: must be >= 60")
        if not 0 < self.keep_s < 1e10:
            raise ValueError("keep_s: must be > 0")
        if self.max_events < 1000:
            raise ValueError("max_events: must be >= 1000")


class RankingOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What for whom."""

    recommendations: Literal["on", "off", "auto"] = "off"
    """Whether hearts are also learnt from, for `/api/v1/recommend` and its siblings. `auto`: where
    the extra `ranking` is installed, as `heartcast demo` has it. Off, because it costs every
    heart about 3 µs of one core while there are at most 4,096 items and 20 µs beyond, and memory for
    numpy (25 MB) and for what ``taste`` says per user and item; the start loads all hearts, with some
    100 bytes for each while it does."""

    taste: TasteOptions = msgspec.field(default_factory=TasteOptions)
    for_you: ForYouOptions = msgspec.field(default_factory=ForYouOptions)
    feedback: FeedbackOptions = msgspec.field(default_factory=FeedbackOptions)

    max_described: int = 200_000
    """Items that can be described (category, author, age), >= 1; about 300 bytes each."""

    predictors: dict[str, str] = {}
    """Models of your own by the measure they predict, such as ``ctr = "my_models:ctr"``: a callable in
    a module that Python can import. See the how-to of recommending."""

    def __post_init__(self) -> None:
        if self.max_described < 1:
            raise ValueError("max_described: must be >= 1")
        for name, where in self.predictors.items():
            module, _, attribute = where.partition(":")
            if not (module and attribute.isidentifier()):
                raise ValueError(f"predictors.{name}: must be like my_module:callable")


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
