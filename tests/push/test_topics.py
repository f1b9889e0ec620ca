"""Topics: who subscribes, who is known, and what is kept of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.core.errors import Overloaded
from heartcast.push.journal import Note
from heartcast.push.topics import KNOWN, SUBSCRIPTIONS, Topics

USERS = st.sampled_from(["ann", "bob", "eve", "7"])
CHANGES = st.tuples(st.sampled_from(["news", "sport"]), st.lists(USERS), st.lists(USERS), st.booleans())


def state(topics: Topics) -> tuple[dict[str, list[str]], list[str], int]:
    names = topics.page("", 99)
    return (
        {name: list(topics.subscribers(name)) for name in names},
        list(topics.everybody),
        topics.subscriptions,
    )


@given(st.lists(CHANGES, max_size=12))
def test_the_notes_tell_it_all_and_an_undone_change_leaves_no_trace(
    changes: list[tuple[str, list[str], list[str], bool]],
) -> None:
    topics, kept = Topics(100), dict[str, Note]()
    for topic, add, remove, is_written in changes:
        before = state(topics)
        changed = topics.change(topic, add, remove)
        if is_written:
            kept |= {note.key: note for note in changed.notes}
        else:
            topics.undo(topic, changed)
            assert state(topics) == before
    again = Topics(100)
    there = [note for note in kept.values() if note.value is not None]
    again.restore(
        [note for note in there if note.key.startswith(SUBSCRIPTIONS)],
        [note for note in there if note.key.startswith(KNOWN)],
    )
    assert state(again) == state(topics)


def test_a_bound_is_kept_and_nothing_of_a_change_beyond_it_happens() -> None:
    topics = Topics(2)
    topics.change("news", ["ann"], [])
    with pytest.raises(Overloaded):
        topics.change("news", ["bob", "eve"], ["ann"])
    assert state(topics) == ({"news": ["ann"]}, ["ann"], 1)


def test_a_user_who_is_forgotten_is_in_no_topic_and_not_known() -> None:
    topics = Topics(9)
    topics.change("news", ["ann", "bob"], [])
    topics.change("sport", ["ann"], [])
    assert topics.of_user("ann") == ["news", "sport"]
    notes = topics.forget_user("ann")
    assert {note.key for note in notes} == {"u:ann", "s:ann\0news", "s:ann\0sport"}
    assert all(note.value is None for note in notes)
    assert state(topics) == ({"news": ["bob"]}, ["bob"], 1)
