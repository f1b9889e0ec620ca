"""What to show to whom: sources of candidates, rules, a strategy, and a list that is not monotonous.

Three sources: what goes with the user's newest hearts, what similar people have, what is hot (on
real data the part that must not be left out). Rules take out what the user has, was shown often
enough, waved away, or what is hidden or too old. What is left is ordered by the sources alone, or by
a strategy that also weighs chances of clicks and conversions; then spread over topics and authors.
A few places can be kept for items that hardly anybody was shown, since nobody can heart those.

Events are gathered and taken by the batch, at most ``SETTLE_S`` after they came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from heartcast.core.hashing import hash64
from heartcast.ranking.boards import HotBoards
from heartcast.ranking.catalogue import Catalogue
from heartcast.ranking.diversity import mmr
from heartcast.ranking.fusion import Fused, Influence, fuse
from heartcast.ranking.interactions import Floats, Ints
from heartcast.ranking.mix import Because, Mix, join
from heartcast.ranking.options import MAX_LIMIT, ForYouOptions
from heartcast.ranking.scaling import quantile
from heartcast.ranking.seen import Seen
from heartcast.ranking.strategy import Strategy
from heartcast.ranking.taste import Event, Neighbour, Suggestion, Taste

SETTLE_S = 0.05
"""Seconds from an event to when it counts: half of the tenth of a second that people call "at once"."""
AFFINITY = "affinity"
"""What strategies call the score of the sources."""

_CANDIDATES = 100
# Newest items of a category, or of all that are described, among which explorers are drawn.
_NEWCOMERS = 500
_MOST_WAITING = 5000

Measure = Callable[[str, Sequence[str], int], dict[str, Floats]]
"""``measure(user id, item ids, now_ms)``: measures by name, float64[len(item ids)] each, NaN for unknown."""
Exposures = Callable[[Sequence[str], int], Floats]
"""``exposures(item ids, now_ms)``: how often each was shown, faded."""


class Pick(msgspec.Struct, frozen=True, omit_defaults=True):
    """An item for somebody."""

    item_id: str
    score: float
    """0 to 1: 1 is the best of the candidates, over all sources or by the strategy."""
    rank: int
    """1 is the best."""
    because: str | None = None
    """Why, in words; only where it was asked for."""
    propensity: float | None = None
    """Chance of being drawn for its place, where the strategy draws: to be sent back with the
    exposure, so that strategies can be judged by each other's clicks."""


class Wish(NamedTuple):
    """What is asked for."""

    most: int
    """Items at most, 1 to 100."""
    now_ms: int
    category: str | None = None
    """Only items of this category; None: of any."""
    strategy: Strategy | None = None
    """How to order; None: by the sources alone."""
    seed: str = ""
    """The same seed draws the same order and the same explorers."""
    explain: bool = False


