from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.ranking import similarity
from heartcast.ranking.evaluate.choice import judge, origins
from heartcast.ranking.interactions import NEVER, Fade, interactions
from heartcast.ranking.recommenders import (
    Blend,
    Ease,
    ItemKnn,
    Nearby,
    Popular,
    ProfileCosine,
    UserKnn,
    standardise,
)


def drifting_crowd(seed=0, users=120, items=60, length=25):
    """Made-up taste: each item belongs to one of six topics, each user follows two of them,
    and moves from the first to the second over time."""
    dice = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        first, second = dice.choice(6, 2, replace=False)
        for step in range(length):
            topic = second if dice.random() < step / length else first
            item = int(topic * 10 + min(9, dice.geometric(0.25) - 1))
            rows.append((user, item, 1000 * step + int(dice.integers(900)), dice.choice([0.2, 0.6, 1.0])))
    table = np.array(rows)
    _, firsts = np.unique(table[:, :2], axis=0, return_index=True)
    table = table[np.sort(firsts)]
    columns = table[:, :3].astype(np.int64).T
    return interactions(*columns, table[:, 3], users, items)


def test_entries_halve_with_every_half_life_since_the_users_newest_event():
    events = interactions(
        np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([100, 160, 7]), np.array([1.0, 0.5, 1.0]), 2, 2
    )
    assert events.matrix(Fade(60)).toarray().tolist() == [[0.5, 0.5], [1.0, 0.0]]
    assert events.matrix(Fade(2, "events"), confidence=0).toarray()[0].tolist() == [2**-0.5, 1.0]


def test_events_are_ordered_by_user_and_time_whatever_order_they_come_in():
    events = interactions(np.array([1, 0, 1]), np.array([0, 1, 2]), np.array([9, 5, 3]), np.ones(3), 2, 3)
    assert events.items.tolist() == [1, 2, 0]
    assert events.from_end().tolist() == [0, 1, 0]
    assert events.ages_s().tolist() == [0, 6, 0]


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_a_weight_that_is_no_confidence_is_refused(weight):
    with pytest.raises(ValueError, match="weights"):
        interactions(np.array([0]), np.array([0]), np.array([0]), np.array([weight]), 1, 1)


def test_an_index_out_of_range_is_refused():
    with pytest.raises(ValueError, match="items must be 0 to 1"):
        interactions(np.array([0]), np.array([2]), np.array([0]), np.ones(1), 1, 2)


@given(seed=st.integers(0, 1000), later_s=st.integers(1, 10**9))
@settings(max_examples=20, deadline=None)
def test_time_passing_changes_no_neighbour_and_no_order(seed, later_s):
    events = drifting_crowd(seed, users=20, length=10)
    moved = interactions(
        events.users, events.items, events.times_s + later_s, events.weights, events.n_users, events.n_items
    )
    recommender = UserKnn(k=5, fade=Fade(3600))
    users = np.arange(20)
    assert np.allclose(recommender.fit(events)(users), recommender.fit(moved)(users), rtol=1e-12)


def test_similarity_is_the_shrunk_cosine_and_nobody_is_their_own_neighbour():
    rows = drifting_crowd(users=30).matrix()
    alike = similarity.neighbours(rows, 30, shrink=2.0).toarray()
    dense = rows.toarray()
    norms = np.linalg.norm(dense, axis=1)
    for i in range(30):
        for j in range(30):
            expected = 0 if i == j else dense[i] @ dense[j] / (norms[i] * norms[j] + 2.0 + 1e-6)
            assert alike[i, j] == pytest.approx(expected)


def test_only_the_most_similar_stay():
    rows = drifting_crowd(users=30).matrix()
    every = similarity.neighbours(rows, 30, 1.0).toarray()
    few = similarity.neighbours(rows, 4, 1.0).toarray()
    for i in range(30):
        assert sorted(few[i][few[i] > 0]) == sorted(np.sort(every[i])[-4:])


def test_blocks_and_sparse_products_give_the_same_neighbours(monkeypatch):
    rows = drifting_crowd().matrix(Fade(5, "events"))
    whole = similarity.neighbours(rows, 120, 1.0).toarray()
    monkeypatch.setattr(similarity, "_BLOCK_BYTES", 20_000)
    assert np.allclose(similarity.neighbours(rows, 120, 1.0).toarray(), whole)
    monkeypatch.setattr(similarity, "_DENSE_BYTES", 0)
    assert np.allclose(similarity.neighbours(rows, 120, 1.0).toarray(), whole)


