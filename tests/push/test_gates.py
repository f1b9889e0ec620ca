"""Every gate through a whole service: verdict, reason, time, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.core.errors import Overloaded, StoreUnavailable
from heartcast.push.gates.frequency import free_ms
from heartcast.push.journal import Change, Note
from heartcast.push.journal.memory import MemoryJournal
from heartcast.push.model import RANKS, Extra, Priority, Push, State
from heartcast.push.once import Once, Record, Use
from heartcast.push.options import CapOptions
from heartcast.push.preferences import Frequency, Preferences, QuietHours, Window, wishes_of
from heartcast.push.shard import Shard
from heartcast.testing.contracts.journal import a_push
from heartcast.testing.pushes import PushRig


def ends(push: Push) -> tuple[State, str]:
    return push.state, push.reason


def wish(rig: PushRig, user: str, **preferences: Any) -> None:
    rig.service.preferences.put(user, wishes_of(Preferences(**preferences)))


def settled(rig: PushRig, **extra: Any) -> Push:
    push = rig.special(**extra)
    rig.turns.settle()
    return push


# ── ttl and time ─────────────────────────────────────────────────────────────


def test_a_ttl_of_its_own_counts_from_the_time_asked_for_and_ends_it_in_the_inbox_too() -> None:
    rig = PushRig()
    sends_ms = rig.clock.wall_ms() + 10_000
    push = rig.special(ttl_ms=2_000, due_ms=sends_ms, sends_at_ms=sends_ms)
    rig.turns.advance(10.5)
    assert push.state is State.SENT
    rig.turns.advance(1.0)
    assert push.state is State.SENT
    rig.turns.advance(1.0)
    assert ends(push) == (State.EXPIRED, "ttl")
    assert list(rig.inbox.kept()) == []


def test_a_clock_that_jumps_forward_releases_and_one_that_jumps_back_waits_again() -> None:
    rig = PushRig()
    push = rig.special(due_ms=rig.clock.wall_ms() + 60_000)
    rig.clock.step_wall(-120)
    rig.turns.advance(61.0, step_s=0.5)
    assert push.state is State.DEFERRED
    rig.clock.step_wall(+120)
    rig.turns.advance(0.2)
    assert push.state is State.SENT


# ── preferences and quiet hours ──────────────────────────────────────────────


def test_what_a_user_switched_off_is_suppressed_with_the_reason_also_when_critical() -> None:
    rig = PushRig()
    wish(rig, "ann", categories={"marketing": False, "news": True})
    assert ends(settled(rig, category="marketing", priority=Priority.CRITICAL)) == (
        State.SUPPRESSED,
        "category_off",
    )
    assert settled(rig, category="news").state is State.SENT
    wish(rig, "ann", routes={"realtime": False})
    assert ends(settled(rig)) == (State.SUPPRESSED, "route_off")
    counted = rig.service.passage.held
    assert counted == {("preference", "category_off"): 1, ("preference", "route_off"): 1}


def quiet_until_seven(mode: str = "defer") -> QuietHours:
    # The rig's clock stands at 22:13:20 UTC.
    return QuietHours("UTC", [Window("22:00", "07:00")], mode)  # type: ignore[arg-type]


def test_quiet_hours_defer_and_release_a_little_later_in_order_with_all_gates_asked_again() -> None:
    rig = PushRig(quiet_jitter_s=60.0)
    wish(rig, "ann", quiet_hours=quiet_until_seven())
    pushes = [rig.push(title=str(n)) for n in range(3)]
    late = rig.special(ttl_ms=60_000)
    urgent = settled(rig, priority=Priority.CRITICAL)
    assert urgent.state is State.SENT
    assert [push.state for push in pushes] == [State.DEFERRED] * 3
    [held] = pushes[0].asked.rounds
    assert (held.gate, held.reason) == ("quiet_hours", "quiet_hours")
    end_ms = 1_700_000_000_000 // 86_400_000 * 86_400_000 + 86_400_000 + 7 * 3_600_000
    assert end_ms <= held.until_ms < end_ms + 60_000

    rig.clock.advance((end_ms - 500 - rig.clock.wall_ms()) / 1000)
    rig.turns.advance(0.4)
    assert pushes[0].state is State.DEFERRED
    wish(rig, "ann", categories={"x": False})
    rig.turns.advance(61.0, step_s=0.5)
    assert [push.state for push in pushes] == [State.SENT] * 3
    assert [push.offset for push in pushes] == [2, 3, 4]
    assert ends(late) == (State.EXPIRED, "ttl")


def test_quiet_hours_that_drop_say_so() -> None:
    rig = PushRig()
    wish(rig, "ann", quiet_hours=quiet_until_seven("drop"))
    assert ends(settled(rig)) == (State.SUPPRESSED, "quiet_hours")


# ── caps ─────────────────────────────────────────────────────────────────────


def test_a_cap_counts_what_left_per_user_and_per_category_and_never_what_is_critical() -> None:
    rig = PushRig(
        cap=CapOptions(cap="3/day log", smooth="20/min"),
        category_caps={"marketing": CapOptions(cap="1/day log", smooth="20/min")},
    )
    assert settled(rig, category="marketing").state is State.SENT
    assert ends(settled(rig, category="marketing")) == (State.SUPPRESSED, "cap")
    assert settled(rig, priority=Priority.CRITICAL).state is State.SENT
    # What was refused, and what was critical, has used up nothing.
    assert [settled(rig).state for _ in range(3)] == [State.SENT, State.SENT, State.SUPPRESSED]
    assert settled(rig, user="bob", category="marketing").state is State.SENT
    rig.clock.advance(86_400.0)
    assert settled(rig, category="marketing").state is State.SENT


def test_a_cap_may_defer_until_there_is_room() -> None:
    rig = PushRig(cap=CapOptions(cap="1/min log", smooth="20/min", mode="defer"))
    assert settled(rig).state is State.SENT
    second = settled(rig)
    assert second.state is State.DEFERRED
    rig.turns.advance(59.0, step_s=0.5)
    assert second.state is State.DEFERRED
    rig.turns.advance(2.0)
    assert second.state is State.SENT


def test_a_push_that_the_inbox_refused_is_counted_once() -> None:
    rig = PushRig(cap=CapOptions(cap="1/day log", smooth="20/min"))
    rig.inbox.refusals = [StoreUnavailable("busy")] * 3
    push = rig.push()
    rig.turns.advance(2.0)
    assert push.state is State.SENT


class NotingJournal(MemoryJournal):
    """Remembers its notes as one on a disk does."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: dict[str, Note] = {}

    def write(self, change: Change, done: Any) -> None:
        for note in change.notes:
            self.noted[note.key] = note
        super().write(change, done)

    def notes(self, kind: str, now_ms: int) -> list[Note]:
        notes = [note for key, note in self.noted.items() if key.startswith(kind)]
        return [note for note in notes if note.value is not None and note.until_ms >= now_ms]


