"""Broadcasts run in parts: every shard follows the commons, and no part does anything twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.core.errors import StoreUnavailable
from heartcast.core.ids import IdSource
from heartcast.push.broadcast import WHAT, Broadcast, Status, What
from heartcast.push.broadcast_parts import Directory, Parts
from heartcast.push.commons.journal import CommonsJournal
from heartcast.push.commons.memory import MemoryCommons, Shelf
from heartcast.push.journal import Note
from heartcast.push.journal.memory import MemoryJournal
from heartcast.push.model import Extra, Push
from heartcast.testing.pushes import PushRig

SHARDS = 4


class LossyJournal(MemoryJournal):
    """Writes what it is told to, and loses the next answers."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = 0
        self.unanswered: list[Push] = []

    def write(self, change: Any, done: Any) -> None:
        if self.lost and change.accepted:
            self.lost -= 1
            self.unanswered += change.accepted
            done(StoreUnavailable("no answer"))
        else:
            super().write(change, done)


class Node:
    """A node: its copy of the commons, its directory, and the shards that it owns."""

    def __init__(self, shelf: Shelf, shards: range) -> None:
        self.commons = MemoryCommons(shelf)
        blank = self.blank = PushRig()
        service = blank.service
        self.directory = Directory(
            self.commons, options=blank.options, clock=blank.clock, ids=IdSource(blank.clock),
            loop=blank.turns, topics=service.topics, intake=service.intake,
            journal=CommonsJournal(self.commons), ledger=service.ledger, queued=lambda: 0,
        )  # fmt: skip
        self.directory.on_change = self._changed
        self.directory.on_gone = self._gone
        self.is_sure = True
        self.rigs = {shard: self.own(shard) for shard in shards}

    def own(self, shard: int) -> PushRig:
        """Take a shard over."""
        rig = PushRig(journal=LossyJournal())
        service = rig.service
        service.broadcasts.stop()
        service.broadcasts = Parts(
            self.directory, shard=shard, shards=SHARDS, share=lambda: len(self.rigs) / SHARDS,
            is_sure=lambda: self.is_sure, options=service.options, clock=rig.clock, ids=IdSource(rig.clock),
            loop=rig.turns, topics=service.topics, intake=service.intake, journal=service.journal,
            ledger=service.ledger, queued=lambda: service.queued,
        )  # fmt: skip
        service.broadcasts.start()
        return rig

    def parts(self) -> list[Parts]:
        return [rig.service.broadcasts for rig in self.rigs.values()]  # type: ignore[misc]

    def _changed(self, what: What) -> None:
        for parts in self.parts():
            parts.adopt(what)

    def _gone(self, broadcast_id: str) -> None:
        for parts in self.parts():
            parts.drop(broadcast_id)

    def sync(self) -> None:
        self.commons.sync(lambda error: None)

    def begin(self, per_s: float = 0.0) -> str:
        made = self.directory.make("news", "news_v2@1", b'{"title":"x"}', Extra(), per_s, 0)
        self.directory.begin(made, (), lambda error: None)
        return made.what.id

    def set_status(self, broadcast_id: str, status: Status) -> None:
        self.directory.set_status(self.directory.find(broadcast_id), status, lambda: (), lambda error: None)


def pushes_of(rig: PushRig, broadcast_id: str) -> list[Push]:
    ledger = rig.service.ledger
    living = [*ledger.live.values(), *ledger.timed.values()]
    return [push for push in living if push.asked.broadcast == broadcast_id]


class Town:
    """Two nodes with two shards each, whose clocks go together."""

    def __init__(self) -> None:
        shelf = Shelf(lambda: 0)
        self.nodes = [Node(shelf, range(2)), Node(shelf, range(2, 4))]

    def rigs(self) -> list[PushRig]:
        return [rig for node in self.nodes for rig in node.rigs.values()]

    def subscribe(self, count: int) -> None:
        """So many users in each shard."""
        for shard, rig in enumerate(self.rigs()):
            users = [f"user-{shard}-{number:04}" for number in range(count)]
            rig.service.topics.change("news", users, ())

    def advance(self, seconds: float) -> None:
        for rig in self.rigs():
            rig.turns.advance(seconds)
        for node in self.nodes:
            node.blank.turns.advance(seconds)

    def got(self, broadcast_id: str) -> list[Counter[str]]:
        """How many of its pushes each user has, by shard."""
        return [Counter(push.user for push in pushes_of(rig, broadcast_id)) for rig in self.rigs()]

    def part(self, broadcast_id: str) -> list[Broadcast]:
        return [parts.find(broadcast_id) for node in self.nodes for parts in node.parts()]


def test_each_shard_serves_its_own_users_once_also_where_the_news_came_late() -> None:
    town = Town()
    town.subscribe(100)
    broadcast = town.nodes[0].begin()
    town.advance(1)
    assert [len(found) for found in town.got(broadcast)] == [100, 100, 0, 0]
    for _ in range(3):
        town.nodes[1].sync()
        town.advance(1)
    assert [(len(found), max(found.values())) for found in town.got(broadcast)] == [(100, 1)] * 4
    assert {part.what.status for part in town.part(broadcast)} == {Status.DONE}


