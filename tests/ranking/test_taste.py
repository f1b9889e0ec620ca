from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.ranking import taste as taste_module
from heartcast.ranking.best import best
from heartcast.ranking.grid import MOST_ITEMS
from heartcast.ranking.options import TasteOptions
from heartcast.ranking.taste import Taste

WIDE = TasteOptions(history=50, looked_at=20, partners=30, fans=100)


def crowd(*events, options=WIDE):
    taste = Taste(options)
    taste.apply([(user, item, 1.0) for user, item in events])
    taste.settle()
    return taste


def jazz_and_metal():
    return [
        *((f"j{n}", f"jazz_{item}") for n in range(8) for item in range(5)),
        *((f"m{n}", f"metal_{item}") for n in range(8) for item in range(5)),
    ]


def ids(suggestions):
    return [suggestion.item_id for suggestion in suggestions]


def test_people_get_what_goes_with_what_they_hearted():
    taste = crowd(*jazz_and_metal(), ("you", "jazz_0"), ("you", "jazz_1"))
    assert set(ids(taste.recommend("you", 10))) == {"jazz_2", "jazz_3", "jazz_4"}
    assert set(ids(taste.recommend_by_people("you", 10))) == {"jazz_2", "jazz_3", "jazz_4"}


def test_a_heart_counts_in_the_very_next_request():
    taste = crowd(*jazz_and_metal(), ("you", "jazz_0"))
    taste.apply([("you", "metal_0", 1.0)])
    assert ids(taste.recommend("you", 4))[0].startswith("metal")


def test_who_took_every_heart_back_is_recommended_nothing():
    taste = crowd(*jazz_and_metal(), ("you", "jazz_0"))
    taste.apply([("you", "jazz_0", -1.0)])
    taste.settle()
    # The first to ask at all: nothing has been made ready by somebody else's question.
    assert taste.recommend("you", 10) == []
    assert taste.recommend_by_people("you", 10) == []


def test_taking_a_heart_back_undoes_it():
    events = jazz_and_metal()
    taste = crowd(*events, ("you", "jazz_0"), ("you", "metal_0"))
    before = crowd(*events, ("you", "jazz_0"))
    taste.apply([("you", "metal_0", -1.0)])
    taste.settle()
    assert taste.recommend("you", 10) == before.recommend("you", 10)
    assert taste.similar("jazz_0", 10) == before.similar("jazz_0", 10)
    assert [n.user_id for n in taste.neighbours("you", 99)] == [
        n.user_id for n in before.neighbours("you", 99)
    ]


def test_nobody_is_recommended_what_they_have():
    taste = crowd(*jazz_and_metal())
    assert taste.recommend("j0", 10) == []


def test_the_reason_names_the_hearts_that_led_to_it_and_how_many_people_share_them():
    taste = crowd(*jazz_and_metal(), ("you", "jazz_0"), ("you", "jazz_1"))
    for suggestion in taste.recommend("you", 3, explain=True):
        assert set(suggestion.because) == {("jazz_0", 8), ("jazz_1", 8)}
        assert suggestion.because[0][0] == "jazz_1"


def test_similar_items_are_the_shrunk_cosine_of_who_has_them():
    taste = crowd(("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "x"))
    (only,) = taste.similar("x", 5)
    assert only.item_id == "y"
    assert only.score == pytest.approx(2 / (6**0.5 + 5), rel=1e-6)


def test_neighbours_are_the_people_with_the_same_newest_hearts():
    taste = crowd(*jazz_and_metal(), ("you", "metal_3"), ("you", "metal_4"))
    found = taste.neighbours("you", 20)
    assert {neighbour.user_id for neighbour in found} == {f"m{n}" for n in range(8)}
    assert all(0 < neighbour.similarity <= 1 for neighbour in found)


def test_a_visitor_without_account_is_served_from_the_session():
    taste = crowd(*jazz_and_metal())
    assert set(ids(taste.recommend_for(["jazz_0", "never_seen"], 10))) == {f"jazz_{n}" for n in range(1, 5)}
    assert taste.recommend_for(["never_seen"], 10) == []
    assert taste.recommend_for([], 10) == []


def test_only_allowed_items_are_suggested():
    taste = crowd(*jazz_and_metal(), ("you", "jazz_0"))
    assert ids(taste.recommend("you", 10, is_allowed=["jazz_3", "metal_1", "unknown"])) == ["jazz_3"]


def test_scores_of_given_items_are_missing_where_nothing_is_known():
    taste = crowd(*jazz_and_metal(), ("you", "jazz_0"))
    scores = taste.scores("you", ["jazz_1", "metal_1", "unknown"])
    assert scores[0] > 0
    assert scores[1] == 0
    assert np.isnan(scores[2])
    assert np.isnan(taste.scores("nobody", ["jazz_1"])).all()


def test_strangers_and_unknown_items_get_empty_lists():
    taste = crowd()
    assert taste.recommend("you", 5) == []
    assert taste.recommend_by_people("you", 5) == []
    assert taste.neighbours("you", 5) == []
    assert taste.similar("x", 5) == []
    taste.rebuild()


@given(
    events=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 14), st.sampled_from([1.0, 1.0, 0.4, -1.0])), max_size=120
    ),
    breaks=st.sets(st.integers(0, 120)),
    most_in_a_grid=st.sampled_from([0, 7, MOST_ITEMS]),
)
@settings(max_examples=80, deadline=None)
def test_what_events_leave_equals_counting_everything_afresh(events, breaks, most_in_a_grid):
    # By pairs, by partners, and from the one to the other on the way.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taste_module, "MOST_ITEMS", most_in_a_grid)
        events_equal_counting_afresh(events, breaks)


