from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from math import inf, isclose, nan
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.ranking import heat
from heartcast.ranking.boards import HotBoards
from heartcast.ranking.options import HotOptions

NOW_MS = 1_700_000_000_000
HALF_LIVES_S = {"fast": 60.0, "slow": 3600.0}


def make_boards(**options) -> HotBoards:
    return HotBoards(HotOptions(boards=HALF_LIVES_S, **options), NOW_MS)


def brute_force(events, half_life_s, now_ms):
    """Every item's score from all events, in exact arithmetic where it cancels."""
    scores, counts = {}, {}
    for item, weight, at_ms in events:
        worth = Fraction(weight) * Fraction(2.0 ** ((at_ms - now_ms) / (half_life_s * 1000)))
        scores[item] = scores.get(item, Fraction(0)) + worth
        counts[item] = counts.get(item, 0) + (1 if weight > 0 else -1)
    return {item: float(score) for item, score in scores.items() if counts[item]}


def assert_same_as_brute_force(boards, events, now_ms, rel=1e-9):
    for board, half_life_s in HALF_LIVES_S.items():
        expected = brute_force(events, half_life_s, now_ms)
        found = boards.top(board, 100, now_ms)
        assert len(found) == min(100, len(expected))
        for item, score in found:
            assert isclose(score, expected[item], rel_tol=rel)
        # In order by the exact scores, but for pairs that differ by rounding only.
        exact = [expected[item] for item, _ in found]
        assert all(a >= b * (1 - rel) for a, b in pairwise(exact))
        # And nobody outside the list belongs inside it.
        outside = expected.keys() - {item for item, _ in found}
        assert all(expected[item] <= exact[-1] * (1 + rel) for item in outside)


hearts = st.tuples(
    st.sampled_from([f"post_{n}" for n in range(40)]),
    st.sampled_from([1.0, 1.0, 0.5, 3.0]),
    st.integers(NOW_MS - 600_000, NOW_MS),
)