def test_caps_and_dedupe_keys_are_remembered_by_the_next_process() -> None:
    journal = NotingJournal()
    options: dict[str, Any] = {"cap": CapOptions(cap="2/day log", smooth="20/min"), "journal": journal}
    rig = PushRig(**options)
    settled(rig, dedupe_key="k", dedupe_ms=60_000)
    settled(rig)
    rig = PushRig(**options)
    assert ends(settled(rig)) == (State.SUPPRESSED, "cap")
    assert rig.service.intake.duplicate_of("ann", _extra("k")) is not None


# ── repeats ──────────────────────────────────────────────────────────────────


def _extra(key: str) -> Any:
    return Extra(dedupe_key=key, dedupe_ms=60_000)


def test_a_key_is_used_until_its_window_ends_or_its_push_ends_unseen() -> None:
    rig = PushRig()
    first = settled(rig, dedupe_key="k", dedupe_ms=60_000)
    assert rig.service.intake.duplicate_of("ann", _extra("k")) == first.id
    assert rig.service.intake.duplicate_of("bob", _extra("k")) is None
    rig.clock.advance(60.0)
    assert rig.service.intake.duplicate_of("ann", _extra("k")) is None

    second = settled(rig, dedupe_key="k", dedupe_ms=60_000)
    rig.service.recall.cancel(second, tuple, lambda error: None)
    assert rig.service.intake.duplicate_of("ann", _extra("k")) is None


