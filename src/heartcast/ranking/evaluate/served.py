"""The recommender that requests are answered with, under the same questions as the rest.

The other recommenders are formulas on matrices. This one is the running code: the online
model, the hot boards and their mix, asked for a list like any client asks. What is not on
the list ties for last.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from heartcast.ranking.boards import HotBoards
from heartcast.ranking.for_you import ForYou, Wish
from heartcast.ranking.interactions import Floats, Interactions, Ints
from heartcast.ranking.options import MAX_LIMIT, ForYouOptions, HotOptions, TasteOptions
from heartcast.ranking.recommenders import Model
from heartcast.ranking.taste import Taste


@dataclass(frozen=True, kw_only=True, eq=False)
class Served:
    """What ``GET /api/v1/recommend/{user}`` answers."""

    taste: TasteOptions = field(default_factory=TasteOptions)
    mix: ForYouOptions = field(default_factory=ForYouOptions)

    def fit(self, train: Interactions) -> Model:
        now_ms = int(train.times_s.max(initial=0)) * 1000
        events = zip(train.users.tolist(), train.items.tolist(), train.times_s.tolist(), strict=True)
        hearts = [(str(user), str(item), time_s * 1000, 1.0) for user, item, time_s in events]
        taste, boards = Taste(self.taste), HotBoards(HotOptions(), now_ms)
        taste.load(hearts)
        boards.rebuild((item, 1.0, at_ms) for _, item, at_ms, _ in hearts)
        for_you = ForYou(taste, boards, self.mix, lambda _delay_s, _call: None)

        def scores(users: Ints) -> Floats:
            found = np.zeros((len(users), train.n_items))
            for line, user in enumerate(users.tolist()):
                for pick in for_you.recommend(str(user), Wish(MAX_LIMIT, now_ms)):
                    found[line, int(pick.item_id)] = 1 / pick.rank
            return found

        return scores
