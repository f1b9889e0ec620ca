"""From acceptance into the inbox: order, bounds, failures, and that nothing is lost on the way."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.core.errors import (
    BodyTooLarge,
    HeartcastError,
    InvalidInput,
    NotFound,
    Overloaded,
    StoreUnavailable,
    Unavailable,
)
from heartcast.push.gates import Verdict
from heartcast.push.gates.life import expired
from heartcast.push.model import Priority, Push, State
from heartcast.testing.pushes import PushRig

BROKEN = StoreUnavailable("disk full")


@pytest.fixture
def rig() -> PushRig:
    return PushRig()


def mailbox(rig: PushRig, user: str) -> list[Push]:
    box = rig.inbox.box(user)
    return list(box.pushes) if box else []


# ── the way in ───────────────────────────────────────────────────────────────


def test_a_push_waits_in_its_shard_and_then_in_the_users_inbox(rig: PushRig) -> None:
    push = rig.push(12345)
    assert push.state is State.QUEUED
    assert rig.service.pool.shards[12345 % 64].waiting == 1

    rig.turns.settle()
    assert push.state is State.SENT
    assert push.offset == 1
    assert rig.service.queued == 0
    assert mailbox(rig, "12345") == [push]


def test_a_number_and_its_text_are_one_user_in_one_shard(rig: PushRig) -> None:
    pushes = [rig.push(77), rig.push("77")]
    rig.turns.settle()
    assert mailbox(rig, "77") == pushes
    assert [push.user_id for push in pushes] == [77, "77"]
    assert {rig.service.shard_of(push) for push in pushes} == {77 % 64}


@pytest.mark.parametrize(
    ("user", "template", "payload", "error", "code", "pointer"),
    [
        ("", "news_v2", {"title": "x"}, InvalidInput, "invalid_id", "/user_id"),
        ("a\x00b", "news_v2", {"title": "x"}, InvalidInput, "invalid_id", "/user_id"),
        ("u" * 201, "news_v2", {"title": "x"}, InvalidInput, "invalid_id", "/user_id"),
        (-1, "news_v2", {"title": "x"}, InvalidInput, "invalid_id", "/user_id"),
        (1 << 63, "news_v2", {"title": "x"}, InvalidInput, "invalid_id", "/user_id"),
        ("ann", "nope", {"title": "x"}, NotFound, "unknown_template", None),
        ("ann", "news_v2@9", {"title": "x"}, NotFound, "unknown_template", None),
        ("ann", "news_v2", {}, InvalidInput, "payload_does_not_fit", "/payload/title"),
        ("ann", "news_v2", {"title": 5}, InvalidInput, "payload_does_not_fit", "/payload/title"),
        ("ann", "news_v2", {"title": "x" * 301}, InvalidInput, "payload_does_not_fit", "/payload/title"),
        ("ann", "news_v2", {"title": "x", "url": 5}, InvalidInput, "payload_does_not_fit", "/payload/url"),
        ("ann", "news_v2", {"title": "x", "y": "z" * 20_000}, BodyTooLarge, "payload_too_large", "/payload"),
    ],
)
def test_what_cannot_be_pushed_is_refused_with_code_and_pointer(
    rig: PushRig,
    user: str | int,
    template: str,
    payload: dict[str, object],
    error: type,
    code: str,
    pointer: str,
) -> None:
    with pytest.raises(error) as caught:
        rig.service.accept(user, template, payload)
    assert caught.value.code == code
    assert getattr(caught.value, "pointer", None) == pointer
    assert rig.service.ledger.accepted == 0
    assert rig.service.queued == 0


def test_a_full_shard_refuses_and_keeps_what_it_has() -> None:
    rig = PushRig(max_queued_per_shard=3)
    taken = [rig.push(64 * n) for n in range(3)]
    with pytest.raises(Overloaded) as caught:
        rig.push(64)
    assert caught.value.code == "shard_full"
    assert caught.value.retry_after_s >= 1
    rig.push(1)

    rig.turns.settle()
    assert all(push.state is State.SENT for push in taken)
    assert rig.push(64)
    assert rig.service.refused == 1


def test_when_everything_is_full_new_pushes_are_refused_until_one_ends() -> None:
    rig = PushRig(max_kept=2)
    push, _ = rig.push("ann"), rig.push("bob")
    rig.turns.settle()
    with pytest.raises(Overloaded) as caught:
        rig.push("cid")
    assert caught.value.code == "pushes_full"

    rig.service.on_send("ann", b'{"ack":["%s"]}' % push.id.encode())
    assert rig.push("cid")


def test_payload_bytes_are_bounded_together_and_given_back() -> None:
    rig = PushRig(max_kept_bytes=300)
    push = rig.push("ann", "x" * 200)
    with pytest.raises(Overloaded):
        rig.push("bob", "x" * 200)
    rig.turns.settle()
    rig.service.on_send("ann", b'{"ack":["%s"]}' % push.id.encode())
    assert rig.service.ledger.kept_bytes == 0
    assert rig.push("bob", "x" * 200)


def test_a_server_that_stops_accepts_nothing_and_works_off_what_it_has(rig: PushRig) -> None:
    push = rig.push()
    rig.service.refuse()
    with pytest.raises(Unavailable) as caught:
        rig.push()
    assert caught.value.code == "stopping"
    rig.turns.settle()
    assert push.state is State.SENT


# ── working off ──────────────────────────────────────────────────────────────


def test_one_turn_of_the_loop_works_off_one_slice_at_most() -> None:
    rig = PushRig(slice_pushes=10)
    for user in range(100):
        rig.push(user)
    assert rig.turns.turn()
    assert rig.service.queued == 90
    rig.turns.settle()
    assert rig.service.queued == 0


def test_workers_own_equal_ranges_of_shards(rig: PushRig) -> None:
    owners = [worker.id for worker in rig.service.pool.owners]
    assert owners == [shard // 8 for shard in range(64)]


def test_a_lost_wake_up_costs_no_more_than_a_tick(rig: PushRig) -> None:
    push = rig.push(5)
    # As if the wake-up had never happened.
    rig.service.pool.shards[5].is_listed = False
    rig.service.pool.owners[5].ready.clear()
    rig.turns.settle()
    assert push.state is State.QUEUED
    rig.turns.advance(rig.options.tick_s)
    assert push.state is State.SENT


def test_what_waited_too_long_in_its_shard_expires(rig: PushRig) -> None:
    push = rig.push()
    rig.clock.advance(72 * 3600 + 1)
    rig.turns.settle()
    assert (push.state, push.reason) == (State.EXPIRED, "ttl")
    assert mailbox(rig, "ann") == []


def test_the_ttl_gate_holds_back_only_what_is_older() -> None:
    gate = expired(1_000).ask
    push = PushRig().push()
    assert gate(push, push.accepted_ms + 1_000) is None
    assert gate(push, push.accepted_ms + 1_001) == Verdict(State.EXPIRED, "ttl")


def test_an_inbox_that_refuses_is_asked_again_in_order(rig: PushRig) -> None:
    rig.inbox.refusals = [BROKEN, BROKEN]
    first = rig.push(title="1")
    rig.turns.settle()
    second = rig.push(title="2")
    rig.turns.settle()
    assert first.state is second.state is State.QUEUED
    assert rig.service.queued == 2

    rig.turns.advance(1.0)
    assert mailbox(rig, "ann") == [first, second]
    assert sum("disk full" in report for report in rig.reports) == 2


def test_while_a_slow_inbox_has_a_batch_the_shard_sends_no_other(rig: PushRig) -> None:
    rig.inbox.is_slow = True
    first = rig.push(title="1")
    rig.turns.settle()
    second = rig.push(title="2")
    rig.turns.advance(1.0)
    assert len(rig.inbox.held) == 1
    assert rig.service.queued == 2

    rig.inbox.answer()
    rig.turns.settle()
    rig.inbox.answer()
    assert mailbox(rig, "ann") == [first, second]
    assert rig.service.queued == 0


def poisonous(push: Push, now_ms: int) -> Verdict | None:
    if b"poison" in push.payload:
        raise RuntimeError("boom")
    return None


def test_a_poisoned_push_fails_alone_and_the_rest_goes_on() -> None:
    rig = PushRig(poisonous)
    before, poison, after = rig.push(title="1"), rig.push(title="poison"), rig.push(title="2")
    elsewhere = rig.push("bob")
    rig.turns.advance(2.0)

    assert (poison.state, poison.reason) == (State.DEAD, "worker_crashed")
    assert mailbox(rig, "ann") == [before, after]
    assert elsewhere.state is State.SENT
    shard = rig.service.pool.shards[rig.service.shard_of(poison)]
    assert rig.service.pool.owners[shard.id].crashes == 2
    assert shard.error_rate == pytest.approx(1 / 3)
    assert any("boom" in report for report in rig.reports)


def test_a_worker_that_keeps_failing_rests_longer_each_time_and_works_again_after() -> None:
    rig = PushRig(poisonous)
    for _ in range(6):
        rig.push(title="poison")
    crashes = []
    for _ in range(100):
        rig.turns.advance(0.05)
        crashes.append(sum(worker.crashes for worker in rig.service.pool.workers))
    rest = [crashes.count(n) for n in range(2, 6)]
    assert rest == sorted(rest)
    assert rest[-1] >= 5 * rest[0]

    rig.turns.advance(10.0)
    assert rig.ends() == {State.DEAD: 6}
    healthy = rig.push()
    rig.turns.advance(6.0)
    assert healthy.state is State.SENT
    assert all(worker.crashes_in_a_row == 0 for worker in rig.service.pool.workers)


def test_a_full_mailbox_expires_its_own_oldest() -> None:
    rig = PushRig(max_inbox=2)
    pushes = [rig.push(title=str(n)) for n in range(5)]
    other = rig.push("bob")
    rig.turns.settle()
    assert [(push.state, push.reason) for push in pushes[:3]] == [(State.EXPIRED, "inbox_full")] * 3
    assert mailbox(rig, "ann") == pushes[3:]
    assert other.state is State.SENT


def test_what_nobody_fetched_expires_in_the_inbox(rig: PushRig) -> None:
    old = rig.push()
    rig.turns.settle()
    rig.clock.advance(72 * 3600)
    young = rig.push()
    rig.turns.advance(3.0)
    assert (old.state, old.reason) == (State.EXPIRED, "ttl")
    assert mailbox(rig, "ann") == [young]


# ── the account ──────────────────────────────────────────────────────────────


def test_an_ended_push_is_remembered_for_a_day(rig: PushRig) -> None:
    push = rig.push()
    rig.turns.settle()
    rig.service.on_send("ann", b'{"ack":["%s"]}' % push.id.encode())
    rig.turns.advance(2.0)
    assert rig.service.ledger.find(push.id) is push

    rig.clock.advance(24 * 3600)
    rig.turns.advance(2.0)
    with pytest.raises(NotFound) as caught:
        rig.service.ledger.find(push.id)
    assert caught.value.code == "push_forgotten"


def test_the_records_of_ended_pushes_are_bounded() -> None:
    rig = PushRig(max_ended=10, max_inbox=1)
    pushes = [rig.push() for _ in range(30)]
    rig.turns.settle()
    known = [push for push in pushes if push.state.is_terminal and push.id in rig.service.ledger._ended]
    assert known == pushes[19:29]


def test_health_says_that_a_shard_stands_still_only_when_something_waits_and_nothing_moves(
    rig: PushRig,
) -> None:
    rig.turns.advance(3600.0, step_s=1.0)
    assert not any(shard.is_stalled for shard in rig.service.health())

    rig.inbox.is_slow = True
    rig.push(5)
    rig.turns.advance(29.0)
    [waiting] = [shard for shard in rig.service.health() if shard.pending + shard.active]
    assert (waiting.id, waiting.pending, waiting.active, waiting.is_stalled) == (5, 0, 1, False)
    assert waiting.oldest_ms == pytest.approx(29_000, abs=100)

    rig.turns.advance(2.0)
    assert [shard.id for shard in rig.service.health() if shard.is_stalled] == [5]
    rig.inbox.answer()
    rig.turns.settle()
    assert not any(shard.is_stalled for shard in rig.service.health())


specials = st.fixed_dictionaries(
    {
        "due_ms": st.sampled_from([0, 0, 300, 5_000]),
        "ttl_ms": st.sampled_from([0, 0, 200, 4_000]),
        "priority": st.sampled_from(list(Priority)),
        "collapse_key": st.sampled_from(["", "", "score"]),
    }
)
steps = st.one_of(
    st.tuples(st.just("push"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("special"), st.integers(0, 5), specials),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("time"), st.floats(0, 2)),
    st.tuples(st.just("jump"), st.integers(-1000, 3000)),
    st.tuples(st.just("refuse"), st.integers(1, 3)),
    st.tuples(st.just("slow"), st.booleans()),
    st.tuples(st.just("connect"), st.integers(0, 5)),
    st.tuples(st.just("leave"), st.integers(0, 5)),
    st.tuples(st.just("ack"), st.integers(0, 5), st.integers(0, 10)),
)


# No deadline: a busy machine must not look like a lost push.
@settings(deadline=None)
@given(st.lists(steps, max_size=60))
def test_every_accepted_push_waits_in_one_place_or_ended_once_and_order_holds(script: list[tuple]) -> None:  # type: ignore[type-arg]
    rig = PushRig(
        poisonous,
        max_inbox=4,
        max_queued_per_shard=6,
        max_kept=20,
        ttl_s=600.0,
        slice_pushes=3,
        shards=4,
        workers=2,
        near_s=1.0,
    )
    accepted: list[Push] = []
    for name, *arguments in script:
        if name == "push":
            user, is_poison = arguments
            try:
                accepted.append(rig.push(user, "poison" if is_poison else "fine"))
            except Overloaded:
                continue
        elif name == "special":
            user, asked = arguments
            due_ms = asked["due_ms"] and rig.clock.wall_ms() + asked["due_ms"]
            try:
                accepted.append(rig.special(user, "fine", **asked | {"due_ms": due_ms}))
            except Overloaded:
                continue
        elif name == "cancel":
            for push in accepted[arguments[0] : arguments[0] + 1]:
                with contextlib.suppress(HeartcastError):
                    rig.service.recall.find(push.id, lambda found: cancel(rig, found))
        elif name == "time":
            rig.turns.advance(arguments[0])
        elif name == "jump":
            rig.clock.step_wall(arguments[0])
        elif name == "refuse":
            rig.inbox.refusals = [BROKEN] * arguments[0]
        elif name == "slow":
            [rig.inbox.is_slow] = arguments
            rig.inbox.answer()
        elif name == "connect":
            rig.connect(str(arguments[0]))
        elif name == "leave":
            rig.watched.discard(f"inbox:#{arguments[0]}")
        else:
            user, index = arguments
            for push in accepted[index : index + 1]:
                rig.service.on_send(str(user), b'{"ack":["%s"]}' % push.id.encode())
        check_conservation(rig, accepted)

    rig.inbox.is_slow = False
    rig.inbox.refusals = []
    rig.inbox.answer()
    rig.turns.advance(60.0, step_s=0.25)
    check_conservation(rig, accepted)
    assert rig.service.queued == 0
    # In order, for each user, whatever refused, crashed or was slow in between; what had to
    # wait for a time joins the order when its time has come.
    for user in {push.user for push in accepted}:
        stored = sorted(
            (push for push in accepted if push.user == user and push.offset and not push.due_ms),
            key=lambda push: push.offset,
        )
        assert [push.id for push in stored] == sorted(push.id for push in stored)


def cancel(rig: PushRig, found: Push | HeartcastError) -> None:
    if isinstance(found, Push):
        rig.service.recall.cancel(found, tuple, lambda error: None)


def check_conservation(rig: PushRig, accepted: list[Push]) -> None:
    ledger = rig.service.ledger
    live = [push for push in accepted if ledger.living(push.id)]
    ended = [push for push in accepted if push.id in ledger._ended]
    far = [push for push in accepted if push.id in rig.service.journal._far]  # type: ignore[attr-defined]
    assert len(live) + len(ended) + len(far) == len(accepted) == ledger.accepted
    assert len(far) == rig.service.waiting.far
    assert rig.service.waiting.near == sum(push.state is State.DEFERRED for push in live)
    assert Counter(push.state for push in ended) == Counter(rig.ends())
    assert all(push.state.is_terminal for push in ended)
    queued = [
        push for shard in rig.service.pool.shards for push in [*shard.active[shard._cursor :], *shard.pending]
    ]
    # One that was put off and came back may be listed twice; it leaves once.
    waits = (State.QUEUED, State.SENDING)
    assert {push.id for push in queued if push.state in waits} == {
        push.id for push in live if push.state in waits
    }
    assert {push.id for push in rig.inbox.kept()} >= {push.id for push in live if push.state is State.SENT}
    assert all(not push.state.is_terminal for push in rig.inbox.kept())
    assert ledger.kept_bytes == sum(len(push.payload) for push in live)


def test_an_account_is_closed_once(rig: PushRig) -> None:
    push = rig.push()
    ledger = rig.service.ledger
    assert ledger.end(push, State.DELIVERED, "", 1)
    assert not ledger.end(push, State.EXPIRED, "ttl", 2)
    assert (push.state, push.changed_ms) == (State.DELIVERED, 1)
    assert rig.ends() == {State.DELIVERED: 1}
    assert ledger.kept_bytes == 0


def test_a_worker_that_fails_after_the_inbox_took_its_batch_stores_nothing_twice(rig: PushRig) -> None:
    deliver, rig.service.delivery.stored = rig.service.delivery.stored, None  # type: ignore[method-assign, assignment]
    pushes = [rig.push(title="1"), rig.push(title="2")]
    rig.turns.settle()
    rig.service.delivery.stored = deliver  # type: ignore[method-assign]
    rig.turns.advance(1.0)

    assert mailbox(rig, "ann") == pushes
    assert all(push.state is State.SENT for push in pushes)
    assert rig.service.queued == 0
    assert rig.ends() == {}
