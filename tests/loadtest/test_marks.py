"""What messages carry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.loadtest.marks import Mark, Marker

numbers = st.integers(0, 1 << 62)


@given(stream=numbers, sequence=numbers, intended_us=numbers, size=st.integers(0, 400))
def test_a_mark_reads_back_as_it_was_made(stream, sequence, intended_us, size) -> None:
    marker = Marker("fanout-r1")
    text = marker.make(stream, sequence, intended_us, marker.padding_for(size))
    assert marker.read(text) == Mark(stream, sequence, intended_us)


@given(at=st.integers(0, 10_000), other=st.characters(codec="ascii", categories=["L", "N", "P"]))
def test_any_changed_character_is_noticed(at, other) -> None:
    marker = Marker("push-r1")
    text = marker.make(3, 17, 123_456_789, marker.padding_for(90))
    at %= len(text)
    changed = text[:at] + other + text[at + 1 :]
    if changed != text:
        assert marker.read(changed) is None


@given(cut=st.integers(1, 80))
def test_a_mark_that_was_cut_short_is_noticed(cut) -> None:
    marker = Marker("push-r1")
    text = marker.make(3, 17, 123_456_789, marker.padding_for(90))
    assert marker.read(text[:-cut]) is None


def test_marks_of_another_run_are_not_ours() -> None:
    text = Marker("push-r2").make(0, 1, 2)
    assert Marker("push-r1").read(text) is None


def test_padding_makes_a_mark_as_long_as_asked() -> None:
    marker = Marker("push-r1")
    assert len(marker.make(9, 999_999, 10**13, marker.padding_for(200))) == 200


def test_a_name_with_a_dot_is_refused() -> None:
    with pytest.raises(ValueError, match="without dots"):
        Marker("a.b")