def test_duplicates_that_come_together_after_a_wait_are_found_when_they_are_released() -> None:
    rig = PushRig(quiet_jitter_s=0.0)
    wish(rig, "ann", quiet_hours=quiet_until_seven())
    first = settled(rig, dedupe_key="k", dedupe_ms=1_000)
    rig.turns.advance(5.0)
    second = settled(rig, dedupe_key="k", dedupe_ms=1_000)
    rig.clock.advance(9 * 3600.0)
    rig.turns.advance(1.0)
    assert first.state is State.SENT
    assert ends(second) == (State.SUPPRESSED, "duplicate")
    assert second.asked.rounds[-1].other == first.id


def test_of_one_collapse_key_only_the_newest_that_waits_leaves() -> None:
    rig = PushRig()
    older = rig.special(collapse_key="score", title="1:0")
    other = rig.special(collapse_key="weather")
    newer = settled(rig, collapse_key="score", title="2:0")
    assert ends(older) == (State.SUPPRESSED, "collapsed")
    assert older.asked.rounds[-1].other == newer.id
    assert (other.state, newer.state) == (State.SENT, State.SENT)

    newest = settled(rig, collapse_key="score", title="3:0")
    assert ends(newer) == (State.SUPPRESSED, "collapsed")
    rig.connect("ann")
    settled(rig, collapse_key="score", title="4:0")
    # A device had that one: what it shows cannot be taken away.
    assert newest.state is State.SENT


def test_what_is_due_next_week_does_not_silence_what_is_due_now() -> None:
    rig = PushRig()
    rig.special(collapse_key="score", due_ms=rig.clock.wall_ms() + 500_000)
    rig.turns.settle()
    later = rig.special(collapse_key="score", due_ms=rig.clock.wall_ms() + 600_000)
    assert later.state is State.DEFERRED
    assert settled(rig, collapse_key="score").state is State.SENT


# ── priorities ───────────────────────────────────────────────────────────────


def test_urgent_pushes_go_first_but_never_before_an_earlier_one_of_their_user() -> None:
    rig = PushRig(shards=1, workers=1)
    low = rig.special("bob", priority=Priority.LOW)
    normal = rig.push("cid")
    first_of_ann = rig.special("ann", priority=Priority.LOW)
    urgent = rig.special("ann", priority=Priority.CRITICAL)
    order: list[str] = []
    rig.service.delivery.stored = lambda push, now_ms: order.append(push.id) or True  # type: ignore[method-assign, func-returns-value]
    rig.turns.settle()
    assert order == [push.id for push in (first_of_ann, urgent, normal, low)]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(list(Priority)), st.integers(0, 500)), max_size=80),
    st.integers(1, 5),
)
def test_no_user_is_reordered_nothing_is_lost_and_nothing_starves(
    script: list[tuple[int, Priority, int]], limit: int
) -> None:
    shard, taken = Shard(0, 0.0), []
    now_ms = 1_700_000_000_000
    put: list[Push] = []
    for number, (user, priority, pause_ms) in enumerate(script):
        now_ms += pause_ms
        push = a_push(f"p{number:03}", f"u{user}")
        push.accepted_ms = now_ms
        push.extra = Extra(priority=priority) if priority is not Priority.NORMAL else None
        put.append(push)
        shard.put(push)
        if number % 2:
            taken += shard.take(limit, now_ms)
            shard.finish(0, 0.0)
    while shard.waiting:
        taken += shard.take(limit, now_ms)
        shard.finish(0, 0.0)
    assert sorted(push.id for push in taken) == [push.id for push in put]
    for user in {push.user for push in put}:
        own = [push.id for push in taken if push.user == user]
        assert own == sorted(own)


def test_a_low_push_is_lifted_by_waiting() -> None:
    shard = Shard(0, 0.0)
    low = a_push("low", "bob")
    low.extra = Extra(priority=Priority.LOW)
    shard.put(low)
    for number in range(10):
        urgent = a_push(f"urgent{number}", f"u{number}")
        urgent.extra = Extra(priority=Priority.CRITICAL)
        urgent.accepted_ms += 4_000
        shard.put(urgent)
    assert shard.take(1, low.accepted_ms + 4_000) == [low]
    assert RANKS[Priority.LOW] < RANKS[Priority.CRITICAL]


