"""Ranking in process: boards, the online model, fusion. ``python -m benchmarks ranking``.

The interactions are made up with the shape of ML-1M (6,018 users, 3,018 items, 933,517
distinct pairs, popular items taken by most); the real pairs give the same times and may
not be redistributed. Times are wall time of a single thread: run it on a quiet machine. Where `implicit`
and `irspack` are installed, they find the same items' partners in the same run.
"""

from __future__ import annotations

import asyncio
import platform
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from scipy import sparse

from heartcast.ranking.boards import HotBoards
from heartcast.ranking.diversity import mmr
from heartcast.ranking.feedback import Feedback, Kind
from heartcast.ranking.for_you import ForYou, Wish
from heartcast.ranking.fusion import fuse
from heartcast.ranking.nearness import Nearness
from heartcast.ranking.options import ForYouOptions, HotOptions, TasteOptions
from heartcast.ranking.pareto import fronts
from heartcast.ranking.rates import Rates
from heartcast.ranking.scaling import quantile
from heartcast.ranking.strategy import Component, Fuser, Strategy
from heartcast.ranking.taste import Taste
from heartcast.ranking.together import Together

_NOW_MS = 1_700_000_000_000
_USERS, _ITEMS, _PAIRS = 6018, 3018, 933_517


def run() -> dict[str, Any]:
    """All figures; about a minute."""
    return {"hot": _hot(), "taste": _taste(), "fusion": _fusion(), "rates": _rates()}


def _hot() -> dict[str, Any]:
    dice = np.random.default_rng(1)
    places = np.minimum(dice.zipf(1.2, 1_000_000) - 1, 49_999).tolist()
    events = [(f"post_{place}", 1.0, _NOW_MS + n) for n, place in enumerate(places)]
    single, batch = HotBoards(HotOptions(), _NOW_MS), HotBoards(HotOptions(), _NOW_MS)
    one_by_one = _seconds(lambda: _each(single.apply, [[event] for event in events[:200_000]]))
    in_batches = _seconds(
        lambda: _each(batch.apply, [events[n : n + 8192] for n in range(0, len(events), 8192)])
    )
    tops = _latencies(lambda n: batch.top("day", 100, _NOW_MS + n), 5000)

    def moving(n: int) -> None:
        batch.apply((events[n],))
        batch.top("day", 100, _NOW_MS)

    return {
        "boards": len(batch.names),
        "updates_per_s_one_by_one": round(200_000 / one_by_one),
        "updates_per_s_batches_of_8192": round(1_000_000 / in_batches),
        "top_100_us": tops,
        "update_and_top_100_us": _latencies(moving, 5000),
    }


def _taste() -> dict[str, Any]:
    pairs = _pairs()
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    taste = Taste(TasteOptions())
    known = [(*pair, 1.0) for pair in pairs]
    load_s = _seconds(lambda: taste.load(known))
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    rebuild_s = min(_seconds(taste.rebuild) for _ in range(3))
    fresh = Taste(TasteOptions())
    events = [(user, item, 1.0) for user, item, _ in pairs]
    one_by_one = _seconds(lambda: _gathered(fresh, events[:200_000]))
    batched = Taste(TasteOptions())
    in_batches = _seconds(lambda: _settled(batched, [events[n : n + 1000] for n in range(0, 400_000, 1000)]))
    boards = HotBoards(HotOptions(), _NOW_MS)
    boards.rebuild((item, 1.0, _NOW_MS) for _, item, _ in pairs[:100_000])
    for_you = ForYou(taste, boards, ForYouOptions(), lambda _delay_s, _call: None)
    return {
        "interactions": len(pairs),
        "load_per_s": round(len(pairs) / load_s),
        "item_item_every_pair_rebuild_s": round(rebuild_s, 2),
        "item_item_top_200_rebuild_s": round(_top_200_s(pairs), 2),
        "item_item_top_200_of_others_s": _others(pairs),
        "events_per_s_one_by_one": round(200_000 / one_by_one),
        "events_per_s_batches_of_1000": round(400_000 / in_batches),
        "item_knn_us": _latencies(lambda n: taste.recommend(f"u{n}", 20), 3000),
        "user_knn_us": _latencies(lambda n: taste.recommend_by_people(f"u{n}", 20), 1000),
        "similar_us": _latencies(lambda n: taste.similar(f"i{n}", 20), 3000),
        "for_you_us": _latencies(lambda n: for_you.recommend(f"u{n}", Wish(20, _NOW_MS)), 500),
        "for_you_explained_us": _latencies(
            lambda n: for_you.recommend(f"u{n}", Wish(20, _NOW_MS, explain=True)), 500
        ),
        "loop_during_rebuild_ms": asyncio.run(_late_during_rebuild(known)),
        "mb_grown_by_loading": round(grown_kb / (1024 if platform.system() == "Linux" else 1024**2)),
    }


def _top_200_s(pairs: list[tuple[str, str, int]]) -> float:
    """What a catalogue that is too large for every pair costs, on the same pairs: seconds."""
    newest: dict[int, list[int]] = {}
    for user, item, _ in pairs:
        newest.setdefault(int(user[1:]), []).append(int(item[1:]))
    rows = np.full((_USERS, TasteOptions().history), -1, dtype=np.int32)
    for number, items in newest.items():
        kept = items[-rows.shape[1] :]
        rows[number, rows.shape[1] - len(kept) :] = kept
    options = TasteOptions()
    together = Together(options.partners, options.shrink, Nearness(options.reach, options.half_gap))
    return _seconds(lambda: together.rebuild(rows, _ITEMS))


