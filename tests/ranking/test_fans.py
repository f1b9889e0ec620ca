"""The latest people per item: a ring that forgets its oldest."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.ranking.fans import Fans


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=12), max_size=8))
@settings(max_examples=100, deadline=None)
def test_a_ring_holds_the_last_of_those_greeted(batches: list[list[tuple[int, int]]]) -> None:
    fans = Fans(5)
    fans.grow(4)
    model: dict[int, list[int]] = {item: [] for item in range(4)}
    for batch in batches:
        items = np.array([item for item, _ in batch], dtype=np.int32)
        fans.greet(items, np.array([user for _, user in batch], dtype=np.int64))
        for item, user in batch:
            model[item].append(user)

    for item, users in model.items():
        held = fans.people[item]
        assert sorted(held[held >= 0].tolist()) == sorted(users[-5:])


def test_shared_fans_are_the_same_people() -> None:
    fans = Fans(5)
    fans.grow(2)
    fans.greet(np.array([0, 0, 0, 1, 1], dtype=np.int32), np.array([1, 2, 3, 2, 3]))

    assert fans.shared(0, [1, 0]) == [2, 3]
    fans.leave(0, 3)
    assert fans.shared(0, [1]) == [1]
    assert fans.shared(0, []) == []
