"""Taking back and changing: 200 means never sent, whatever it raced with."""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest

from heartcast.core.errors import Conflict, HeartcastError, InvalidInput, NotFound, StoreUnavailable
from heartcast.push.journal.memory import MemoryJournal
from heartcast.push.model import Extra, Push, State
from heartcast.testing.pushes import PushRig

RACES = int(os.environ.get("SOAK_RACES", "20000"))


class FullJournal(MemoryJournal):
    """Refuses everything while ``is_full``."""

    is_full = False

    def write(self, change: Any, done: Any) -> None:
        if self.is_full and done is not None:
            done(StoreUnavailable("disk full"))
        elif not self.is_full:
            super().write(change, done)


def cancel(rig: PushRig, push: Push) -> bool:
    """Whether it was taken back."""
    answers: list[object] = []
    try:
        rig.service.recall.cancel(push, tuple, answers.append)
    except Conflict:
        return False
    assert answers == [None]
    return True


def change(rig: PushRig, push: Push, **values: Any) -> object:
    answers: list[object] = []
    terms: dict[str, Any] = {"payload": None, "due_ms": None, "ttl_ms": None} | values
    rig.service.recall.change(push, **terms, notes=tuple, done=answers.append)
    [answer] = answers
    return answer


def found(rig: PushRig, push_id: str) -> Push | HeartcastError:
    answers: list[Push | HeartcastError] = []
    rig.service.recall.find(push_id, answers.append)
    [answer] = answers
    return answer


def test_cancel_races_dispatch_and_exactly_one_of_them_wins() -> None:
    rig, random = PushRig(max_inbox=10**6, max_ended=10, slice_pushes=3), Random(7)
    for user in range(10):
        rig.connect(str(user))
    sent: set[str] = set()
    cancelled: set[str] = set()
    waiting: list[Push] = []
    accepted = 0
    while accepted < RACES or waiting:
        for _ in range(random.randrange(6)):
            if accepted < RACES:
                accepted += 1
                due_ms = rig.clock.wall_ms() + random.randrange(1, 300) if random.random() < 0.2 else 0
                waiting.append(rig.special(random.randrange(20), due_ms=due_ms))
        rig.inbox.is_slow = random.random() < 0.5
        for _ in range(random.randrange(4)):
            rig.turns.turn()
        if random.random() < 0.3:
            rig.inbox.answer()
        if random.random() < 0.3:
            rig.inbox.refusals = [StoreUnavailable("busy")]
        if random.random() < 0.1 or accepted >= RACES:
            rig.turns.advance(0.05)
        random.shuffle(waiting)
        for push in [waiting.pop() for _ in range(min(len(waiting), random.randrange(6)))]:
            # One of a user who is away may be taken back from the inbox as well.
            if cancel(rig, push):
                cancelled.add(push.id)
        sent |= {push_id for push_id, _, _ in rig.take_sent()}
    rig.inbox.is_slow = False
    rig.inbox.refusals = []
    rig.inbox.answer()
    rig.turns.advance(1.0)
    for user in range(10, 20):
        answer = rig.connect(str(user), limit=10**6)
        sent |= {push.id for push in answer.pushes}  # type: ignore[union-attr]
    sent |= {push_id for push_id, _, _ in rig.take_sent()}

    assert not sent & cancelled
    assert len(sent) + len(cancelled) == RACES
    assert min(len(sent), len(cancelled)) > RACES / 20


def test_what_waits_in_the_inbox_of_somebody_away_can_be_taken_back_and_leaves_no_gap() -> None:
    rig = PushRig()
    rig.connect("ann")
    kept = rig.push()
    rig.turns.settle()
    top = rig.inbox._top(rig.inbox.box("ann"))
    rig.watched.clear()
    taken_back = rig.push()
    rig.turns.settle()

    assert taken_back.state is State.SENT
    assert cancel(rig, taken_back)
    answer = rig.connect("ann", top)
    assert answer.pushes == []  # type: ignore[union-attr]
    assert kept.state is State.SENT


def test_cancelling_again_is_fine_and_cancelling_what_ended_or_left_is_not() -> None:
    rig = PushRig()
    push = rig.push("bob")
    assert cancel(rig, push)
    assert cancel(rig, push)
    assert rig.ends() == {State.CANCELLED: 1}

    rig.connect("ann")
    left = rig.push()
    rig.turns.settle()
    with pytest.raises(Conflict) as caught:
        rig.service.recall.cancel(left, tuple, print)
    assert caught.value.code == "push_on_its_way"
    rig.service.on_send("ann", b'{"ack":["%s"]}' % left.id.encode())
    with pytest.raises(Conflict) as caught:
        rig.service.recall.cancel(left, tuple, print)
    assert caught.value.code == "push_ended"