def _others(pairs: list[tuple[str, str, int]]) -> dict[str, float]:
    """The same pairs, the same 200 partners, by other libraries on one thread; empty without them."""
    codes = np.array([(int(user[1:]), int(item[1:])) for user, item, _ in pairs])
    hearts = sparse.csr_matrix((np.ones(len(codes)), (codes[:, 0], codes[:, 1])), shape=(_USERS, _ITEMS))
    took: dict[str, float] = {}
    with suppress(ImportError):
        from implicit.nearest_neighbours import CosineRecommender

        model = CosineRecommender(K=200, num_threads=1)
        took["implicit"] = round(min(_seconds(lambda: model.fit(hearts, False)) for _ in range(3)), 2)
    with suppress(ImportError):
        from irspack import CosineKNNRecommender

        rival = CosineKNNRecommender(hearts, shrinkage=5, top_k=200, n_threads=1)
        took["irspack"] = round(min(_seconds(rival.learn) for _ in range(3)), 2)
    return took


def _fusion() -> dict[str, Any]:
    dice = np.random.default_rng(3)
    n = 500
    strategy = Strategy(
        ctr=Component(weight=0.40),
        cvr=Component(weight=0.35),
        watch=Component(weight=0.25),
        fuser=Fuser(method="pareto_rank", params={"temperature": 0.2}),
    )
    values = {"ctr": dice.beta(2, 38, n), "cvr": dice.beta(1.5, 48, n), "watch": dice.lognormal(2.7, 1, n)}
    alike = dice.random((n, n))
    table = np.column_stack(list(values.values()))

    def pipeline(_: int) -> None:
        fused = fuse(strategy, values, dice)
        mmr(quantile(fused.scores), alike.__getitem__, 20)

    return {
        "candidates": n,
        "pareto_3_measures_us": _latencies(lambda _: fronts(table), 2000),
        "fuse_pareto_mmr_20_us": _latencies(pipeline, 1000),
    }


def _rates() -> dict[str, Any]:
    dice = np.random.default_rng(4)
    kinds = [Kind.EXPOSURE, Kind.EXPOSURE, Kind.EXPOSURE, Kind.CLICK, Kind.WATCH]
    events = [
        Feedback(str(n), kinds[n % 5], "u", f"i{item}", _NOW_MS + n, 10.0)
        for n, item in enumerate(dice.integers(0, _ITEMS, 200_000).tolist())
    ]
    rates = Rates(86_400.0, 100_000, _NOW_MS)
    took = _seconds(lambda: _each(rates.apply, [events[n : n + 1000] for n in range(0, len(events), 1000)]))
    candidates = [f"i{n}" for n in range(300)]
    return {
        "feedback_per_s_batches_of_1000": round(len(events) / took),
        "measures_of_300_us": _latencies(lambda n: rates.measures(candidates, _NOW_MS), 1000),
        "learn_us": _latencies(lambda n: rates.learn(_NOW_MS), 200),
    }


def _pairs() -> list[tuple[str, str, int]]:
    dice = np.random.default_rng(2)
    popularity = 1 / (np.arange(_ITEMS) + 30) ** 0.9
    chosen: set[int] = set()
    while len(chosen) < _PAIRS:
        users = dice.zipf(1.35, 400_000) % _USERS
        users = np.where(dice.random(400_000) < 0.7, dice.integers(0, _USERS, 400_000), users)
        items = dice.choice(_ITEMS, 400_000, p=popularity / popularity.sum())
        chosen.update((users * _ITEMS + items).tolist())
    codes = dice.permutation(np.array(sorted(chosen)))[:_PAIRS]
    return [(f"u{code // _ITEMS}", f"i{code % _ITEMS}", _NOW_MS + n) for n, code in enumerate(codes.tolist())]


async def _late_during_rebuild(known: list[Any]) -> dict[str, float]:
    """How late a loop runs that is to wake every millisecond while a model is filled beside it."""
    taste = Taste(TasteOptions())
    parts = [taste.number(known[n : n + 5000]) for n in range(0, len(known), 5000)]
    filling = asyncio.ensure_future(asyncio.to_thread(taste.load_numbered, parts))
    late_s: list[float] = []
    while not filling.done():
        start_s = time.perf_counter()
        await asyncio.sleep(0.001)
        late_s.append(time.perf_counter() - start_s - 0.001)
    await filling
    late_ms = np.sort(late_s) * 1000
    return {
        "p50": round(float(late_ms[len(late_ms) // 2]), 2),
        "p99": round(float(late_ms[int(len(late_ms) * 0.99)]), 2),
        "max": round(float(late_ms[-1]), 2),
    }


def _settled(taste: Taste, batches: list[Any]) -> None:
    """Take every batch, counting what goes together after each, as every 50 ms in the server."""
    for batch in batches:
        taste.apply(batch)
        taste.settle()


def _gathered(taste: Taste, events: list[Any]) -> None:
    """Hand over every event by itself, settling after as many as come in 50 ms at 20,000 a second."""
    for_you = ForYou(taste, HotBoards(HotOptions(), _NOW_MS), ForYouOptions(), lambda _delay_s, _call: None)
    for n, event in enumerate(events, 1):
        for_you.apply((event,))
        if n % 1000 == 0:
            for_you.settle()


def _each(work: Callable[[Any], None], batches: list[Any]) -> None:
    for batch in batches:
        work(batch)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _latencies(work: Callable[[int], object], count: int) -> dict[str, float]:
    """Microseconds: median and 99th percentile, after a warm-up."""
    for n in range(min(50, count)):
        work(n)
    took = np.sort([_seconds(lambda n=n: work(n)) for n in range(count)])  # type: ignore[misc]
    return {"p50": round(took[count // 2] * 1e6, 1), "p99": round(took[int(count * 0.99)] * 1e6, 1)}


if __name__ == "__main__":
    print(run())
