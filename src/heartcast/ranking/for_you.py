"""Recommendations for one person: what goes with their hearts, what people like them have,
and what is hot, in one list that explains itself.

Each source proposes a hundred candidates and scores all of them; scores are brought to
one scale by quantiles and added by share. Somebody without a history is served what is
hot, which on real data is hard to beat anyway. The list is then spread: an item much like
one that already stands in it has to be that much better.

New hearts count at once in their owner's history. What they say about which items go
together is counted ``SETTLE_S`` later, for all that came meanwhile in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np

from heartcast.ranking.boards import HotBoards
from heartcast.ranking.diversity import mmr
from heartcast.ranking.interactions import Floats
from heartcast.ranking.options import ForYouOptions
from heartcast.ranking.scaling import quantile
from heartcast.ranking.taste import Event, Neighbour, Suggestion, Taste

SETTLE_S = 0.05
"""Seconds from an event to when it counts for what goes together: half of the tenth of a
second that people call "at once"."""

_CANDIDATES = 100


class Pick(msgspec.Struct, frozen=True, omit_defaults=True):
    """An item for somebody."""

    item_id: str
    score: float
    """0 to 1: share of the candidates it beats, over all sources."""
    rank: int
    """1 is the best."""
    because: str | None = None
    """Why, in words; only where it was asked for."""


class ForYou:
    """What to show to whom.

    Args:
        taste: The model; this object feeds it.
        boards: What is hot.
        options: Shares of the sources.
        later: Calls a function once after so many seconds (``loop.call_later``).
    """

    def __init__(
        self,
        taste: Taste,
        boards: HotBoards,
        options: ForYouOptions,
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._taste = taste
        self._boards = boards
        self._options = options
        self._later = later
        self._is_settling = False

    def apply(self, events: Iterable[Event]) -> None:
        """Take hearts, in order."""
        self._taste.apply(events)
        if not self._is_settling:
            self._is_settling = True
            self._later(SETTLE_S, self._settle)

    def use(self, taste: Taste) -> None:
        """Go on with another model, filled meanwhile; the present one is let go."""
        self._taste = taste

    @property
    def taste(self) -> Taste:
        """The model in use."""
        return self._taste

    def recommend(self, user_id: str, count: int, now_ms: int, explain: bool = False) -> list[Pick]:
        """What a user would want now, best first; never what they have.

        Args:
            user_id: Anybody; strangers get what is hot.
            count: Items at most, 1 to 100.
            now_ms: Wall time, for the hot list.
            explain: Say why.
        """
        taste = self._taste
        mix = _Mix(taste.recommend(user_id, _CANDIDATES), taste.recommend_by_people(user_id, _CANDIDATES))
        reasons = (lambda item_id: taste.because(user_id, item_id)) if explain else None
        return self._pick(mix, taste.has(user_id), count, now_ms, reasons)

    def recommend_for(
        self, item_ids: Sequence[str], count: int, now_ms: int, explain: bool = False
    ) -> list[Pick]:
        """The same for a visitor of whom only this session's items are known, oldest first."""
        taste = self._taste
        mix = _Mix(taste.recommend_for(item_ids, _CANDIDATES), [])
        reasons = (lambda item_id: taste.because_for(item_ids, item_id)) if explain else None
        return self._pick(mix, set(item_ids), count, now_ms, reasons)

    def similar(self, item_id: str, count: int) -> list[Suggestion]:
        """Items that go with an item."""
        return self._taste.similar(item_id, count)

    def neighbours(self, user_id: str, count: int) -> list[Neighbour]:
        """People like a user."""
        return self._taste.neighbours(user_id, count)

    def _settle(self) -> None:
        self._is_settling = False
        self._taste.settle()

    def _pick(
        self, mix: _Mix, owned: set[str], count: int, now_ms: int, reasons: Callable[[str], _Because] | None
    ) -> list[Pick]:
        options = self._options
        if options.hot and options.board in self._boards:
            top = self._boards.top(options.board, _CANDIDATES, now_ms)
            mix.hot = {item_id: score for item_id, score in top if item_id not in owned}
        sources = ((options.items, mix.goes_with), (options.people, mix.by_people), (options.hot, mix.hot))
        candidates = sorted({item_id for share, scores in sources if share for item_id in scores})
        if not candidates:
            return []
        scores = _join(sources, candidates)
        order = mmr(scores, self._taste.alike(candidates).__getitem__, count, 1 - options.spread)
        return [
            Pick(
                item_id=candidates[index],
                score=round(float(scores[index]), 4),
                rank=rank,
                because=None if reasons is None else mix.words(candidates[index], reasons(candidates[index])),
            )
            for rank, index in enumerate(order.tolist(), 1)
        ]


_Because = tuple[tuple[str, int], ...]


class _Mix:
    """Scores of the candidates by source, and what the sources say about one of them."""

    def __init__(self, goes_with: list[Suggestion], by_people: list[Suggestion]) -> None:
        self.goes_with = {found.item_id: found.score for found in goes_with}
        self.by_people = {found.item_id: found.score for found in by_people}
        self.hot: dict[str, float] = {}

    def words(self, item_id: str, because: _Because) -> str:
        parts = []
        if because:
            name, count = because[0]
            others = "1 other person" if count == 1 else f"{count} others"
            parts.append(f"you hearted {name}, and {others} hearted both")
        if len(because) > 1:
            parts.append("it also goes with " + " and ".join(other for other, _ in because[1:]))
        if item_id in self.by_people:
            parts.append("people with hearts like yours hearted it")
        if item_id in self.hot:
            parts.append(f"it is hot: {self.hot[item_id]:.1f} hearts' worth right now")
        return "; ".join(parts)


def _join(sources: Iterable[tuple[float, dict[str, float]]], candidates: list[str]) -> Floats:
    total, shares = np.zeros(len(candidates)), 0.0
    for share, scores in sources:
        # A source that knows nothing says nothing: its share falls to the others.
        if share and scores:
            total += share * quantile(np.array([scores.get(item_id, 0.0) for item_id in candidates]))
            shares += share
    return total / shares if shares else total
