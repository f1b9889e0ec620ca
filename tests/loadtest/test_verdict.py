"""The account of what arrived."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heartcast.loadtest.verdict import EXAMPLES, Ledger, Track


def sent(ledger: Ledger, count: int) -> int:
    stream = ledger.open_stream("public:a")
    for _ in range(count):
        ledger.streams[stream].next()
    return stream


def receive(ledger: Ledger, stream: int, order: list[int]) -> Track:
    track = Track()
    for sequence in order:
        ledger.arrived(track, stream, sequence, 10, 1, 0.5)
    return track


def test_what_arrives_once_and_in_order_gives_nothing_to_note() -> None:
    ledger = Ledger(late_us=1_000)
    stream = sent(ledger, 100)
    track = receive(ledger, stream, list(range(1, 101)))
    assert ledger.settle(track, stream, 1, 1.0) == 0
    assert (ledger.owed, ledger.delivered) == (100, 100)
    assert not any(ledger.counts.values())
    assert track.holes is None


@given(
    dropped=st.sets(st.integers(1, 60), max_size=20),
    doubled=st.sets(st.integers(1, 60), max_size=20),
    swapped=st.sets(st.integers(1, 29), max_size=10),
)
def test_dropped_doubled_and_swapped_messages_are_counted_exactly(dropped, doubled, swapped) -> None:
    order = list(range(1, 61))
    reordered = 0
    for pair in swapped:
        first, second = 2 * pair - 1, 2 * pair
        order[first - 1], order[second - 1] = second, first
        reordered += first not in dropped and second not in dropped
    arrivals = [n for n in order if n not in dropped for n in [n] * (1 + (n in doubled))]
    ledger = Ledger(late_us=1_000)
    stream = sent(ledger, 60)
    track = receive(ledger, stream, arrivals)
    ledger.settle(track, stream, 1, 1.0)
    assert ledger.counts["lost"] == len(dropped)
    assert ledger.counts["duplicate"] == len(doubled - dropped)
    assert ledger.counts["reordered"] == reordered
    assert ledger.delivered == 60 - len(dropped)


@given(st.lists(st.integers(1, 40), max_size=120))
def test_a_track_agrees_with_a_set_whatever_arrives(arrivals) -> None:
    track, seen = Track(), set()
    for sequence in arrivals:
        how = track.take(sequence)
        assert (how == "duplicate") == (sequence in seen)
        seen.add(sequence)
        assert set(track.missing(40)) == set(range(1, 41)) - seen


def test_refused_and_unanswered_messages_are_not_missed() -> None:
    ledger = Ledger(late_us=1_000)
    stream = sent(ledger, 10)
    ledger.streams[stream].refuse(3)
    ledger.streams[stream].doubt(10)
    track = receive(ledger, stream, [1, 2, 4, 5, 6, 7, 8])
    assert ledger.settle(track, stream, 1, 1.0) == 1
    assert ledger.counts["lost"] == 1
    assert ledger.examples["lost"][0].sequence == 9
    assert ledger.owed == 8


def test_an_unanswered_message_may_still_arrive() -> None:
    ledger = Ledger(late_us=1_000)
    stream = sent(ledger, 2)
    ledger.streams[stream].doubt(2)
    track = receive(ledger, stream, [1, 2])
    assert ledger.settle(track, stream, 1, 1.0) == 0


def test_an_announced_redelivery_is_no_duplicate() -> None:
    ledger = Ledger(late_us=1_000)
    stream = sent(ledger, 1)
    track = receive(ledger, stream, [1])
    assert not ledger.arrived(track, stream, 1, 10, 1, 0.5, is_again=True)
    assert (ledger.counts["redelivered"], ledger.counts["duplicate"]) == (1, 0)


def test_a_message_that_fills_a_hole_by_redelivery_is_in_no_wrong_order() -> None:
    ledger = Ledger(late_us=1_000)
    stream = sent(ledger, 2)
    track = receive(ledger, stream, [2])
    assert ledger.arrived(track, stream, 1, 10, 1, 0.5, is_again=True)
    assert ledger.counts["reordered"] == 0
    assert ledger.settle(track, stream, 1, 1.0) == 0


def test_later_than_the_bound_is_late_and_on_the_bound_is_not() -> None:
    ledger = Ledger(late_us=1_000)
    stream = sent(ledger, 2)
    track = Track()
    ledger.arrived(track, stream, 1, 1_000, 1, 0.5)
    ledger.arrived(track, stream, 2, 1_001, 1, 0.5)
    assert ledger.counts["late"] == 1
    assert ledger.examples["late"][0].sequence == 2


def test_what_was_recovered_is_told_from_what_came_by_itself() -> None:
    ledger = Ledger(late_us=1_000)
    stream = sent(ledger, 1)
    ledger.arrived(Track(), stream, 1, 9_000_000, 1, 0.5, is_recovered=True)
    assert (ledger.counts["recovered"], ledger.counts["late"], ledger.delivered) == (1, 0, 1)


def test_a_damaged_message_is_not_lost_as_well() -> None:
    ledger = Ledger(late_us=1_000)
    stream = sent(ledger, 3)
    track = receive(ledger, stream, [1])
    ledger.damaged(track, stream, 1, 0.5, "wrong checksum")
    assert ledger.settle(track, stream, 1, 1.0) == 1
    assert (ledger.counts["damaged"], ledger.counts["lost"]) == (1, 1)


def test_a_gap_that_the_server_admitted_is_forgiven_up_to_the_next_arrival() -> None:
    track = Track()
    for sequence in (1, 2, 5):
        track.take(sequence)
    assert track.forgive(9) == 5  # 3, 4, 6, 7, 8
    assert list(track.missing(10)) == [9, 10]


def test_a_receiver_is_owed_only_what_was_sent_since_it_came() -> None:
    ledger = Ledger(late_us=1_000)
    stream = sent(ledger, 10)
    track = Track(first=8)
    for sequence in (8, 9, 10):
        ledger.arrived(track, stream, sequence, 10, 1, 0.5)
    assert ledger.settle(track, stream, 1, 1.0) == 0
    assert ledger.owed == 3


def test_only_the_first_examples_are_kept_and_all_are_counted() -> None:
    ledger = Ledger(late_us=1_000)
    stream = sent(ledger, 1_000)
    ledger.settle(Track(), stream, 7, 2.0)
    assert ledger.counts["lost"] == 1_000
    assert [e.sequence for e in ledger.examples["lost"]] == list(range(1, EXAMPLES + 1))
    assert ledger.examples["lost"][0].stream == "public:a"
    assert ledger.examples["lost"][0].session == 7


def test_a_million_orderly_messages_cost_a_track_nothing() -> None:
    track = Track()
    for sequence in range(1, 1_000_001):
        track.take(sequence)
    assert (track.top, track.holes) == (1_000_000, None)
