"""What clients say about pushes: has it, has everything so far, not now, never."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.push.acks import read
from heartcast.push.inbox import Kept, Mark
from heartcast.push.model import Push, State
from heartcast.testing.pushes import PushRig


@pytest.fixture
def rig() -> PushRig:
    return PushRig()


def say(rig: PushRig, user: str, **said: Any) -> None:
    rig.service.on_send(user, json.dumps(said).encode())


def sent_now(rig: PushRig, count: int = 1) -> list[Push]:
    pushes = [rig.push(title=str(n)) for n in range(count)]
    rig.turns.settle()
    return pushes


def epoch_of(rig: PushRig) -> str:
    return rig.inbox.box("ann").epoch


def test_one_acknowledgement_settles_everything_up_to_a_place(rig: PushRig) -> None:
    rig.connect("ann")
    pushes = sent_now(rig, 5)
    say(rig, "ann", ack_through={"offset": 3, "epoch": epoch_of(rig)})

    assert [push.state for push in pushes] == [State.DELIVERED] * 3 + [State.SENT] * 2


def test_more_than_a_slice_is_settled_by_one_acknowledgement(rig: PushRig) -> None:
    rig.connect("ann")
    pushes = sent_now(rig, 700)
    say(rig, "ann", ack_through={"offset": 700, "epoch": epoch_of(rig)})

    assert {push.state for push in pushes} == {State.DELIVERED}


def test_a_place_of_another_life_or_another_user_settles_nothing(rig: PushRig) -> None:
    rig.connect("ann")
    [push] = sent_now(rig)
    say(rig, "ann", ack_through={"offset": 1, "epoch": "another"})
    say(rig, "bob", ack_through={"offset": 1, "epoch": epoch_of(rig)})

    assert push.state is State.SENT


def test_what_was_never_sent_is_not_acknowledged_by_a_place_beyond_it(rig: PushRig) -> None:
    pushes = sent_now(rig, 3)
    rig.connect("ann", None, 2)
    say(rig, "ann", ack_through={"offset": 99, "epoch": epoch_of(rig)})

    assert [push.state for push in pushes] == [State.DELIVERED, State.DELIVERED, State.SENT]


def test_a_push_that_cannot_be_taken_now_comes_when_it_was_asked_for(rig: PushRig) -> None:
    rig.connect("ann")
    [push] = sent_now(rig)
    rig.take_sent()
    say(rig, "ann", nak=[{"id": push.id, "retry_after_ms": 60_000}])
    rig.turns.advance(59.0)
    assert rig.take_sent() == []

    rig.turns.advance(1.5)
    assert rig.take_sent() == [(push.id, 0, True)]


def test_it_may_come_sooner_than_by_itself(rig: PushRig) -> None:
    rig.connect("ann")
    [push] = sent_now(rig)
    rig.take_sent()
    say(rig, "ann", nak=[{"id": push.id, "retry_after_ms": 500}])
    rig.turns.advance(1.0)

    assert rig.take_sent() == [(push.id, 0, True)]


def test_one_that_is_held_does_not_hold_the_others(rig: PushRig) -> None:
    rig.connect("ann")
    held, other = sent_now(rig, 2)
    rig.take_sent()
    say(rig, "ann", nak=[{"id": held.id, "retry_after_ms": 3_600_000}])
    rig.turns.advance(rig.options.redeliver_after_s + 1)

    assert rig.take_sent() == [(other.id, 0, True)]


def test_a_rejected_push_is_a_dead_letter_with_its_reason_and_never_comes_again(rig: PushRig) -> None:
    rig.connect("ann")
    bad, good = sent_now(rig, 2)
    rig.take_sent()
    say(rig, "ann", nak=[{"id": bad.id, "reject": True, "reason": "cannot be shown"}])

    assert (bad.state, bad.reason) == (State.DEAD, "rejected")
    assert rig.service.dead.find(bad.id).detail == "cannot be shown"
    rig.turns.advance(100.0)
    assert {push_id for push_id, _, _ in rig.take_sent()} == {good.id}
    again = rig.connect("ann", Mark(0, epoch_of(rig)))
    assert isinstance(again, Kept)
    assert again.pushes == [good]


@pytest.mark.parametrize("user", ["bob", None])
def test_nobody_rejects_the_pushes_of_others(rig: PushRig, user: str | None) -> None:
    rig.connect("ann")
    [push] = sent_now(rig)
    rig.service.on_send(user, json.dumps({"nak": [{"id": push.id, "reject": True}]}).encode())

    assert push.state is State.SENT


def test_a_settled_push_cannot_be_rejected(rig: PushRig) -> None:
    rig.connect("ann")
    [push] = sent_now(rig)
    say(rig, "ann", ack=[push.id])
    say(rig, "ann", nak=[{"id": push.id, "reject": True}])

    assert push.state is State.DELIVERED
    assert len(rig.service.dead) == 0


@settings(deadline=None)
@given(
    st.binary(max_size=80)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(
        lambda value: json.dumps({"ack": value, "nak": value}).encode()
    )
)
def test_whatever_is_sent_is_read_or_passed_over(data: bytes) -> None:
    said = read(data)

    assert said is None or said.ack is not None


def test_a_message_about_something_else_is_counted(rig: PushRig) -> None:
    rig.service.on_send("ann", b'{"typing":true}')

    assert rig.service.bad_sends == 1
