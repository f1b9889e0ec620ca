"""What is compared with what, and with which choices.

The rows with published figures repeat a comparison of the literature on its own split, so
that everything beside them can be trusted to be measured alike. Our rows were
chosen by ``choose_*`` on training and validation events alone, judged at five origins
each; ``heartcast ranking eval --choose`` does it again. Half-lives of seconds to an hour
are not in the grids: on this data, entered in sittings, a minute comes out best and would
be worst in life (see the row with 60 s in the tables by time).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from heartcast.ranking.evaluate.bootstrap import Interval, difference, interval
from heartcast.ranking.evaluate.choice import Judged, choose, judge, origins
from heartcast.ranking.evaluate.metrics import Report, evaluate
from heartcast.ranking.evaluate.served import Served
from heartcast.ranking.evaluate.splits import Split, global_time
from heartcast.ranking.interactions import NEVER, Fade, Interactions
from heartcast.ranking.recommenders import (
    Blend,
    Ease,
    ItemKnn,
    Model,
    Nearby,
    Popular,
    ProfileCosine,
    Recommender,
    UserKnn,
)

DAY_S = 86_400.0

USER = UserKnn(k=100, shrink=10, fade=Fade(10, "events"), confidence=0.5, activity=0.5)
ITEM = ItemKnn(k=500, shrink=5, fade=Fade(2, "events"), confidence=0)
EASE = Ease(penalty=800, fade=Fade(3, "events"), confidence=0)
NEARBY = Nearby(reach=20, half_gap=5, shrink=5, fade=Fade(3, "events"))
BLEND = Blend([(0.6, NEARBY), (0.2, ITEM), (0.2, EASE)])

MOST_FOR_EASE = 5_000
"""Items up to which EASE's matrix is inverted: 200 MB, some ten seconds."""
METRICS = ("R@10", "nDCG@10", "R@20", "nDCG@20")


class Entry(NamedTuple):
    """A row of a table: what, and what was published for it."""

    name: str
    recommender: Recommender
    published: tuple[float, ...] = ()
    """The published ``METRICS``; empty where there are none."""


class Line(NamedTuple):
    """A row with its figures."""

    entry: Entry
    report: Report
    interval: Interval
    """Of nDCG@10, over users."""
    gain: Interval | None
    """nDCG@10 above the table's base line, paired by user; None for the base line itself."""


PUBLISHED = (
    Entry("popularity", Popular()),
    Entry("article: profile cosine, k=50", ProfileCosine(k=50)),
    Entry("article: profile cosine, k=335", ProfileCosine(k=335)),
    Entry(
        "UserKNN (335, 645), by column",
        UserKnn(k=335, shrink=645, confidence=0, by_column=True),
        (0.1092, 0.0559, 0.1718, 0.0717),
    ),
    Entry(
        "UserKNN (316, 5), by column",
        UserKnn(k=316, shrink=5, confidence=0, by_column=True),
        (0.1156, 0.0612, 0.1835, 0.0783),
    ),
    Entry("ItemKNN (227, 5), by column", ItemKnn(confidence=0), (0.1220, 0.0647, 0.1845, 0.0803)),
    Entry("UserKNN (100, 20), by row", UserKnn(k=100, shrink=20, confidence=0)),
    Entry("EASE, penalty 100", Ease(penalty=100, confidence=0)),
    Entry("ours: weighted user-kNN", USER),
    Entry("ours: item-kNN, fading history", ITEM),
    Entry("ours: EASE, fading history", EASE),
    Entry("ours: item-kNN by nearness", NEARBY),
    Entry("ours: blend", BLEND),
    Entry("ours: as served online", Served()),
)

BEST_PUBLISHED = {"WMF (published, not run)": (0.1368, 0.0700, 0.1983, 0.0855)}
"""The best row of the published table by nDCG@10."""


def compare(
    entries: Sequence[Entry], split: Split, base: str, report: Callable[[str], None] = lambda _: None
) -> list[Line]:
    """Evaluate every entry on a split.

    Args:
        entries: What to compare; one is called ``base``.
        split: What to see and what to ask for.
        base: Name of the entry that gains are counted from.
        report: Told each entry's name before its turn, for a progress line.
    """
    reports = {}
    for entry in entries:
        report(entry.name)
        reports[entry.name] = evaluate(entry.recommender, split)
    ground = reports[base].per_user["nDCG@10"]
    lines = []
    for entry in entries:
        found = reports[entry.name]
        gained = None if entry.name == base else difference(found.per_user["nDCG@10"], ground)
        lines.append(Line(entry, found, interval(found.per_user["nDCG@10"]), gained))
    return lines


def choose_user(known: Interactions) -> list[Judged]:
    """Weighted user-kNN by validation, best first."""
    fades = [Fade(5, "events"), Fade(10, "events"), Fade(20, "events"), Fade(7 * DAY_S)]
    grid = product((50, 100, 200), (1.0, 10.0), fades, (0.0, 0.5, 1.0), (0.0, 0.5))
    return choose(
        (UserKnn(k=k, shrink=s, fade=f, confidence=c, activity=a) for k, s, f, c, a in grid), origins(known)
    )


