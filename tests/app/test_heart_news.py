"""What one node wrote reaches the views of the others, or they know that it did not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heartcast.app.heart_news import HeartNews
from heartcast.core.bus import Bus
from heartcast.hearts.model import HeartChanged, HeartKey


class View:
    def __init__(self) -> None:
        self.counts: list[int] = []
        self.stale = 0

    def apply(self, events: list[HeartChanged]) -> None:
        self.counts += [event.count for event in events]

    def mark_stale(self) -> None:
        self.stale += 1


class Town:
    """Nodes whose messages arrive at once, unless they are to be lost."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.is_losing = False


class Node:
    def __init__(self, town: Town, name: str) -> None:
        self.town = town
        self.name = name
        self.view = View()
        self.soon: list[Callable[[], None]] = []
        self.bus: Bus[HeartChanged] = Bus(self.soon.append)
        elsewhere: Bus[HeartChanged] = Bus(self.soon.append)
        self.bus.follow(self.view)
        elsewhere.follow(self.view)
        self.news = HeartNews(self, elsewhere, lambda delay_s, call: None, lambda: set(town.nodes))
        self.bus.follow(self.news)
        town.nodes[name] = self

    def tell_all(self, subject: str, body: bytes) -> None:
        assert subject == "hearts"
        for name, node in self.town.nodes.items():
            if name != self.name and not self.town.is_losing:
                node.news.took(self.name, body, None)

    def heart(self, count: int) -> None:
        self.bus.publish(HeartChanged(HeartKey("post", f"u{count}"), count, count, 1, 0))
        self.run()

    def run(self) -> None:
        while self.soon:
            self.soon.pop(0)()


@pytest.fixture
def town() -> Town:
    town = Town()
    Node(town, "ann")
    Node(town, "bob")
    return town


def run_all(town: Town) -> None:
    for node in town.nodes.values():
        node.run()


def test_every_view_sees_every_heart_once(town: Town) -> None:
    town.nodes["ann"].heart(1)
    town.nodes["bob"].heart(2)
    run_all(town)

    assert sorted(town.nodes["ann"].view.counts) == [1, 2]
    assert sorted(town.nodes["bob"].view.counts) == [1, 2]
    assert [node.view.stale for node in town.nodes.values()] == [0, 0]


def test_a_lost_message_is_noticed_with_the_next(town: Town) -> None:
    ann, bob = town.nodes["ann"], town.nodes["bob"]
    ann.heart(1)
    town.is_losing = True
    ann.heart(2)
    town.is_losing = False
    ann.heart(3)
    run_all(town)

    assert bob.view.stale == 1
    assert bob.news.gaps == 1
    ann.heart(4)
    run_all(town)
    assert bob.view.stale == 1
    assert bob.view.counts[-1] == 4


def test_a_lost_last_message_is_noticed_without_another_heart(town: Town) -> None:
    ann, bob = town.nodes["ann"], town.nodes["bob"]
    town.is_losing = True
    ann.heart(1)
    town.is_losing = False
    ann.news.say()
    run_all(town)

    assert bob.view.stale == 1
    ann.news.say()
    run_all(town)
    assert bob.view.stale == 1


def test_who_comes_later_rebuilds_what_it_did_not_hear(town: Town) -> None:
    town.nodes["ann"].heart(1)
    late = Node(town, "late")
    town.nodes["ann"].news.say()
    run_all(town)

    assert late.view.stale == 1
    assert town.nodes["bob"].view.stale == 0


def test_an_overflow_at_one_node_is_one_at_the_others(town: Town) -> None:
    ann, bob = town.nodes["ann"], town.nodes["bob"]
    ann.bus.mark_stale()
    run_all(town)
    ann.news.say()
    run_all(town)

    assert (ann.view.stale, bob.view.stale) == (1, 1)


def test_many_hearts_leave_in_messages_of_bounded_size(town: Town) -> None:
    ann, bob = town.nodes["ann"], town.nodes["bob"]
    for number in range(2_500):
        ann.bus.publish(HeartChanged(HeartKey("post", f"u{number}"), number, number, 1, 0))
    run_all(town)

    assert bob.view.counts == list(range(2_500))
    assert ann.news.told == bob.news.heard == 2_500