class ForYou:
    """What to show to whom.

    Args:
        taste: The model; this object feeds it.
        boards: What is hot.
        options: Shares of the sources, and rules.
        later: Calls a function once after so many seconds (``loop.call_later``).
        catalogue: What items are; None: nothing is known of any.
        seen: What people were shown; None: nobody remembers.
        measure: Measures that strategies may weigh beside the affinity.
        exposures: How often items were shown, for exploring; None: do not explore.
    """

    def __init__(
        self,
        taste: Taste,
        boards: HotBoards,
        options: ForYouOptions,
        later: Callable[[float, Callable[[], None]], object],
        *,
        catalogue: Catalogue | None = None,
        seen: Seen | None = None,
        measure: Measure = lambda user_id, item_ids, now_ms: {},
        exposures: Exposures | None = None,
    ) -> None:
        self._taste = taste
        self._boards = boards
        self._options = options
        self._later = later
        self._catalogue = Catalogue(1) if catalogue is None else catalogue
        self._seen = Seen(1, 1, 0.0) if seen is None else seen
        self._measure = measure
        self._exposures = exposures
        self._waiting: list[Event] = []
        self._is_settling = False

    def apply(self, events: Iterable[Event]) -> None:
        """Take hearts, in order; they count from the next ``settle``."""
        self._waiting.extend(events)
        if len(self._waiting) >= _MOST_WAITING:
            self.settle()
        elif not self._is_settling:
            self._is_settling = True
            self._later(SETTLE_S, self._settle_in_time)

    def settle(self) -> None:
        """Let what came count."""
        waiting, self._waiting = self._waiting, []
        self._taste.apply(waiting)
        self._taste.settle()

    def use(self, taste: Taste) -> None:
        """Go on with another model that has all that came so far; the present one is let go."""
        self._waiting = []
        self._taste = taste

    @property
    def taste(self) -> Taste:
        """The model in use."""
        return self._taste

    def recommend(self, user_id: str, wish: Wish) -> list[Pick]:
        """What a user would want now, best first; never what they have. Strangers get what is hot."""
        taste = self._taste
        mix, hidden = self._of_user(user_id, wish)
        return self._pick(user_id, mix, hidden, wish, lambda item_id: taste.because(user_id, item_id))

    def recommend_for(self, item_ids: Sequence[str], wish: Wish) -> list[Pick]:
        """The same for a visitor of whom only this session's items are known, oldest first."""
        taste = self._taste
        mix = Mix(taste.recommend_for(item_ids, _CANDIDATES), [])
        return self._pick("", mix, set(item_ids), wish, lambda item_id: taste.because_for(item_ids, item_id))

    def influence(self, user_id: str, wish: Wish) -> dict[str, Influence]:
        """How far each measure of a strategy decides the order of a user's candidates; empty without
        a strategy or candidates."""
        mix, hidden = self._of_user(user_id, wish)
        candidates, scores = self._candidates(mix, hidden, wish)
        if wish.strategy is None or not candidates:
            return {}
        return self._fuse(wish.strategy, user_id, candidates, scores, wish).influence

    def similar(self, item_id: str, count: int) -> list[Suggestion]:
        """Items that go with an item."""
        return self._taste.similar(item_id, count)

    def neighbours(self, user_id: str, count: int) -> list[Neighbour]:
        """People like a user."""
        return self._taste.neighbours(user_id, count)

    def _settle_in_time(self) -> None:
        self._is_settling = False
        self.settle()

    def _of_user(self, user_id: str, wish: Wish) -> tuple[Mix, set[str]]:
        """What speaks for which items, and the items not to show."""
        taste = self._taste
        allowed = None if wish.category is None else self._catalogue.members(wish.category)
        mix = Mix(
            taste.recommend(user_id, _CANDIDATES, allowed),
            taste.recommend_by_people(user_id, _CANDIDATES, allowed),
        )
        return mix, taste.has(user_id) | self._seen.hides(user_id, wish.now_ms)

    def _candidates(self, mix: Mix, hidden: set[str], wish: Wish) -> tuple[list[str], Floats]:
        """What may be shown, by id, and how much the sources say for it, 0 to 1."""
        options = self._options
        if options.hot and options.board in self._boards:
            mix.hot = dict(self._hottest(wish))
        sources = ((options.items, mix.goes_with), (options.people, mix.by_people), (options.hot, mix.hot))
        named = {item_id for share, scores in sources if share for item_id in scores}
        candidates = sorted(item_id for item_id in named - hidden if self._may_show(item_id, wish))
        return candidates, join(sources, candidates) if candidates else np.empty(0)

    def _pick(
        self, user_id: str, mix: Mix, hidden: set[str], wish: Wish, reasons: Callable[[str], Because]
    ) -> list[Pick]:
        candidates, scores = self._candidates(mix, hidden, wish)
        explorers = self._explorers(hidden.union(candidates), wish)
        picks: list[Pick] = []
        if candidates:
            picks = self._order(user_id, candidates, scores, wish)[: wish.most - len(explorers)]
        if wish.explain:
            picks = [
                msgspec.structs.replace(pick, because=mix.words(pick.item_id, reasons(pick.item_id)))
                for pick in picks
            ]
        return picks + [
            Pick(item_id, 0.0, rank, "few people have been shown it yet" if wish.explain else None)
            for rank, item_id in enumerate(explorers, len(picks) + 1)
        ]

    def _hottest(self, wish: Wish) -> list[tuple[str, float]]:
        board = self._options.board
        if wish.category is None:
            return self._boards.top(board, min(_CANDIDATES, MAX_LIMIT), wish.now_ms)
        return self._boards.among(board, self._catalogue.members(wish.category), _CANDIDATES, wish.now_ms)

    def _may_show(self, item_id: str, wish: Wish) -> bool:
        about = self._catalogue.find(item_id)
        if about.is_hidden or (wish.category is not None and wish.category not in about.categories):
            return False
        most_s = self._options.max_age_s
        return (
            most_s is None or about.published_ms is None or wish.now_ms - about.published_ms <= most_s * 1000
        )

    def _order(self, user_id: str, candidates: list[str], scores: Floats, wish: Wish) -> list[Pick]:
        chances: Floats | None = None
        order: Ints | None = None
        if wish.strategy is not None:
            fused = self._fuse(wish.strategy, user_id, candidates, scores, wish)
            scores = quantile(fused.scores)
            if wish.strategy.fuser.temperature:
                # What was drawn stays as it was drawn: else its propensity would be a lie.
                order, chances = fused.order[: wish.most], fused.propensities
        if order is None:
            order = mmr(scores, self._alike(candidates).__getitem__, wish.most, 1 - self._options.spread)
        return [
            Pick(
                item_id=candidates[index],
                score=round(float(scores[index]), 4),
                rank=rank,
                propensity=None if chances is None else float(chances[index]),
            )
            for rank, index in enumerate(order.tolist(), 1)
        ]

    def _fuse(
        self, strategy: Strategy, user_id: str, candidates: list[str], scores: Floats, wish: Wish
    ) -> Fused:
        values = {AFFINITY: scores, **self._measure(user_id, candidates, wish.now_ms)}
        return fuse(strategy, values, np.random.default_rng(hash64(wish.seed)))

    def _alike(self, candidates: list[str]) -> Floats:
        """How alike candidates are to a reader: by who hearts them, and by having one author."""
        alike = self._taste.alike(candidates)
        authors: dict[str, list[int]] = {}
        for place, item_id in enumerate(candidates):
            author = self._catalogue.find(item_id).author
            if author is not None:
                authors.setdefault(author, []).append(place)
        for places in authors.values():
            if len(places) > 1:
                mates = np.ix_(places, places)
                alike[mates] = np.maximum(alike[mates], self._options.same_author)
        return alike

    def _explorers(self, known: set[str], wish: Wish) -> list[str]:
        """Items that hardly anybody was shown: the newest that are described, drawn by the seed."""
        places = int(self._options.explore * wish.most)
        if not places or self._exposures is None:
            return []
        newest = self._catalogue.newest(self._catalogue.members(wish.category), _NEWCOMERS)
        fresh = [item_id for item_id in newest if item_id not in known and self._may_show(item_id, wish)]
        if not fresh:
            return []
        shown = self._exposures(fresh, wish.now_ms)
        fresh = [
            item for item, times in zip(fresh, shown, strict=True) if times < self._options.explore_until
        ]
        dice = np.random.default_rng(hash64(wish.seed))
        return [fresh[place] for place in dice.permutation(len(fresh))[:places].tolist()]
