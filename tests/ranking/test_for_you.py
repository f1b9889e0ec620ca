from __future__ import annotations

import numpy as np
import pytest

from heartcast.ranking.boards import HotBoards
from heartcast.ranking.catalogue import About, Catalogue
from heartcast.ranking.feedback import Feedback, Kind
from heartcast.ranking.for_you import ForYou, Wish
from heartcast.ranking.options import ForYouOptions, HotOptions, TasteOptions
from heartcast.ranking.seen import Seen
from heartcast.ranking.strategy import Component, Fuser, Strategy
from heartcast.ranking.taste import Taste

NOW_MS = 1_700_000_000_000


class Stage:
    def __init__(self, measure=None, shown=None, **options):
        self.taste = Taste(TasteOptions())
        self.boards = HotBoards(HotOptions(), NOW_MS)
        self.timers = []
        self.catalogue = Catalogue(100)
        self.seen = Seen(100, 2, 3600.0)
        self.for_you = ForYou(
            self.taste,
            self.boards,
            ForYouOptions(**options),
            lambda delay_s, call: self.timers.append((delay_s, call)),
            catalogue=self.catalogue,
            seen=self.seen,
            measure=measure or (lambda user_id, item_ids, now_ms: {}),
            exposures=lambda item_ids, now_ms: np.array([(shown or {}).get(item, 0.0) for item in item_ids]),
        )

    def hearts(self, *pairs):
        self.for_you.apply([(user, item, 1.0) for user, item in pairs])
        self.boards.apply([(item, 1.0, NOW_MS) for _, item in pairs])

    def settle(self):
        timers, self.timers = self.timers, []
        for _, call in timers:
            call()

    def ids(self, user, **more):
        self.settle()
        return [pick.item_id for pick in self.for_you.recommend(user, Wish(10, NOW_MS, **more))]


@pytest.fixture
def stage():
    stage = Stage()
    stage.hearts(*((f"j{n}", f"jazz_{item}") for n in range(6) for item in range(4)))
    stage.hearts(*((f"m{n}", f"metal_{item}") for n in range(9) for item in range(4)))
    stage.settle()
    return stage


def test_taste_comes_before_what_is_merely_hot(stage):
    stage.hearts(("you", "jazz_0"))
    found = stage.ids("you")
    assert set(found[:3]) == {"jazz_1", "jazz_2", "jazz_3"}
    assert set(found[3:]) == {f"metal_{n}" for n in range(4)}


def test_a_stranger_is_served_what_is_hot(stage):
    found = stage.ids("stranger")
    assert set(found[:4]) == {f"metal_{n}" for n in range(4)}


def test_nobody_is_shown_what_they_have(stage):
    stage.hearts(("you", "jazz_0"), ("you", "metal_2"))
    assert not {"jazz_0", "metal_2"} & set(stage.ids("you"))


def test_a_session_without_account_is_served_by_its_items(stage):
    picks = stage.for_you.recommend_for(["jazz_0"], Wish(2, NOW_MS))
    assert picks[0].item_id in {"jazz_1", "jazz_2", "jazz_3"}
    assert [pick.rank for pick in picks] == [1, 2]


def test_the_list_is_spread_where_scores_are_close():
    shares = {"items": 0.5, "people": 0.1, "hot": 0.4}
    near, far = Stage(spread=0.0, **shares), Stage(spread=0.6, **shares)
    for stage in (near, far):
        stage.hearts(*((f"j{n}", f"jazz_{item}") for n in range(6) for item in range(4)))
        stage.hearts(*((f"m{n}", f"metal_{item}") for n in range(9) for item in range(4)))
        stage.hearts(("you", "jazz_0"))
        stage.settle()
    assert not any(item.startswith("metal") for item in near.ids("you")[:3])
    assert any(item.startswith("metal") for item in far.ids("you")[:3])


def test_what_a_heart_says_about_items_counts_within_a_tenth_of_a_second(stage):
    stage.hearts(("you", "jazz_0"), ("j0", "new"), ("j1", "new"))
    ((delay_s, _),) = stage.timers
    assert delay_s <= 0.1
    stage.settle()
    (new,) = [
        pick
        for pick in stage.for_you.recommend("you", Wish(10, NOW_MS, explain=True))
        if pick.item_id == "new"
    ]
    assert "you hearted jazz_0, and 2 others hearted both" in new.because


def test_the_explanation_says_whose_hearts_led_to_it(stage):
    stage.hearts(("you", "jazz_0"))
    stage.settle()
    first = stage.for_you.recommend("you", Wish(1, NOW_MS, explain=True))[0]
    assert "you hearted jazz_0, and 6 others hearted both" in first.because
    assert "people with hearts like yours hearted it" in first.because
    assert "it is hot" in first.because
    stranger = stage.for_you.recommend("stranger", Wish(1, NOW_MS, explain=True))[0]
    assert stranger.because == "it is hot: 9.0 hearts' worth right now"
    assert stage.for_you.recommend("you", Wish(1, NOW_MS))[0].because is None


