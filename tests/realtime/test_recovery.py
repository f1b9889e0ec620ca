"""Catching up is whole or declared failed, against a model that just counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heartcast.realtime.log import Complete, Gap, Position, Publication
from heartcast.realtime.recovery import join_cache, join_stream, merge


def publications(start: int, end: int) -> list[Publication]:
    return [Publication(b"%d" % offset, offset) for offset in range(start, end)]


@given(
    stood=st.integers(0, 30),
    missed=st.integers(0, 30),
    during=st.integers(0, 10),
    overlap=st.integers(0, 10),
    redelivered=st.integers(0, 2),
)
def test_a_client_ends_with_everything_once_and_in_order(
    stood: int, missed: int, during: int, overlap: int, redelivered: int
) -> None:
    top = stood + missed
    # What arrives while the log is asked may have been part of its answer already.
    arrived = publications(max(stood + 1, top + 1 - overlap), top + during + 1)
    arrived += [Publication(b'"again"')] * redelivered
    answer = Complete(publications(stood + 1, top + 1), Position(top, "e"))

    joined = join_stream(answer, arrived, was_recovering=True)

    assert joined.recovered
    offsets = [p.offset for p in joined.publications]
    assert offsets == [*range(stood + 1, top + during + 1), *[0] * redelivered]


@given(st.integers(1, 20), st.integers(0, 10))
def test_after_a_gap_nothing_of_the_past_is_sent_and_nothing_new_is_lost(top: int, during: int) -> None:
    joined = join_stream(Gap(Position(top, "e")), publications(top, top + during + 1), was_recovering=True)

    assert not joined.recovered
    assert joined.publications == []
    assert joined.position == Position(top, "e")
    assert [p.offset for p in joined.later] == list(range(top + 1, top + during + 1))


def test_a_hole_between_the_answer_and_what_arrived_is_a_failure() -> None:
    answer = Complete(publications(1, 4), Position(3, "e"))
    joined = join_stream(answer, publications(6, 8), was_recovering=True)

    assert not joined.recovered
    assert joined.publications == []
    assert [p.offset for p in joined.later] == [6, 7]


def test_an_inbox_may_skip_what_was_acknowledged() -> None:
    unacknowledged = [Publication(b"3", 3), Publication(b"7", 7)]

    assert merge(unacknowledged, [Publication(b"9", 9)], is_dense=False) == [
        *unacknowledged,
        Publication(b"9", 9),
    ]


def test_a_cache_gives_the_latest_whatever_the_client_asked() -> None:
    answer = Complete([Publication(b"old", 4)], Position(4, "e"))

    assert join_cache(answer, []).publications == [Publication(b"old", 4)]
    newer = join_cache(answer, publications(5, 7))
    assert newer.publications == [Publication(b"6", 6)]
    assert newer.position == Position(6, "e")
    assert newer.was_recovering
    assert newer.recovered