@given(events=st.lists(hearts, max_size=300), dice=st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_order_and_scores_equal_a_recomputation_whatever_comes_and_goes(events, dice):
    boards = make_boards()
    done, added = [], []
    for event in events:
        if added and dice.random() < 0.3:
            item, weight, at_ms = added.pop(dice.randrange(len(added)))
            step = (item, -weight, at_ms)
        else:
            added.append(event)
            step = event
        done.append(step)
        boards.apply([step])
    assert_same_as_brute_force(boards, done, NOW_MS + 1234, rel=1e-6)
    assert boards.items == len({item for item, _, _ in added})


@pytest.mark.parametrize("batch", [1, 7, 600, 5000])
def test_batches_of_any_size_give_the_same_board(batch):
    dice = Random(batch)
    events = [
        (f"post_{int(dice.expovariate(0.01))}", 1.0, NOW_MS + dice.randrange(-3_600_000, 0))
        for _ in range(5000)
    ]
    boards = make_boards()
    for start in range(0, len(events), batch):
        boards.apply(events[start : start + batch])
        boards.top("fast", 10, NOW_MS)
    assert_same_as_brute_force(boards, events, NOW_MS)


def test_a_day_of_traffic_keeps_the_exact_order():
    dice = np.random.default_rng(5)
    items = np.minimum(dice.zipf(1.15, 200_000) - 1, 20_000)
    times_ms = NOW_MS - dice.integers(0, 86_400_000, 200_000)
    events = [
        (f"post_{item}", 1.0, at_ms) for item, at_ms in zip(items.tolist(), times_ms.tolist(), strict=True)
    ]
    boards = make_boards()
    for start in range(0, len(events), 4096):
        boards.apply(events[start : start + 4096])
    for board, half_life_s in HALF_LIVES_S.items():
        scores = np.bincount(items, weights=np.exp2((times_ms - NOW_MS) / (half_life_s * 1000)))
        best = np.argsort(-scores, kind="stable")[:100]
        found = boards.top(board, 100, NOW_MS)
        assert [item for item, _ in found] == [f"post_{item}" for item in best]
        assert np.allclose([score for _, score in found], scores[best], rtol=1e-12)


def test_batches_are_the_same_without_numpy(monkeypatch):
    events = [(f"post_{n % 97}", 1.0 + n % 3, NOW_MS - n * 31) for n in range(3000)]
    with_numpy, without = make_boards(), make_boards()
    with_numpy.apply(events)
    monkeypatch.setattr(heat, "_BULK_FROM", sys.maxsize)
    without.apply(events)
    for (item, score), (other, other_score) in zip(
        with_numpy.top("slow", 97, NOW_MS), without.top("slow", 97, NOW_MS), strict=True
    ):
        assert item == other
        assert isclose(score, other_score, rel_tol=1e-12)


def test_order_stays_while_time_passes_and_scores_halve():
    boards = make_boards()
    boards.apply([("a", 1.0, NOW_MS), ("b", 1.0, NOW_MS - 1000)])
    assert boards.top("fast", 2, NOW_MS)[0] == ("a", 1.0)
    later = boards.top("fast", 2, NOW_MS + 60_000)
    assert [item for item, _ in later] == ["a", "b"]
    assert later[0][1] == 0.5


def test_short_and_long_half_lives_disagree_as_they_should():
    boards = make_boards()
    boards.apply([("classic", 1.0, NOW_MS - 1_200_000)] * 5 + [("fresh", 1.0, NOW_MS)])
    assert boards.top("fast", 1, NOW_MS)[0][0] == "fresh"
    assert boards.top("slow", 1, NOW_MS)[0][0] == "classic"


def test_the_last_unheart_removes_the_item_without_residue():
    boards = make_boards()
    boards.apply([("a", 1.0, NOW_MS - 77), ("a", 1.0, NOW_MS - 12_345), ("b", 1.0, NOW_MS)])
    boards.apply([("a", -1.0, NOW_MS - 77)])
    boards.apply([("a", -1.0, NOW_MS - 12_345)])
    assert boards.top("fast", 10, NOW_MS) == [("b", 1.0)]
    assert boards.items == 1


def test_an_unheart_of_something_never_counted_changes_nothing():
    boards = make_boards()
    boards.apply([("a", 1.0, NOW_MS)])
    boards.apply([("a", -1.0, NOW_MS - 5000), ("ghost", -1.0, NOW_MS)])
    assert boards.top("fast", 10, NOW_MS) == [("a", 1.0)]


def test_an_unheart_that_uncovers_an_ancient_heart_asks_for_a_recount():
    boards = make_boards()
    ancient_ms = NOW_MS - 100 * 60_000
    boards.apply([("a", 1.0, ancient_ms), ("a", 1.0, NOW_MS)])
    boards.apply([("a", -1.0, NOW_MS)])
    assert boards.doubtful == {"a"}
    boards.recount("a", [(1.0, ancient_ms)])
    assert boards.doubtful == set()
    assert isclose(boards.top("fast", 1, NOW_MS)[0][1], 2.0**-100, rel_tol=1e-12)


def test_equal_scores_are_ordered_by_item_id():
    boards = make_boards()
    names = [f"post_{n:04}" for n in range(2000)]
    shuffled = names[:]
    Random(3).shuffle(shuffled)
    boards.apply([(name, 1.0, NOW_MS) for name in shuffled[:1500]])
    for name in shuffled[1500:]:
        boards.apply([(name, 1.0, NOW_MS)])
    assert [item for item, _ in boards.top("slow", 100, NOW_MS)] == names[:100]


def test_the_list_stays_full_while_leaders_lose_their_hearts():
    boards = make_boards()
    events = [(f"post_{n:04}", 1.0, NOW_MS - n) for n in range(1000)]
    boards.apply(events)
    for gone in range(700):
        item, _, at_ms = events[gone]
        boards.apply([(item, -1.0, at_ms)])
        top = boards.top("fast", 100, NOW_MS)
        assert [item for item, _ in top] == [item for item, _, _ in events[gone + 1 : gone + 101]]


def test_the_coldest_make_room_and_the_leaders_stay():
    boards = make_boards(max_items=1000)
    hot = [(f"hot_{n:03}", 5.0, NOW_MS) for n in range(100)]
    boards.apply(hot)
    for n in range(20_000):
        boards.apply([(f"cold_{n}", 1.0, NOW_MS - 500_000 + n)])
    assert boards.items <= 1000
    assert boards.evicted >= 19_000
    assert [item for item, _ in boards.top("fast", 100, NOW_MS)] == [item for item, _, _ in hot]


@pytest.mark.parametrize("weight", [0.0, nan, inf, -inf, 1e300])
def test_a_weight_that_is_no_weight_is_refused_and_counted(weight):
    boards = make_boards()
    boards.apply([("a", weight, NOW_MS)])
    boards.apply([("b", weight, NOW_MS), ("c", 1.0, NOW_MS)])
    assert boards.refused == 2
    assert boards.top("fast", 10, NOW_MS) == [("c", 1.0)]


@pytest.mark.parametrize("at_ms", [-1, 10**15, 10**30])
def test_a_time_that_is_no_time_is_refused(at_ms):
    boards = make_boards()
    boards.apply([("a", 1.0, at_ms)])
    assert boards.refused == 1
    assert boards.items == 0


def test_the_latest_possible_time_does_not_break_the_board():
    boards = make_boards()
    boards.apply([("a", 1.0, heat.LATEST_MS), ("b", 1.0, 0)])
    assert [item for item, _ in boards.top("fast", 10, NOW_MS)] == ["a", "b"]


def test_a_rebuild_equals_having_seen_everything():
    events = [(f"post_{n % 50}", 1.0, NOW_MS - n * 997) for n in range(2000)]
    boards = make_boards()
    boards.apply([("leftover", 1.0, NOW_MS)])
    boards.mark_stale()
    assert boards.is_stale
    boards.rebuild(iter(events))
    assert not boards.is_stale
    assert_same_as_brute_force(boards, events, NOW_MS)


def test_what_happens_during_a_rebuild_is_not_lost():
    boards = make_boards()
    boards.apply([("a", 1.0, NOW_MS - 9), ("b", 1.0, NOW_MS)])
    boards.begin_rebuild()
    boards.apply([("a", -1.0, NOW_MS - 9), ("c", 1.0, NOW_MS)])
    boards.feed([("b", 1.0, NOW_MS)])
    boards.feed([("a", 1.0, NOW_MS - 9)])
    assert {item for item, _ in boards.top("fast", 10, NOW_MS)} == {"b", "c"}
    assert boards.finish_rebuild()
    assert {item for item, _ in boards.top("fast", 10, NOW_MS)} == {"b", "c"}


def test_a_rebuild_that_missed_events_does_not_count():
    boards = make_boards()
    boards.begin_rebuild()
    boards.mark_stale()
    boards.feed([("a", 1.0, NOW_MS)])
    assert not boards.finish_rebuild()
    assert boards.is_stale
    assert boards.items == 0


def test_an_unknown_board_is_a_key_error():
    with pytest.raises(KeyError):
        make_boards().top("nowhere", 10, NOW_MS)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"boards": {}}, "boards: must be 1 to 16"),
        ({"boards": {"a b": 5.0}}, "boards.a b: the name"),
        ({"boards": {"a": 0.0}}, "boards.a: must be 1 to"),
        ({"boards": {"a": nan}}, "boards.a: must be 1 to"),
        ({"boards": {"a": "fortnight"}}, "boards.a: must be seconds or one of"),
        ({"max_items": 10}, "max_items: must be"),
        ({"publish_interval_s": 0.0}, "publish_interval_s: must be"),
        ({"refresh_interval_s": 0.0}, "refresh_interval_s: must be"),
    ],
)
def test_options_that_cannot_work_say_which_and_why(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        HotOptions(**options)


def test_the_boards_work_where_numpy_is_not_installed():
    program = (
        "import sys; sys.modules['numpy'] = None\n"
        "from heartcast.ranking.boards import HotBoards\n"
        "from heartcast.ranking.options import HotOptions\n"
        "import heartcast.ranking.live\n"
        f"boards = HotBoards(HotOptions(), {NOW_MS})\n"
        f"boards.apply([('a', 1.0, {NOW_MS})] * 2000)\n"
        f"print(boards.top('hour', 1, {NOW_MS})[0][0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "a\n"
