"""Broadcasts: everybody once, figures that add up, room left for others, and what a crash leaves."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.core.errors import Conflict, Overloaded, StoreUnavailable
from heartcast.push.broadcast import Broadcast, Status
from heartcast.push.broadcasts import MOST_QUEUED, PAGE
from heartcast.push.file import open_file
from heartcast.push.journal import Change
from heartcast.push.journal.memory import MemoryJournal
from heartcast.push.journal.sqlite import SqliteJournal
from heartcast.push.model import Extra, State
from heartcast.push.preferences import Preferences, QuietHours, Window, wishes_of
from heartcast.push.templates import load
from heartcast.testing.pushes import PushRig


def subscribe(rig: PushRig, *users: str, topic: str = "news") -> None:
    rig.service.topics.change(topic, users, ())


def begin(
    rig: PushRig, topic: str = "news", *, per_s: float = 0.0, due_ms: int = 0, **extra: Any
) -> Broadcast:
    broadcasts = rig.service.broadcasts
    made = broadcasts.make(topic, "news_v2@1", b'{"title":"x"}', Extra(**extra), per_s, due_ms)
    broadcasts.begin(made, (), lambda error: None)
    return made


def set_status(rig: PushRig, broadcast: Broadcast, status: Status) -> None:
    rig.service.broadcasts.set_status(broadcast, status, lambda: (), lambda error: None)


def got(rig: PushRig, broadcast: Broadcast) -> Counter[str]:
    """How many of its pushes each user has, in whatever state."""
    ledger = rig.service.ledger
    pushes = [*ledger.live.values(), *ledger.timed.values(), *ledger._ended.values()]
    return Counter(push.user for push in pushes if push.asked.broadcast == broadcast.what.id)


USERS = [f"user-{n:04}" for n in range(600)]


def test_every_subscriber_gets_one_push_in_the_order_of_ids() -> None:
    rig = PushRig()
    subscribe(rig, *USERS)
    subscribe(rig, "other", topic="sport")
    broadcast = begin(rig)
    rig.turns.advance(1)
    assert got(rig, broadcast) == dict.fromkeys(USERS, 1)
    assert (broadcast.what.status, broadcast.reached.accepted, broadcast.waiting) == (Status.DONE, 600, 600)


def test_everybody_who_ever_subscribed_or_spoke_is_known() -> None:
    rig = PushRig()
    subscribe(rig, "ann", "bob")
    rig.service.topics.change("news", (), ("bob",))
    rig.service.topics.meet("eve")
    broadcast = begin(rig, "")
    rig.turns.advance(1)
    assert got(rig, broadcast) == {"ann": 1, "bob": 1, "eve": 1}


def test_a_rate_is_kept_and_a_pause_is_not_caught_up() -> None:
    rig = PushRig()
    subscribe(rig, *USERS)
    broadcast = begin(rig, per_s=50)
    rig.turns.advance(2)
    served = broadcast.reached.accepted
    assert 90 <= served <= 101
    set_status(rig, broadcast, Status.PAUSED)
    rig.turns.advance(5)
    assert broadcast.reached.accepted == served
    set_status(rig, broadcast, Status.RUNNING)
    rig.turns.advance(1)
    assert 40 <= broadcast.reached.accepted - served <= 51


def test_it_begins_at_its_time_and_may_be_paused_before() -> None:
    rig = PushRig()
    subscribe(rig, *USERS[:5])
    broadcast = begin(rig, due_ms=rig.clock.wall_ms() + 60_000)
    assert broadcast.what.status is Status.SCHEDULED
    set_status(rig, broadcast, Status.PAUSED)
    rig.turns.advance(30, 1)
    set_status(rig, broadcast, Status.RUNNING)
    assert broadcast.what.status is Status.SCHEDULED
    rig.turns.advance(29, 1)
    assert broadcast.reached.accepted == 0
    rig.turns.advance(3, 1)
    assert (broadcast.reached.accepted, broadcast.what.status) == (5, Status.DONE)


def test_a_cancel_stops_it_and_ends_what_has_not_left() -> None:
    rig = PushRig()
    subscribe(rig, *USERS)
    quiet = QuietHours("UTC", [Window("00:00", "23:59")])
    for user in USERS[:20]:
        rig.service.preferences.put(user, wishes_of(Preferences(quiet_hours=quiet)))
    broadcast = begin(rig, per_s=100)
    rig.turns.advance(1)
    set_status(rig, broadcast, Status.CANCELLED)
    served = broadcast.reached.accepted
    rig.turns.advance(24 * 3600, 60)
    assert broadcast.reached.accepted == served < 600
    assert broadcast.ended[State.CANCELLED] == 20
    with pytest.raises(Conflict):
        set_status(rig, broadcast, Status.RUNNING)


def test_what_is_over_cannot_be_cancelled_and_a_cancel_may_be_repeated() -> None:
    rig = PushRig()
    subscribe(rig, "ann")
    rig.connect("ann")
    broadcast = begin(rig)
    rig.turns.advance(1)
    [(_, _, _, tags)] = rig.sent
    rig.service.delivery.acknowledge("ann", [tags["id"]], rig.clock.wall_ms())
    assert broadcast.is_over
    with pytest.raises(Conflict, match="done"):
        set_status(rig, broadcast, Status.CANCELLED)
    other = begin(rig, per_s=0.1)
    set_status(rig, other, Status.CANCELLED)
    set_status(rig, other, Status.CANCELLED)


def test_a_backlog_of_others_slows_it_and_never_stops_it() -> None:
    rig = PushRig()
    subscribe(rig, *USERS)
    rig.inbox.is_slow = True
    for n in range(MOST_QUEUED + 64 * 64):
        rig.push(f"single-{n}")
    broadcast = begin(rig)
    rig.turns.advance(0.1)
    first = broadcast.reached.accepted
    assert 0 < first < PAGE
    rig.turns.advance(0.5)
    assert first < broadcast.reached.accepted < 600


def test_single_pushes_find_only_a_few_of_it_in_front_of_them() -> None:
    rig = PushRig()
    subscribe(rig, *[f"user-{n:05}" for n in range(9_000)])
    rig.inbox.is_slow = True  # nothing leaves the shards but one batch each
    begin(rig)
    rig.turns.advance(0.6)
    assert rig.service.queued <= MOST_QUEUED + 6 * PAGE


def test_it_leaves_room_for_others_and_goes_on_when_there_is_some() -> None:
    rig = PushRig(max_kept=100, broadcast_share=0.5)
    subscribe(rig, *USERS[:80])
    broadcast = begin(rig)
    rig.turns.advance(1)
    assert broadcast.reached.accepted == 50
    rig.push("single")
    waiting = [push for push in rig.service.ledger.live.values() if push.asked.broadcast]
    rig.service.delivery.lost(waiting[:30], State.EXPIRED, "ttl", rig.clock.wall_ms())
    rig.turns.advance(1)
    assert broadcast.reached.accepted == 79
    assert (broadcast.ended[State.EXPIRED], broadcast.waiting) == (30, 49)


def test_a_template_that_is_gone_fails_it_with_a_reason() -> None:
    rig = PushRig()
    subscribe(rig, *USERS[:5])
    made = rig.service.broadcasts.make("news", "gone@7", b"{}", Extra(), 0.0, 0)
    rig.service.broadcasts.begin(made, (), lambda error: None)
    rig.turns.advance(1)
    assert made.what.status is Status.FAILED
    assert "gone@7" in made.what.reason


def test_records_go_when_they_are_over_and_a_bound_is_kept() -> None:
    rig = PushRig(max_broadcasts=2, keep_ended_s=3600)
    subscribe(rig, "ann")
    first, second = begin(rig, "empty"), begin(rig)
    rig.turns.advance(1)
    assert (first.is_over, second.is_over) == (True, False)
    third = begin(rig)
    assert [one.what.id for one in rig.service.broadcasts.page("", 9)] == [third.what.id, second.what.id]
    rig.turns.advance(1)
    with pytest.raises(Overloaded):
        begin(rig)
    rig.service.broadcasts.forget(rig.clock.wall_ms() + 7_200_000)
    assert len(rig.service.broadcasts.page("", 9)) == 2


class RefusingJournal(MemoryJournal):
    """Refuses every second page of pushes."""

    is_durable = True

    def __init__(self) -> None:
        super().__init__()
        self.pages = 0

    def write(self, change: Any, done: Any) -> None:
        if change.accepted:
            self.pages += 1
            if self.pages % 2:
                return done(StoreUnavailable("disk full"))
        return super().write(change, done)


def test_a_page_that_could_not_be_written_is_tried_again_and_counted_once() -> None:
    rig = PushRig(journal=RefusingJournal())
    subscribe(rig, *USERS)
    broadcast = begin(rig)
    rig.turns.advance(10)
    assert got(rig, broadcast) == dict.fromkeys(USERS, 1)
    assert broadcast.reached.accepted == 600


STEPS = st.one_of(
    st.tuples(st.sampled_from(["join", "leave", "connect", "ack", "off"]), st.integers(0, 11)),
    st.tuples(st.sampled_from(["begin", "slow", "pause", "resume", "cancel"]), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.sampled_from([0.05, 1.0, 40.0])),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_figures_add_up_at_every_moment_and_nobody_gets_a_broadcast_twice(steps: list[Any]) -> None:
    rig = PushRig(ttl_s=60, max_inbox=2)
    begun: list[Broadcast] = []
    for step, value in steps:
        user = f"u{value}"
        if step in ("join", "leave"):
            rig.service.topics.change("news", [user][: step == "join"], [user][: step == "leave"])
        elif step == "connect":
            rig.connect(user)
        elif step == "ack":
            ids = [tags["id"] for channel, _, _, tags in rig.sent if channel == f"inbox:#{user}"]
            rig.service.delivery.acknowledge(user, ids, rig.clock.wall_ms())
        elif step == "off":
            rig.service.preferences.put(user, wishes_of(Preferences(categories={"ads": False})))
        elif step in ("begin", "slow"):
            begun.append(begin(rig, per_s=2.0 if step == "slow" else 0.0, category="ads"))
        elif step == "wait":
            rig.turns.advance(value, max(0.05, value / 10))
        elif begun:
            one = begun[value % len(begun)]
            status = {"pause": Status.PAUSED, "resume": Status.RUNNING, "cancel": Status.CANCELLED}[step]
            try:
                set_status(rig, one, status)
            except Conflict:
                assert one.what.status in (Status.DONE, Status.CANCELLED)
        for one in begun:
            everyone = got(rig, one)
            assert max(everyone.values(), default=1) == 1
            assert one.reached.accepted == sum(everyone.values())
            living = [*rig.service.ledger.live.values(), *rig.service.ledger.timed.values()]
            assert one.waiting == sum(push.asked.broadcast == one.what.id for push in living)


# ── on a disk ────────────────────────────────────────────────────────────────


async def test_a_new_process_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()

    async def life(rig: PushRig) -> None:
        # The file's thread answers in real time, the service's timers are moved by hand.
        for _ in range(6):
            rig.turns.advance(0.05)
            await asyncio.sleep(0)
            file = rig.service.journal._file  # type: ignore[attr-defined]
            async with asyncio.timeout(10):
                while file.is_writing or file.next:
                    await asyncio.sleep(0)

    def opened() -> PushRig:
        return PushRig(journal=SqliteJournal(open_file(tmp_path / "pushes.db", loop), load()))

    rig = opened()
    changed = rig.service.topics.change("news", USERS, ())
    rig.service.journal.write(Change(notes=changed.notes), None)
    broadcast = begin(rig, per_s=1_000)
    await life(rig)
    served = broadcast.reached.accepted
    assert 0 < served < 600
    await rig.service.stop()

    database = sqlite3.connect(tmp_path / "pushes.db")
    [kept] = database.execute("SELECT count(*) FROM push").fetchone()
    database.close()
    assert kept == served - sum(broadcast.ended.values())

    rig = opened()
    again = rig.service.broadcasts.find(broadcast.what.id)
    assert (again.what.status, again.what.per_s, again.what.topic) == (Status.RUNNING, 1_000, "news")
    assert (again.reached.accepted, again.waiting) == (served, kept)
    for _ in range(20):
        await life(rig)
    assert (again.what.status, again.reached.accepted) == (Status.DONE, 600)
    assert got(rig, again) == dict.fromkeys(USERS, 1)
    await rig.service.stop()
