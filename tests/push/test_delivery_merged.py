"""While handing pushes to sessions fails, a user's pushes go out together."""

from __future__ import annotations

from heartcast.push.model import State
from heartcast.testing.pushes import PushRig


def test_hand_overs_that_fail_let_the_size_grow_and_good_ones_let_it_come_down() -> None:
    rig = PushRig(redeliver_after_s=1000, redeliver_at_most_s=1000)
    rig.connect("ann")
    reaches = rig.service.delivery._route._deliver
    rig.service.delivery._route._deliver = lambda *sent: 0
    for number in range(60):
        rig.push(title=str(number))
    rig.turns.advance(2.2)
    size = rig.service.delivery.health().batch_size
    assert size >= 2
    rig.service.delivery._route._deliver = reaches
    for _ in range(30):
        rig.push()
        rig.turns.advance(1)
    assert rig.service.delivery.health().batch_size == 1


def test_merged_pushes_wait_a_moment_and_go_out_in_one_turn_in_order() -> None:
    rig = PushRig()
    rig.connect("ann")
    rig.service.delivery.merging.size = 3
    first, second = rig.push(), rig.push()
    rig.turns.advance(0.1)
    assert rig.take_sent() == []
    rig.turns.advance(0.2)
    assert rig.take_sent() == [(first.id, 1, False), (second.id, 2, False)]
    more = [rig.push() for _ in range(3)]
    rig.turns.settle()
    assert [push_id for push_id, _, _ in rig.take_sent()] == [push.id for push in more]
    assert {push.state for push in (first, second, *more)} == {State.SENT}


def test_what_waited_for_a_user_who_left_is_caught_up() -> None:
    rig = PushRig()
    rig.connect("ann")
    rig.service.delivery.merging.size = 3
    push = rig.push()
    rig.turns.settle()
    rig.watched.clear()
    rig.turns.advance(1)
    assert rig.take_sent() == []
    assert rig.connect("ann").pushes == [push]  # type: ignore[union-attr]
