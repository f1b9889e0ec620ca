"""A broadcast as a whole, from what the owners of its parts say; and when its record goes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from heartcast.api import push as push_routes
from heartcast.api.push_broadcasts import BroadcastFigures, BroadcastState
from heartcast.api.route import Answer, Call, Identity
from heartcast.app.gathered_broadcasts import GatheredBroadcasts
from heartcast.app.gathering import Gathering
from heartcast.core.clock import rfc3339
from heartcast.core.errors import Overloaded
from heartcast.core.ids import IdSource
from heartcast.push.broadcast_parts import Directory, home_of
from heartcast.push.commons.journal import CommonsJournal
from heartcast.push.commons.memory import MemoryCommons, Shelf
from heartcast.push.model import Extra
from heartcast.testing.pushes import PushRig

SHARDS = 4
NOBODY = BroadcastFigures(0, 0, 0, 0, 0, 0, 0, 0)
SERVER = Identity(is_server=True)


class Desk:
    """Routes over a directory; owners say what the test has them say."""

    def __init__(self, **options: Any) -> None:
        self.rig = PushRig(**options)
        service, self.clock = self.rig.service, self.rig.clock
        commons = MemoryCommons(Shelf(self.clock.wall_ms))
        self.directory = service.broadcasts = Directory(
            commons, options=self.rig.options, clock=self.clock, ids=IdSource(self.clock),
            loop=self.rig.turns, topics=service.topics, intake=service.intake,
            journal=CommonsJournal(commons), ledger=service.ledger, queued=lambda: 0,
        )  # fmt: skip
        self.said: dict[int, dict[str, Any]] = {shard: {"status": "done"} for shard in range(SHARDS)}
        """By shard: fields of its part; a shard without them has no part."""
        self.away: set[int] = set()
        self.home: set[int] = set(range(SHARDS))
        own = {(route.method, route.path): route.handler for route in push_routes.routes(service)}
        self.routes = GatheredBroadcasts(
            Gathering(SHARDS, self._run, self._everywhere), self.directory, commons, own,  # type: ignore[arg-type]
            options=self.rig.options, is_ours=self.home.__contains__,
        )  # fmt: skip
        self.handlers = self.routes.handlers()

    def _run(self, shard: int, key: Any, call: Call) -> None:
        raise AssertionError("a broadcast is about all shards")

    def _everywhere(self, shards: list[int], ask: Any, key: Any, done: Any) -> None:
        done({shard: self._say(shard, ask(shard)) for shard in shards})

    def _say(self, shard: int, call: Call) -> Answer:
        if shard in self.away:
            return Answer(503, b"{}")
        if shard not in self.said:
            return Answer(404, b"{}")
        what = self.directory.find(call.params["id"]).what
        state = BroadcastState(
            id=what.id, topic="news", template="news_v2", version=1, status="running", reason=None, rate=None,
            due_at=None, timestamp="", changed_at=rfc3339(what.made_ms), left=0, figures=NOBODY,
        )  # fmt: skip
        return Answer(200, msgspec.json.encode(msgspec.structs.replace(state, **self.said[shard])))

    def begin(self) -> str:
        made = self.directory.make("news", "news_v2@1", b'{"title":"x"}', Extra(), 0.0, 0)
        self.directory.begin(made, (), lambda error: None)
        return made.what.id

    def ask(self, method: str, path: str, broadcast_id: str) -> tuple[int, Any]:
        answers: list[Answer] = []
        call = Call(params={"id": broadcast_id}, identity=SERVER, respond=answers.append)
        if (answer := self.handlers[method, f"/api/v1/broadcasts/{{id}}{path}"](call)) is not None:
            answers.append(answer)
        [answer] = answers
        return answer.status, json.loads(answer.body)


def test_figures_are_the_sums_of_the_parts() -> None:
    desk = Desk()
    broadcast = desk.begin()
    figures = BroadcastFigures(
        accepted=7, waiting=3, delivered=4, suppressed=0, expired=0, cancelled=0, failed=0, dead=0
    )
    desk.said = {0: {"figures": figures, "left": 2}, 3: {"figures": figures, "left": 1}}
    status, state = desk.ask("GET", "", broadcast)
    assert (status, state["status"], state["left"]) == (200, "running", 3)
    assert state["figures"]["accepted"] == 14
    assert state["figures"]["accepted"] == state["figures"]["waiting"] + state["figures"]["delivered"]


@pytest.mark.parametrize(
    ("statuses", "whole"),
    [
        (["done"] * 4, "done"),
        (["done", "done", "done", "running"], "running"),
        (["done"] * 3, "running"),  # the fourth has not begun
        (["scheduled"] * 4, "scheduled"),
        (["done", "failed", "done", "done"], "failed"),
    ],
)
def test_it_is_over_when_all_its_parts_are(statuses: list[str], whole: str) -> None:
    desk = Desk()
    broadcast = desk.begin()
    desk.said = {shard: {"status": status} for shard, status in enumerate(statuses)}
    assert desk.ask("GET", "", broadcast)[1]["status"] == whole


def test_a_step_is_refused_when_it_is_over_and_answered_as_it_is_afterwards_when_not() -> None:
    desk = Desk()
    broadcast = desk.begin()
    assert desk.ask("POST", "/pause", broadcast)[1]["code"] == "broadcast_ended"
    waiting = msgspec.structs.replace(NOBODY, accepted=1, waiting=1)
    desk.said[2] = {"status": "done", "figures": waiting}
    # All were accepted and one waits: that one can still be called off.
    assert desk.ask("POST", "/pause", broadcast)[0] == 409
    status, state = desk.ask("POST", "/cancel", broadcast)
    assert (status, state["status"], state["figures"]["waiting"]) == (200, "cancelled", 1)
    assert desk.ask("POST", "/cancel", broadcast)[0] == 200
    assert desk.ask("POST", "/resume", broadcast)[0] == 409


def test_nothing_is_said_of_the_whole_while_a_shard_moves() -> None:
    desk = Desk()
    broadcast = desk.begin()
    desk.away = {1}
    assert desk.ask("GET", "", broadcast)[0] == 503
    assert desk.ask("POST", "/cancel", broadcast)[0] == 503


def test_a_record_goes_when_all_is_over_for_long_enough_at_the_node_that_has_its_home() -> None:
    desk = Desk(keep_ended_s=3600)
    broadcast = desk.begin()
    home = home_of(broadcast, SHARDS)
    sweep = desk.routes.sweep

    sweep(desk.clock.wall_ms())
    assert desk.directory.whats()
    later_ms = desk.clock.wall_ms() + 4_000_000
    desk.home.remove(home)
    sweep(later_ms)
    assert desk.directory.whats()
    desk.home.add(home)
    desk.said[0] = {"status": "done", "figures": msgspec.structs.replace(NOBODY, accepted=1, waiting=1)}
    sweep(later_ms)
    assert desk.directory.whats()
    desk.said[0] = {"status": "done", "changed_at": rfc3339(later_ms - 1)}
    sweep(later_ms)
    assert desk.directory.whats()
    sweep(later_ms + 4_000_000)
    assert desk.directory.whats() == []


def test_when_records_are_many_those_that_are_over_go_at_once_and_a_bound_is_kept() -> None:
    desk = Desk(max_broadcasts=4)
    for _ in range(4):
        desk.begin()
    with pytest.raises(Overloaded):
        desk.begin()
    desk.rig.turns.advance(1)
    desk.routes.sweep(desk.clock.wall_ms())
    assert desk.directory.whats() == []
    desk.begin()