def choose_item(known: Interactions) -> list[Judged]:
    """Item-kNN by validation, best first."""
    fades = [*(Fade(n, "events") for n in (2, 3, 5)), Fade(7 * DAY_S)]
    grid = product((100, 227, 500), (5.0, 20.0), fades, (0.0, 1.0))
    return choose((ItemKnn(k=k, shrink=s, fade=f, confidence=c) for k, s, f, c in grid), origins(known))


def choose_ease(known: Interactions) -> list[Judged]:
    """EASE by validation, best first."""
    fades = [Fade(3, "events"), Fade(5, "events")]
    grid = product((200.0, 400.0, 800.0, 1600.0), fades, (0.0, 1.0))
    return choose((Ease(penalty=p, fade=f, confidence=c) for p, f, c in grid), origins(known))


def choose_nearby(known: Interactions) -> list[Judged]:
    """Item-kNN by nearness in histories, by validation, best first."""
    grid = product(((20, 5.0), (20, 10.0), (30, 20.0)), (5.0, 20.0), (2.0, 3.0))
    return choose(
        (Nearby(reach=r, half_gap=g, shrink=s, fade=Fade(f, "events")) for (r, g), s, f in grid),
        origins(known),
    )


def choose_blend(known: Interactions, parts: Sequence[Recommender]) -> list[tuple[float, tuple[float, ...]]]:
    """Shares of a blend by validation, best first, as (nDCG@10, share of each part).

    All shares in fifths that add up to one are tried.
    """
    splits = origins(known)
    remembered = [_Remembered(part, splits) for part in parts]
    shares = [some for some in product(range(6), repeat=len(parts)) if sum(some) == 5]
    judged = [
        judge(Blend([(n / 5, part) for n, part in zip(some, remembered, strict=True) if n]), splits)
        for some in shares
    ]
    found = [(one.score, tuple(n / 5 for n in some)) for one, some in zip(judged, shares, strict=True)]
    return sorted(found, reverse=True)


class _Remembered:
    """A recommender fitted once per split, however many blends it takes part in."""

    def __init__(self, recommender: Recommender, splits: Sequence[Split]) -> None:
        self._scores = {
            id(split.train): recommender.fit(split.train)(np.arange(split.train.n_users)) for split in splits
        }

    def fit(self, train: Interactions) -> Model:
        scores = self._scores[id(train)]
        return lambda users: scores[users]


def own_entries(events: Interactions, has_times: bool) -> list[Entry]:
    """The line-up for somebody's own events, with our choices as they are; what looks at times
    only where there are any, and EASE where the catalogue is small enough for it."""
    entries = [
        Entry("popularity", Popular()),
        Entry("article: profile cosine, k=50", ProfileCosine(k=50)),
        Entry("UserKNN (100, 20)", UserKnn(k=100, shrink=20, confidence=0)),
        Entry("ItemKNN (227, 5)", ItemKnn(confidence=0)),
    ]
    if has_times:
        entries += [
            Entry("popularity, fading", Popular(half_life_s=7 * DAY_S)),
            Entry("ours: weighted user-kNN", USER),
            Entry("ours: item-kNN by nearness", NEARBY),
        ]
    if events.n_items <= MOST_FOR_EASE:
        entries += [Entry("ours: EASE", EASE if has_times else Ease(penalty=EASE.penalty, confidence=0))]
        entries += [Entry("ours: blend", BLEND)] if has_times else []
    return [*entries, Entry("ours: as served online", Served())]


def global_entries(events: Interactions, quantile: float) -> list[Entry]:
    """The line-up for a split by time, all choices made before the split.

    Half-lives and shares are chosen on an inner split: of what came before the split, the
    last part is asked for knowing the rest.
    """
    before = global_time(events, quantile).train
    inner = [global_time(before, inside) for inside in (0.7, 0.8)]
    half_lives_s = [3600.0, DAY_S, 7 * DAY_S, 30 * DAY_S]
    fades = [*(Fade(n, "events") for n in (5, 10, 20)), *(Fade(s) for s in half_lives_s), NEVER]
    hot = choose([Popular(half_life_s=h) for h in half_lives_s], inner)[0].recommender
    user = choose([UserKnn(fade=fade, confidence=c) for fade in fades for c in (0.0, 1.0)], inner)[
        0
    ].recommender
    item = choose([ItemKnn(fade=fade, confidence=c) for fade in fades for c in (0.0, 1.0)], inner)[
        0
    ].recommender
    near = choose([Nearby(fade=fade) for fade in fades], inner)[0].recommender
    shares = [
        (0.2, 0.2, 0.6),
        (0.2, 0.4, 0.4),
        (0.4, 0.2, 0.4),
        (0.3, 0.5, 0.2),
        (0.5, 0.3, 0.2),
        (0.1, 0.1, 0.8),
    ]
    blend = choose([Blend([(i, item), (u, user), (h, hot)]) for i, u, h in shares], inner)[0].recommender
    return [
        Entry("popularity", Popular()),
        Entry("popularity, fading", hot),
        Entry("article: profile cosine, k=50", ProfileCosine(k=50)),
        Entry("user-kNN", UserKnn(confidence=0)),
        Entry("user-kNN, fading and weighted", user),
        Entry("item-kNN", ItemKnn(confidence=0)),
        Entry("item-kNN, fading history", item),
        Entry("item-kNN by nearness", near),
        Entry("user-kNN, half-life 60 s", UserKnn(confidence=0, fade=Fade(60))),
        Entry("blend with what is hot", blend),
        Entry("as served online", Served()),
    ]