def test_parts_pause_resume_and_cancel_with_their_broadcast() -> None:
    town = Town()
    town.subscribe(400)
    broadcast = town.nodes[0].begin(per_s=40)
    town.nodes[1].sync()
    town.advance(2)
    town.nodes[1].set_status(broadcast, Status.PAUSED)
    town.nodes[0].sync()
    paused = [part.reached.accepted for part in town.part(broadcast)]
    assert sum(paused) > 0
    town.advance(3)
    assert [part.reached.accepted for part in town.part(broadcast)] == paused
    town.nodes[0].set_status(broadcast, Status.RUNNING)
    town.nodes[1].sync()
    town.advance(1)
    assert sum(part.reached.accepted for part in town.part(broadcast)) > sum(paused)
    town.nodes[0].set_status(broadcast, Status.CANCELLED)
    town.nodes[1].sync()
    served = [part.reached.accepted for part in town.part(broadcast)]
    town.advance(5)
    assert [part.reached.accepted for part in town.part(broadcast)] == served
    assert all(parts.is_cancelled(broadcast) for node in town.nodes for parts in node.parts())


def test_nodes_share_a_rate_by_the_shards_that_they_own() -> None:
    town = Town()
    town.subscribe(1_000)
    broadcast = town.nodes[0].begin(per_s=100)
    town.nodes[1].sync()
    # One after another, as clocks of rigs go; within a node the parts share what one of them earns.
    town.advance(10)
    by_node = [sum(parts.find(broadcast).reached.accepted for parts in node.parts()) for node in town.nodes]
    assert all(450 <= accepted <= 2 * 501 for accepted in by_node)


def test_a_page_whose_answer_was_lost_is_not_accepted_again() -> None:
    town = Town()
    town.subscribe(100)
    node, rig = town.nodes[0], town.nodes[0].rigs[0]
    journal = rig.service.journal
    assert isinstance(journal, LossyJournal)
    journal.lost = 1
    broadcast = node.begin()
    rig.turns.advance(0.05)
    node.is_sure = False
    assert journal.unanswered
    rig.turns.advance(5)
    assert town.got(broadcast)[0] == {}
    # The store reads again what became of it: it had been written.
    for push in journal.unanswered:
        node.parts()[0].arrived(push)
        rig.service.intake.restore(push)
    node.is_sure = True
    rig.turns.advance(5)
    assert town.got(broadcast)[0] == dict.fromkeys([f"user-0-{number:04}" for number in range(100)], 1)
    part = node.parts()[0].find(broadcast)
    assert (part.reached.accepted, part.what.status) == (100, Status.DONE)


def test_a_part_is_kept_as_long_as_its_broadcast_and_no_longer() -> None:
    town = Town()
    broadcast = town.nodes[0].begin()
    town.nodes[1].sync()
    town.advance(1)
    for parts in (parts for node in town.nodes for parts in node.parts()):
        parts.forget(1 << 60)
        assert parts.find(broadcast).is_over
    town.nodes[0].commons.write([Note(WHAT + broadcast, None)], lambda error: None)
    town.nodes[1].sync()
    assert [len(parts.page("", 9)) for node in town.nodes for parts in node.parts()] == [0] * 4
    assert town.nodes[1].directory.whats() == []


def test_a_shard_that_is_taken_over_goes_on_from_the_commons() -> None:
    town = Town()
    node = town.nodes[0]
    running, cancelled = node.begin(per_s=1), node.begin(per_s=1)
    node.set_status(cancelled, Status.CANCELLED)
    node.rigs[0] = rig = node.own(0)
    rig.turns.advance(0.1)
    parts = node.parts()[0]
    assert parts.is_cancelled(cancelled)
    assert parts.find(running).what.status in (Status.RUNNING, Status.DONE)


@settings(max_examples=15)
@given(st.lists(st.sampled_from(["pause", "resume", "late", "tick", "take"]), max_size=12), st.booleans())
def test_whatever_happens_in_between_everybody_has_it_once_at_the_end(
    steps: list[str], is_slow: bool
) -> None:
    town = Town()
    town.subscribe(30)
    broadcast = town.nodes[0].begin(per_s=50.0 if is_slow else 0.0)
    status = {"pause": Status.PAUSED, "resume": Status.RUNNING}
    for step in steps:
        if step in status:
            town.nodes[0].set_status(broadcast, status[step])
        elif step == "late":
            town.nodes[1].sync()
        elif step == "take":
            for parts in town.nodes[0].parts():
                parts.adopt(town.nodes[0].directory.find(broadcast).what)
        town.advance(0.2)
    town.nodes[0].set_status(broadcast, Status.RUNNING)
    town.nodes[1].sync()
    town.advance(10)
    assert [(len(found), max(found.values())) for found in town.got(broadcast)] == [(30, 1)] * 4
    assert [part.reached.accepted for part in town.part(broadcast)] == [30] * 4
