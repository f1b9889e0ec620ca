"""To connected users and back: first deliveries, acknowledgements, redeliveries, catching up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heartcast.push.inbox import Kept, Mark, Missing
from heartcast.push.model import Push, State
from heartcast.testing.pushes import PushRig


@pytest.fixture
def rig() -> PushRig:
    return PushRig()


def ack(rig: PushRig, user: str, *pushes: Push) -> None:
    rig.service.on_send(user, json.dumps({"ack": [push.id for push in pushes]}).encode())


def sent_now(rig: PushRig, count: int = 1) -> list[Push]:
    pushes = [rig.push(title=str(n)) for n in range(count)]
    rig.turns.settle()
    return pushes


def test_a_connected_user_gets_the_push_at_once_with_its_id_and_offset(rig: PushRig) -> None:
    rig.connect("ann")
    push = rig.push(title="Hello", summary="world", url="https://example.org/1", extra=[1])
    rig.turns.settle()

    [(channel, data, offset, tags)] = rig.sent
    assert channel == "inbox:#ann"
    assert (offset, tags) == (1, {"id": push.id})
    assert json.loads(data) == {
        "id": push.id,
        "template": "news_v2",
        "title": "Hello",
        "body": "world",
        "url": "https://example.org/1",
        "payload": {"title": "Hello", "summary": "world", "url": "https://example.org/1", "extra": [1]},
        "sent_ms": push.accepted_ms,
    }
    assert (push.state, push.attempts) == (State.SENT, 1)


def test_a_strange_user_id_has_a_channel_that_clients_accept(rig: PushRig) -> None:
    rig.watched.add("inbox:#a%20b%2F%C3%BC")
    rig.push("a b/ü")
    rig.turns.settle()
    assert [sent[0] for sent in rig.sent] == ["inbox:#a%20b%2F%C3%BC"]


def test_an_acknowledged_push_is_delivered_and_leaves_the_inbox(rig: PushRig) -> None:
    rig.connect("ann")
    [push] = sent_now(rig)
    ack(rig, "ann", push, push)
    assert push.state is State.DELIVERED
    assert list(rig.inbox.kept()) == []
    assert rig.ends() == {State.DELIVERED: 1}

    rig.take_sent()
    rig.turns.advance(3600.0, step_s=1.0)
    assert rig.take_sent() == []


@pytest.mark.parametrize(
    ("user", "data"),
    [
        ("bob", None),
        (None, None),
        ("ann", b"{}"),
        ("ann", b'{"ack":"x"}'),
        ("ann", b"\xff"),
        ("ann", b'{"ack":["nope"]}'),
    ],
)
def test_what_is_no_acknowledgement_of_this_user_settles_nothing(
    rig: PushRig, user: str | None, data: bytes | None
) -> None:
    rig.connect("ann")
    [push] = sent_now(rig)
    rig.service.on_send(user, data if data is not None else json.dumps({"ack": [push.id]}).encode())
    assert push.state is State.SENT


def test_an_acknowledgement_of_what_is_still_queued_is_not_believed(rig: PushRig) -> None:
    push = rig.push()
    ack(rig, "ann", push)
    rig.turns.settle()
    assert push.state is State.SENT


def test_what_is_not_acknowledged_goes_out_again_marked_without_offset_and_ever_rarer(rig: PushRig) -> None:
    rig.connect("ann")
    [push] = sent_now(rig)
    assert rig.take_sent() == [(push.id, 1, False)]
    times = []
    for second in range(1, 1000):
        rig.turns.advance(1.0, step_s=0.5)
        if sent := rig.take_sent():
            assert sent == [(push.id, 0, True)]
            times.append(second)

    pauses = [later - earlier for earlier, later in zip([0, *times], times, strict=False)]
    expected = [10, 20, 40, 80, 160, 300, 300]
    assert [pytest.approx(pause, abs=1.5) for pause in pauses] == expected
    assert push.attempts == 1 + len(times)


def test_a_fresh_push_is_not_sent_again_with_an_old_one(rig: PushRig) -> None:
    rig.connect("ann")
    [old] = sent_now(rig)
    rig.turns.advance(8.0)
    [fresh] = sent_now(rig)
    rig.take_sent()
    rig.turns.advance(3.0)
    assert rig.take_sent() == [(old.id, 0, True)]
    ack(rig, "ann", old)
    rig.turns.advance(10.5)
    assert rig.take_sent() == [(fresh.id, 0, True)]


def test_a_push_that_comes_just_before_the_timer_is_sent_again_a_pause_after_it_came(rig: PushRig) -> None:
    rig.connect("ann")
    [first] = sent_now(rig)
    rig.turns.advance(9.0)
    [late] = sent_now(rig)
    ack(rig, "ann", first)
    rig.take_sent()
    seconds = 0.0
    while not (sent := rig.take_sent()):
        rig.turns.advance(0.5)
        seconds += 0.5

    assert sent == [(late.id, 0, True)]
    assert seconds == pytest.approx(10, abs=1.5)


def test_nobody_is_sent_anything_again_after_leaving(rig: PushRig) -> None:
    rig.connect("ann")
    sent_now(rig)
    rig.watched.clear()
    rig.take_sent()
    rig.turns.advance(600.0, step_s=1.0)
    assert rig.take_sent() == []
    assert rig.service.delivery._follows == {}


def test_a_user_who_comes_back_gets_what_waits_from_before_the_oldest(rig: PushRig) -> None:
    pushes = sent_now(rig, 5)
    ack(rig, "ann", pushes[0])
    found = rig.connect("ann", limit=3)

    assert isinstance(found, Kept)
    assert [push.offset for push in found.pushes] == [2, 3, 4]
    assert (found.start.offset, found.top.offset) == (1, 5)
    assert all(push.data for push in found.pushes)
    assert [push.attempts for push in pushes] == [0, 1, 1, 1, 0]
    rig.turns.advance(11.0)
    assert {push_id for push_id, _, _ in rig.take_sent()} == {push.id for push in pushes[1:]}


def test_after_a_reconnect_with_a_position_only_what_is_newer_comes(rig: PushRig) -> None:
    rig.connect("ann")
    pushes = sent_now(rig, 3)
    rig.watched.clear()
    pushes += sent_now(rig, 2)
    top = rig.inbox._top(rig.inbox.box("ann"))

    found = rig.connect("ann", Mark(3, top.epoch))
    assert isinstance(found, Kept)
    assert found.pushes == pushes[3:]


def test_a_lost_position_is_made_up_for_by_redeliveries_in_order_and_new_ones_wait_behind(
    rig: PushRig,
) -> None:
    pushes = sent_now(rig, 250)
    assert isinstance(rig.connect("ann", Mark(7, "another epoch")), Missing)
    newer = sent_now(rig)
    assert rig.take_sent() == []

    rig.turns.advance(1.0)
    sent = rig.take_sent()
    assert sent == [*((push.id, 0, True) for push in pushes), (newer[0].id, 251, False)]
    newest = sent_now(rig)
    assert rig.take_sent() == [(newest[0].id, 252, False)]


def test_a_push_that_cannot_be_rendered_fails_with_its_reason_and_spares_the_rest(rig: PushRig) -> None:
    bad, _ = rig.service.accept("ann", "digest", {"items": ["x"], "title": "ok"})
    bad.payload = bad.payload.replace(b'"items":[', b'"items":["' + b"y" * 70_000 + b'",')
    good = rig.push()
    rig.turns.settle()
    found = rig.connect("ann")

    assert isinstance(found, Kept)
    assert found.pushes == [good]
    assert (bad.state, bad.reason) == (State.DEAD, "rendering")
    assert list(rig.inbox.kept()) == [good]


def test_a_hub_that_raises_loses_nothing(rig: PushRig) -> None:
    def broken(*_: Any) -> int:
        raise RuntimeError("socket went away")

    rig.connect("ann")
    rig.service.delivery._route._deliver = broken  # type: ignore[method-assign]
    [push] = sent_now(rig)
    assert push.state is State.SENT
    assert rig.service.delivery.broken == 1
    assert rig.service.pool.owners[rig.service.shard_of(push)].crashes == 0

    rig.service.delivery._route._deliver = rig._deliver  # type: ignore[method-assign]
    rig.turns.advance(11.0)
    assert rig.take_sent() == [(push.id, 0, True)]


def test_looking_is_not_sending(rig: PushRig) -> None:
    [push] = sent_now(rig)
    answers: list[Kept | Missing] = []
    rig.service.delivery.look("ann", 0, 10, answers.append)
    assert isinstance(answers[0], Kept)
    assert answers[0].pushes == [push]
    assert push.attempts == 0
