from __future__ import annotations

import msgspec

from heartcast.ranking.boards import HotBoards
from heartcast.ranking.live import LiveHot
from heartcast.ranking.options import HotOptions
from heartcast.testing import ManualClock


class Stage:
    """Boards with an audience, a clock, and timers that fire by hand."""

    def __init__(self, watched=("hot:hour",)):
        self.clock = ManualClock()
        self.watched = set(watched)
        self.sent = []
        self.timers = []
        options = HotOptions()
        self.live = LiveHot(
            HotBoards(options, self.clock.wall_ms()),
            options,
            publish=lambda channel, data: self.sent.append((channel, msgspec.json.decode(data))),
            is_watched=self.watched.__contains__,
            later=self.later,
            wall_ms=self.clock.wall_ms,
        )

    def later(self, delay_s, callback):
        self.timers.append((self.clock.monotonic_s() + delay_s, callback))

    def advance(self, seconds):
        end_s = self.clock.monotonic_s() + seconds
        while due := [timer for timer in self.timers if timer[0] <= end_s + 1e-9]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.clock.advance(max(0.0, first[0] - self.clock.monotonic_s()))
            first[1]()
        self.clock.advance(max(0.0, end_s - self.clock.monotonic_s()))

    def heart(self, *items):
        self.live.apply([(item, 1.0, self.clock.wall_ms()) for item in items])


def test_a_thousand_hearts_in_a_moment_are_one_publication():
    stage = Stage()
    for n in range(1000):
        stage.heart(f"post_{n % 30}")
    stage.advance(0.25)
    assert len(stage.sent) == 1
    channel, data = stage.sent[0]
    assert channel == "hot:hour"
    assert data["board"] == "hour"
    assert [item["rank"] for item in data["items"]] == list(range(1, 21))
    assert data["items"][0]["item_id"] == "post_0"
    assert 33.9 < data["items"][0]["score"] < 34


def test_boards_nobody_ever_watched_are_not_published_and_leave_no_timer():
    stage = Stage(watched=())
    stage.heart("a")
    stage.advance(60)
    assert stage.sent == []
    assert stage.timers == []


def test_every_watched_board_is_published():
    stage = Stage(watched=("hot:hour", "hot:week"))
    stage.heart("a")
    stage.advance(0.25)
    assert [channel for channel, _ in stage.sent] == ["hot:hour", "hot:week"]


def test_a_change_below_the_twentieth_place_is_not_visible():
    stage = Stage(watched=("hot:week",))
    for n in range(20):
        stage.heart(*[f"top_{n}"] * 50)
    stage.advance(0.25)
    stage.heart("nobody")
    stage.advance(0.25)
    # A quarter of a second does not move a week's scores by a thousandth.
    assert len(stage.sent) == 1


def test_fading_scores_are_shown_without_any_event():
    stage = Stage()
    stage.heart("a")
    stage.advance(0.25)
    stage.advance(30)
    scores = [data["items"][0]["score"] for _, data in stage.sent]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < scores[0]


def test_an_event_does_not_wait_for_the_slow_refresh():
    stage = Stage()
    stage.heart("a")
    stage.advance(0.25)
    stage.heart("b", "b")
    stage.advance(0.25)
    assert [item["item_id"] for item in stage.sent[-1][1]["items"]] == ["b", "a"]


def test_whoever_subscribes_gets_the_list_as_it_is_now():
    stage = Stage(watched=())
    stage.heart("a")
    stage.advance(1)
    got = []
    stage.live.source("hot:day", got.append)
    assert msgspec.json.decode(got[0])["items"][0]["item_id"] == "a"


def test_after_a_first_subscriber_scores_fade_live():
    stage = Stage(watched=())
    stage.heart("a")
    stage.advance(60)
    stage.live.source("hot:hour", lambda _: None)
    stage.watched.add("hot:hour")
    stage.advance(10)
    assert len(stage.sent) == 1


def test_a_channel_without_a_board_has_no_value():
    got = []
    Stage().live.source("hot:nowhere", got.append)
    assert got == [None]


def test_what_the_next_subscriber_is_handed_is_kept_fresh_after_the_last_one_left():
    stage = Stage()
    stage.heart("a")
    stage.advance(0.25)
    stage.watched.clear()
    stage.heart("b", "b")
    stage.advance(11)
    assert [item["item_id"] for item in stage.sent[-1][1]["items"]] == ["b", "a"]