def test_one_shared_item_makes_no_soul_mates():
    events = interactions(
        np.array([0, 1, *[2] * 10, *[3] * 10]),
        np.array([0, 0, *range(10), *range(10)]),
        np.zeros(22, dtype=np.int64),
        np.ones(22),
        4,
        10,
    )
    plain = similarity.neighbours(events.matrix(), 3, 0.0).toarray()
    shrunk = similarity.neighbours(events.matrix(), 3, 5.0).toarray()
    assert plain[0, 1] == pytest.approx(plain[2, 3], rel=1e-5)
    assert shrunk[0, 1] < shrunk[2, 3] / 3


def test_every_recommender_beats_popularity_where_there_is_taste():
    splits = origins(drifting_crowd(), 3)
    popular = judge(Popular(), splits).score
    fade = Fade(5, "events")
    for recommender in (
        UserKnn(k=20),
        UserKnn(k=20, fade=fade, activity=0.5),
        ItemKnn(),
        ItemKnn(fade=fade),
        Ease(),
    ):
        assert judge(recommender, splits).score > popular * 1.3


def test_fading_helps_where_taste_drifts():
    splits = origins(drifting_crowd(), 3)
    for kind in (UserKnn, ItemKnn, Nearby, Ease):
        assert judge(kind(fade=Fade(5, "events")), splits).score > judge(kind(), splits).score


def test_what_stands_close_in_a_history_goes_together_more():
    events = interactions(
        np.array([0, 0, 0, 0, 1]), np.array([0, 1, 2, 3, 0]), np.array([1, 2, 3, 4, 1]), np.ones(5), 2, 5
    )
    scores = Nearby(reach=2, half_gap=1.0, shrink=0.0).fit(events)(np.array([1]))[0]
    # Item 0 has two people, the others one: the next one counts 1, the one after that half.
    assert scores == pytest.approx([0, 1 / 2**0.5, 0.5 / 2**0.5, 0, 0])


def test_nearness_never_reaches_from_one_history_into_another():
    events = interactions(np.array([0, 1]), np.array([0, 1]), np.array([1, 2]), np.ones(2), 2, 2)
    assert not Nearby().fit(events)(np.arange(2)).any()


def test_the_articles_profile_cosine_finds_no_taste():
    splits = origins(drifting_crowd(), 3)
    assert judge(ProfileCosine(k=20), splits).score < judge(UserKnn(k=20), splits).score * 0.7


def test_what_was_hearted_lately_is_more_popular_where_popularity_fades():
    events = interactions(np.array([0, 1, 2]), np.array([0, 0, 1]), np.array([0, 0, 1000]), np.ones(3), 3, 2)
    assert Popular().fit(events)(np.array([0]))[0].tolist() == [2, 1]
    assert Popular(half_life_s=500).fit(events)(np.array([0]))[0].tolist() == [0.5, 1]


def test_a_blend_is_the_shares_of_standardised_scores():
    events = drifting_crowd()
    parts = [(0.7, ItemKnn()), (0.3, Popular())]
    users = np.array([3, 4])
    expected = sum(share * standardise(part.fit(events)(users)) for share, part in parts)
    assert np.allclose(Blend(parts).fit(events)(users), expected)
    assert standardise(np.full((1, 5), 3.0)).tolist() == [[0.0] * 5]


@pytest.mark.parametrize(
    "recommender",
    [
        Popular(),
        Popular(half_life_s=60),
        ProfileCosine(),
        UserKnn(),
        UserKnn(by_column=True),
        ItemKnn(fade=NEVER),
        Nearby(),
        Ease(),
    ],
)
def test_an_empty_past_gives_scores_that_are_numbers(recommender):
    nothing = np.empty(0, dtype=np.int64)
    empty = interactions(nothing, nothing, nothing, np.empty(0), 3, 4)
    scores = recommender.fit(empty)(np.arange(3))
    assert scores.shape == (3, 4)
    assert np.all(np.isfinite(scores))