def test_a_changed_push_leaves_as_it_was_changed_and_when() -> None:
    rig = PushRig()
    rig.connect("ann")
    push = rig.special(due_ms=rig.clock.wall_ms() + 60_000)
    assert change(rig, push, payload={"title": "new"}, due_ms=rig.clock.wall_ms() + 5_000) is None
    rig.turns.advance(4.5)
    assert rig.sent == []
    rig.turns.advance(1.0)
    assert b'"title":"new"' in rig.sent[0][1]
    assert push.state is State.SENT
    with pytest.raises(Conflict):
        change(rig, push, ttl_ms=5)
    # The old time means nothing any more.
    rig.turns.advance(70.0, step_s=1.0)
    assert [again for _, _, again in rig.take_sent()].count(False) == 1


def test_a_queued_push_can_be_put_off_and_a_deferred_one_hurried() -> None:
    rig = PushRig()
    push = rig.push()
    change(rig, push, due_ms=rig.clock.wall_ms() + 1_000)
    rig.turns.settle()
    assert push.state is State.DEFERRED
    change(rig, push, due_ms=rig.clock.wall_ms())
    rig.turns.settle()
    assert push.state is State.SENT
    assert rig.service.waiting.deferred == 0


def test_a_change_that_does_not_fit_changes_nothing() -> None:
    rig = PushRig()
    push = rig.push()
    before = push.payload
    with pytest.raises(InvalidInput):
        change(rig, push, payload={"title": 7}, due_ms=rig.clock.wall_ms() + 1_000)
    assert (push.payload, push.state) == (before, State.QUEUED)


def test_a_change_that_could_not_be_written_is_undone() -> None:
    journal = FullJournal()
    rig = PushRig(journal=journal)
    due_ms = rig.clock.wall_ms() + 2_000
    push = rig.special(due_ms=due_ms, ttl_ms=9_000)
    before = push.payload
    journal.is_full = True
    answer = change(rig, push, payload={"title": "new"}, due_ms=due_ms + 60_000, ttl_ms=1)
    assert isinstance(answer, StoreUnavailable)
    journal.is_full = False
    assert (push.payload, push.due_ms, push.asked.ttl_ms) == (before, due_ms, 9_000)
    assert rig.service.ledger.kept_bytes == len(before)
    rig.turns.advance(2.5)
    assert push.state is State.SENT


def test_a_far_push_is_found_shown_changed_and_cancelled_like_any_other() -> None:
    rig = PushRig(near_s=10.0)
    shown = rig.special(due_ms=rig.clock.wall_ms() + 3_600_000)
    taken_back = rig.special("bob", due_ms=rig.clock.wall_ms() + 3_600_000)
    assert (rig.service.waiting.far, rig.service.waiting.near) == (2, 0)
    assert rig.service.ledger.living(shown.id) is None

    assert isinstance(found(rig, shown.id), Push)
    rig.turns.advance(0.3)
    assert rig.service.waiting.far == 2
    push = found(rig, taken_back.id)
    assert isinstance(push, Push)
    assert cancel(rig, push)
    rig.turns.advance(0.3)
    assert rig.service.waiting.far == 1

    push = found(rig, shown.id)
    assert isinstance(push, Push)
    change(rig, push, due_ms=rig.clock.wall_ms() + 2_000)
    rig.turns.advance(2.5)
    assert push.state is State.SENT
    assert (rig.service.waiting.far, rig.service.waiting.near) == (0, 0)
    assert isinstance(found(rig, "01HF0000000000000000000000"), NotFound)


def test_far_pushes_come_near_in_pages_and_leave_at_their_time() -> None:
    rig = PushRig(near_s=10.0, max_inbox=5000, max_queued_per_shard=5000)
    due_ms = rig.clock.wall_ms() + 100_000
    pushes = [rig.special(title=str(n), due_ms=due_ms) for n in range(2_500)]
    assert rig.service.waiting.far == 2_500
    rig.turns.advance(99.0, step_s=0.5)
    assert rig.service.waiting.far == 0
    assert rig.service.waiting.near == 2_500
    assert rig.ends() == {}
    rig.turns.advance(1.5)
    assert rig.service.waiting.deferred == 0
    box = rig.inbox.box("ann")
    assert box is not None
    assert [push.id for push in box.pushes] == [push.id for push in pushes]


def test_when_too_many_are_far_the_next_is_refused() -> None:
    rig = PushRig(near_s=10.0, max_far=1)
    extra = Extra(due_ms=rig.clock.wall_ms() + 3_600_000)
    rig.service.accept("ann", "news_v2", {"title": "x"}, extra)
    with pytest.raises(HeartcastError) as caught:
        rig.service.accept("ann", "news_v2", {"title": "x"}, Extra(due_ms=extra.due_ms))
    assert caught.value.code == "pushes_full"
    assert rig.service.ledger.accepted == 1