def test_options_refuse_a_cap_that_is_none() -> None:
    with pytest.raises(ValueError, match="bucket"):
        CapOptions(cap="3/day", smooth="20/min")


def test_keys_are_bounded_and_go_when_their_window_is_over() -> None:
    rig = PushRig(max_dedupe_keys=2)
    for number in range(2):
        rig.special(dedupe_key=f"k{number}", dedupe_ms=60_000)
    with pytest.raises(Overloaded) as caught:
        rig.special(dedupe_key="k2", dedupe_ms=60_000)
    assert caught.value.code == "dedupe_keys_full"
    assert rig.service.ledger.accepted == 2
    rig.turns.advance(62.0, step_s=1.0)
    assert rig.special(dedupe_key="k2", dedupe_ms=60_000)


def test_idempotency_records_are_bounded_and_forgotten_after_a_day() -> None:
    once = Once(2, 1_000)
    for number in range(3):
        use = once.begin(f"k{number}", "POST /push", b"", 0)
        assert isinstance(use, Use)
        once.keep(use, 202, b"answer", 0)
    assert isinstance(once.begin("k0", "POST /push", b"", 0), Use)
    assert isinstance(once.begin("k2", "POST /push", b"", 1_000), Record)
    once.forget(1_001)
    assert isinstance(once.begin("k2", "POST /push", b"", 1_001), Use)


# ── how many a user wants ────────────────────────────────────────────────────


def test_a_user_gets_as_many_in_an_hour_and_in_a_day_as_wished_for() -> None:
    rig = PushRig()
    wish(rig, "ann", frequency=Frequency(per_hour=2, per_day=3))
    assert [ends(settled(rig))[0] for _ in range(3)] == [State.SENT, State.SENT, State.SUPPRESSED]
    rig.turns.advance(3_601, 60)
    assert [ends(settled(rig)) for _ in range(2)] == [(State.SENT, ""), (State.SUPPRESSED, "frequency")]
    rig.turns.advance(86_400, 600)
    assert settled(rig).state is State.SENT
    assert settled(rig, priority=Priority.CRITICAL).state is State.SENT


def test_one_too_many_may_wait_until_it_fits() -> None:
    rig = PushRig()
    wish(rig, "ann", frequency=Frequency(per_hour=1, mode="defer"))
    first, second = settled(rig), settled(rig)
    assert (first.state, second.state) == (State.SENT, State.DEFERRED)
    assert second.due_ms == first.gated_ms + 3_600_000
    rig.turns.advance(3_602, 1)
    assert second.state is State.SENT


def test_a_restart_gives_nobody_more_than_was_wished_for() -> None:
    kept: dict[str, Note] = {}

    class Remembering(MemoryJournal):
        def write(self, change: Change, done: Any) -> None:
            kept.update({note.key: note for note in change.notes})
            super().write(change, done)

        def notes(self, kind: str, now_ms: int) -> list[Note]:
            return [note for note in kept.values() if note.key.startswith(kind)]

    rig = PushRig(journal=Remembering())
    wish(rig, "ann", frequency=Frequency(per_day=2))
    assert [settled(rig).state for _ in range(2)] == [State.SENT, State.SENT]
    rig = PushRig(journal=Remembering())
    wish(rig, "ann", frequency=Frequency(per_day=2))
    assert ends(settled(rig)) == (State.SUPPRESSED, "frequency")


@given(
    st.lists(st.integers(0, 50_000_000), max_size=40),
    st.integers(1, 5),
    st.integers(1, 8),
)
def test_no_window_ever_holds_more_than_the_wish(pauses_ms: list[int], per_hour: int, per_day: int) -> None:
    times: list[int] = []
    now_ms = 0
    for pause_ms in pauses_ms:
        now_ms += pause_ms
        windows = ((per_hour, 3_600_000), (per_day, 86_400_000))
        if all(free_ms(times, most, window_ms, now_ms) <= now_ms for most, window_ms in windows):
            times.append(now_ms)
        for most, window_ms in windows:
            assert sum(now_ms - window_ms < at for at in times) <= most