def events_equal_counting_afresh(events, breaks):
    taste = Taste(WIDE)
    for step, (user, item, confidence) in enumerate(events):
        taste.apply([(f"u{user}", f"i{item}", confidence)])
        if step in breaks:
            taste.settle()
    taste.settle()
    online = {
        f"i{item}": dict(
            taste.similar(f"i{item}", 99) and [(s.item_id, s.score) for s in taste.similar(f"i{item}", 99)]
        )
        for item in range(15)
    }
    recommended = [taste.recommend(f"u{user}", 99) for user in range(10)]
    taste.rebuild()
    for item, partners in online.items():
        assert partners == pytest.approx({s.item_id: s.score for s in taste.similar(item, 99)}, rel=1e-6)
    for user, before in enumerate(recommended):
        after = {s.item_id: s.score for s in taste.recommend(f"u{user}", 99)}
        assert {s.item_id: s.score for s in before} == pytest.approx(after, rel=1e-5)


@given(n=st.integers(0, 3000), count=st.integers(0, 60), kinds=st.integers(1, 2000), seed=st.integers(0, 999))
@settings(max_examples=150, deadline=None)
def test_the_best_are_the_highest_scores_and_equals_go_by_index(n, count, kinds, seed):
    dice = np.random.default_rng(seed)
    scores = dice.integers(-3, kinds, n).astype(np.float64)
    excluded = dice.integers(0, n, n // 10) if n else np.empty(0, dtype=np.int64)
    allowed = [index for index in range(n) if scores[index] > 0 and index not in set(excluded.tolist())]
    expected = sorted(allowed, key=lambda index: (-scores[index], index))[:count]
    assert best(scores, excluded, count).tolist() == expected


def test_full_rows_keep_the_partners_that_matter_most(monkeypatch):
    monkeypatch.setattr(taste_module, "MOST_ITEMS", 0)
    options = TasteOptions(history=50, looked_at=20, partners=3, fans=10)
    strong = [(f"s{n}", item) for n in range(20) for item in ("hub", "a", "b", "c")]
    weak = [(f"w{n}", item) for n in range(10) for item in ("hub", f"once_{n}")]
    taste = crowd(*strong, *weak, options=options)
    assert set(ids(taste.similar("hub", 10))) == {"a", "b", "c"}


def test_beyond_its_bounds_the_model_counts_what_it_does_not_track():
    taste = Taste(TasteOptions(max_users=2, max_items=3))
    taste.apply([(f"u{n}", f"i{n}", 1.0) for n in range(10)])
    assert (taste.users, taste.items) == (3 - 1, 3)
    assert taste.untracked == 8


def test_a_long_history_forgets_its_oldest():
    taste = crowd(*[("fan", f"i{n:03}") for n in range(80)])
    taste.rebuild()
    assert taste.similar("i000", 5) == []
    assert len(taste.similar("i079", 99)) == WIDE.reach


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"history": 1}, "history: must be"),
        ({"looked_at": 201}, "looked_at: must be 1 to 200"),
        ({"half_life_events": 0.0}, "half_life_events: must be"),
        ({"shrink": -1.0}, "shrink: must be"),
        ({"max_users": 0}, "max_users, max_items: must be"),
    ],
)
def test_options_that_cannot_work_say_which(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        TasteOptions(**options)


@given(
    hearts=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 14), st.integers(0, 10**6)),
        max_size=150,
        unique_by=lambda heart: heart[2],
    )
)
@settings(max_examples=50, deadline=None)
def test_loading_at_once_equals_having_seen_every_heart(hearts):
    options = TasteOptions(history=8, looked_at=8, partners=30, fans=100)
    loaded, followed = Taste(options), Taste(options)
    loaded.load([(f"u{user}", f"i{item}", at_ms, 1.0) for user, item, at_ms in hearts])
    for user, item, _ in sorted(hearts, key=lambda heart: heart[2]):
        followed.apply([(f"u{user}", f"i{item}", 1.0)])
    followed.rebuild()
    for n in range(10):
        expected = {s.item_id: s.score for s in followed.recommend(f"u{n}", 99)}
        assert {s.item_id: s.score for s in loaded.recommend(f"u{n}", 99)} == pytest.approx(
            expected, rel=1e-5
        )
        assert loaded.has(f"u{n}") == followed.has(f"u{n}")


def test_a_loaded_model_knows_its_neighbours():
    taste = Taste(WIDE)
    taste.load([(user, item, place, 1.0) for place, (user, item) in enumerate(jazz_and_metal())])
    assert {neighbour.user_id for neighbour in taste.neighbours("j0", 20)} == {f"j{n}" for n in range(1, 8)}


def test_how_alike_candidates_are_is_symmetric_and_one_on_the_diagonal():
    taste = crowd(*jazz_and_metal())
    table = taste.alike(["jazz_0", "metal_0", "jazz_1", "unknown"])
    assert np.allclose(table, table.T)
    assert np.diag(table).tolist() == [1, 1, 1, 1]
    assert table[0, 2] == pytest.approx(taste.similar("jazz_0", 1)[0].score)
    assert table[0, 1] == table[0, 3] == 0
