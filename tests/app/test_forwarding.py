"""Requests to owners of shards: a moment's patience where nothing can have happened, none where it can."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from heartcast.api.route import Answer, Call, Identity
from heartcast.app import forwarding as module
from heartcast.app.forwarding import ASK, MOVING_S, Forwarding
from heartcast.cluster.carrier.memory import MemoryCarrier, MemoryStreet
from heartcast.cluster.post import Post
from heartcast.testing import ManualClock
from heartcast.testing.turns import ManualTurns

KEY = ("POST", "/push")
SHARD = 7


class Node:
    """A node that sees who owns the shard, and may have it itself."""

    def __init__(self, name: str, street: MemoryStreet, turns: ManualTurns, clock: ManualClock) -> None:
        self.name = name
        self.handled: list[bytes] = []
        self.owner: str | None = None
        self.host: Any = None
        self.post = Post(name, MemoryCarrier(street), turns.call_later)
        self.membership = SimpleNamespace(on_change=[], node=name, owner_of=lambda shard: self.owner)
        hosts = SimpleNamespace(
            membership=self.membership, post=self.post, find=lambda shard: self.host,
            parts=SimpleNamespace(clock=clock, loop=turns),
        )  # fmt: skip
        self.forwarding = Forwarding(cast("Any", hosts))

    def gain(self) -> None:
        """Have the shard, loaded."""
        self.host = SimpleNamespace(handlers={KEY: SimpleNamespace(handler=self._handle)})

    def see(self, owner: str | None) -> None:
        """The registry says who owns the shard."""
        self.owner = owner
        for told in self.membership.on_change:
            told()

    def _handle(self, call: Call) -> Answer:
        self.handled.append(call.body)
        return Answer(202, self.name.encode())

    def ask(self, body: bytes = b"{}") -> list[Answer]:
        """Send a request; the list that gets its answer."""
        answers: list[Answer] = []
        call = Call(body=body, identity=Identity(None, True, frozenset()), respond=answers.append)
        self.forwarding.send(SHARD, KEY, call)
        return answers


@pytest.fixture
def turns(clock: ManualClock) -> ManualTurns:
    return ManualTurns(clock)


@pytest.fixture
async def nodes(turns: ManualTurns, clock: ManualClock) -> AsyncIterator[tuple[Node, Node]]:
    street = MemoryStreet(turns.call_soon)
    asking, owner = (Node(name, street, turns, clock) for name in ("asking", "owner"))
    for node in (asking, owner):
        await node.post.open()
    yield asking, owner
    for node in (asking, owner):
        await node.post.close()


def code(answers: list[Answer]) -> str:
    [answer] = answers
    assert answer.status == 503
    return str(json.loads(answer.body)["code"])


def test_what_another_node_owns_is_answered_by_that_node(
    nodes: tuple[Node, Node], turns: ManualTurns
) -> None:
    asking, owner = nodes
    owner.gain()
    asking.see("owner")
    answers = asking.ask(b"1")
    turns.settle()
    assert [answer.body for answer in answers] == [b"owner"]
    assert owner.handled == [b"1"]


def test_while_nobody_owns_the_shard_a_request_waits_and_goes_to_the_next_owner_as_soon_as_it_is_seen(
    nodes: tuple[Node, Node], turns: ManualTurns
) -> None:
    asking, owner = nodes
    answers = asking.ask()
    turns.advance(1.0)
    assert answers == []
    owner.gain()
    asking.see("owner")
    turns.settle()
    assert [answer.body for answer in answers] == [b"owner"]
    assert len(owner.handled) == 1


def test_a_request_waits_for_a_shard_that_its_own_node_is_loading(
    nodes: tuple[Node, Node], turns: ManualTurns
) -> None:
    asking, _ = nodes
    asking.see("asking")
    answers = asking.ask()
    turns.advance(0.5)
    assert answers == []
    asking.gain()
    turns.advance(0.25)
    assert [answer.body for answer in answers] == [b"asking"]


def test_an_owner_that_has_not_loaded_the_shard_says_so_and_is_asked_again(
    nodes: tuple[Node, Node], turns: ManualTurns
) -> None:
    asking, owner = nodes
    asking.see("owner")
    answers = asking.ask()
    turns.advance(0.5)
    assert answers == []
    owner.gain()
    turns.advance(0.25)
    assert [answer.body for answer in answers] == [b"owner"]
    assert len(owner.handled) == 1


def test_a_question_that_reached_nobody_is_asked_again_at_the_next_owner(
    nodes: tuple[Node, Node], turns: ManualTurns
) -> None:
    asking, owner = nodes
    asking.see("dead")
    answers = asking.ask()
    turns.advance(0.5)
    owner.gain()
    asking.see("owner")
    turns.settle()
    assert [answer.body for answer in answers] == [b"owner"]


def test_the_wait_ends_with_503_when_nobody_takes_the_shard(
    nodes: tuple[Node, Node], turns: ManualTurns
) -> None:
    asking, _ = nodes
    answers = asking.ask()
    turns.advance(MOVING_S - 0.1)
    assert answers == []
    turns.advance(0.4)
    assert code(answers) == "shard_moving"


def test_an_owner_that_stays_silent_is_not_asked_twice_as_it_may_have_done_it(
    nodes: tuple[Node, Node], turns: ManualTurns
) -> None:
    asking, owner = nodes
    asked: list[bytes] = []
    owner.post._handlers[ASK] = lambda sender, body, answer: asked.append(body)
    asking.see("owner")
    answers = asking.ask()
    turns.advance(0.5)
    asking.see("asking")
    asking.gain()
    turns.advance(10)
    assert code(answers) == "owner_silent"
    assert len(asked) == 1
    assert asking.handled == []


def test_only_so_many_requests_wait(
    nodes: tuple[Node, Node], turns: ManualTurns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    asking, owner = nodes
    answers = [asking.ask() for _ in range(3)]
    assert [len(answer) for answer in answers] == [0, 0, 1]
    assert code(answers[2]) == "shard_moving"
    owner.gain()
    asking.see("owner")
    turns.settle()
    assert [answer.body for found in answers[:2] for answer in found] == [b"owner", b"owner"]
