from __future__ import annotations

import pytest

from heartcast.ranking.boards import HotBoards
from heartcast.ranking.for_you import ForYou
from heartcast.ranking.options import ForYouOptions, HotOptions, TasteOptions
from heartcast.ranking.taste import Taste

NOW_MS = 1_700_000_000_000


class Stage:
    def __init__(self, **options):
        self.taste = Taste(TasteOptions())
        self.boards = HotBoards(HotOptions(), NOW_MS)
        self.timers = []
        self.for_you = ForYou(
            self.taste,
            self.boards,
            ForYouOptions(**options),
            lambda delay_s, call: self.timers.append((delay_s, call)),
        )

    def hearts(self, *pairs):
        self.for_you.apply([(user, item, 1.0) for user, item in pairs])
        self.boards.apply([(item, 1.0, NOW_MS) for _, item in pairs])

    def settle(self):
        timers, self.timers = self.timers, []
        for _, call in timers:
            call()

    def ids(self, user, **more):
        return [pick.item_id for pick in self.for_you.recommend(user, 10, NOW_MS, **more)]


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
    picks = stage.for_you.recommend_for(["jazz_0"], 2, NOW_MS)
    assert picks[0].item_id in {"jazz_1", "jazz_2", "jazz_3"}
    assert [pick.rank for pick in picks] == [1, 2]


def test_the_list_is_spread_where_scores_are_close():
    near, far = Stage(spread=0.0), Stage(spread=0.6)
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
        pick for pick in stage.for_you.recommend("you", 10, NOW_MS, explain=True) if pick.item_id == "new"
    ]
    assert "you hearted jazz_0, and 2 others hearted both" in new.because


def test_the_explanation_says_whose_hearts_led_to_it(stage):
    stage.hearts(("you", "jazz_0"))
    first = stage.for_you.recommend("you", 1, NOW_MS, explain=True)[0]
    assert "you hearted jazz_0, and 6 others hearted both" in first.because
    assert "people with hearts like yours hearted it" in first.because
    assert "it is hot" in first.because
    stranger = stage.for_you.recommend("stranger", 1, NOW_MS, explain=True)[0]
    assert stranger.because == "it is hot: 9.0 hearts' worth right now"
    assert stage.for_you.recommend("you", 1, NOW_MS)[0].because is None


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