def test_an_empty_world_recommends_nothing():
    assert Stage().ids("you") == []


def test_a_board_that_does_not_exist_leaves_what_is_hot_out():
    stage = Stage(board="nowhere")
    stage.hearts(("a", "x"), ("a", "y"))
    stage.settle()
    assert stage.ids("stranger") == []


@pytest.mark.parametrize(
    "options",
    [{"items": -1.0}, {"items": 0.0, "people": 0.0, "hot": 0.0}, {"spread": 2.0}, {"hot": float("nan")}],
)
def test_shares_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        ForYouOptions(**options)


def test_only_a_category_is_recommended_where_one_is_asked_for(stage):
    for item in range(4):
        stage.catalogue.describe(f"jazz_{item}", About(categories=("music",)))

    assert set(stage.ids("stranger", category="music")) == {f"jazz_{n}" for n in range(4)}
    assert stage.ids("stranger", category="nothing") == []


def test_what_is_hidden_too_old_or_waved_away_is_not_recommended():
    stage = Stage(max_age_s=60.0)
    stage.hearts(*((f"u{n}", item) for n in range(3) for item in ("fine", "hidden", "old", "away", "tired")))
    stage.catalogue.describe("hidden", About(is_hidden=True))
    stage.catalogue.describe("old", About(published_ms=NOW_MS - 61_000))
    stage.catalogue.describe("fine", About(published_ms=NOW_MS - 59_000))
    stage.seen.apply(
        [
            Feedback("1", Kind.DISMISSAL, "you", "away", NOW_MS),
            Feedback("2", Kind.EXPOSURE, "you", "tired", NOW_MS),
            Feedback("3", Kind.EXPOSURE, "you", "tired", NOW_MS),
        ]
    )

    assert stage.ids("you") == ["fine"]


def test_a_strategy_orders_the_candidates_by_its_measures():
    def measure(user_id, item_ids, now_ms):
        return {"ctr": np.array([float(item[-1]) for item in item_ids])}

    stage = Stage(measure=measure, spread=0.0)
    stage.hearts(*((f"u{n}", f"post_{item}") for n in range(3) for item in range(4)))
    clicks = Strategy(ctr=Component(weight=1.0))

    assert stage.ids("you", strategy=clicks) == ["post_3", "post_2", "post_1", "post_0"]
    influence = stage.for_you.influence("you", Wish(10, NOW_MS, strategy=clicks))
    assert influence["ctr"].effective == pytest.approx(1.0)


def test_a_drawn_order_repeats_with_its_seed_and_tells_its_chances():
    stage = Stage(explore=0.0)
    stage.hearts(*((f"u{n}", f"post_{item}") for n in range(3) for item in range(6)))
    drawing = Strategy(heads={"affinity": Component(weight=1.0)}, fuser=Fuser(params={"temperature": 1.0}))
    stage.settle()
    orders = [
        [
            pick.item_id
            for pick in stage.for_you.recommend("you", Wish(6, NOW_MS, strategy=drawing, seed=seed))
        ]
        for seed in ("a", "a", "b", "c", "d")
    ]
    picks = stage.for_you.recommend("you", Wish(6, NOW_MS, strategy=drawing, seed="a"))

    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) > 1
    assert all(0 < pick.propensity <= 1 for pick in picks)
    assert picks[-1].propensity == pytest.approx(1.0)


def test_two_items_of_one_author_do_not_stand_together_when_scores_are_close():
    stage = Stage(spread=0.5, same_author=1.0)
    stage.hearts(*((f"u{n}", item) for n in range(3) for item in ("a1", "a2", "b1")))
    for item in ("a1", "a2", "b1"):
        stage.catalogue.describe(item, About(author=item[0]))

    assert [item[0] for item in stage.ids("stranger")][:2] == ["a", "b"]


def test_a_share_of_the_places_goes_to_what_hardly_anybody_was_shown():
    stage = Stage(explore=0.2, shown={"known": 51.0})
    stage.hearts(*((f"u{n}", f"post_{item}") for n in range(3) for item in range(20)))
    for item in ("new_1", "new_2", "new_3", "known"):
        stage.catalogue.describe(item, About())
    stage.settle()

    picks = stage.for_you.recommend("you", Wish(10, NOW_MS, seed="s", explain=True))

    assert [pick.rank for pick in picks] == list(range(1, 11))
    assert {pick.item_id for pick in picks[8:]} < {"new_1", "new_2", "new_3"}
    assert picks[9].because == "few people have been shown it yet"
    again = stage.for_you.recommend("you", Wish(10, NOW_MS, seed="s", explain=True))
    assert again == picks
