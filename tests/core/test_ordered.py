"""Ordered keys: a set and a sorted list at once, whatever is done to them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.core.ordered import BLOCK, OrderedKeys

KEYS = st.text("abcü", max_size=4)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), KEYS), max_size=60), KEYS, st.integers(0, 8))
def test_it_is_what_a_sorted_set_would_be(steps: list[tuple[bool, str]], cursor: str, limit: int) -> None:
    keys, model = OrderedKeys(), set[str]()
    for is_added, key in steps:
        assert (keys.add if is_added else keys.remove)(key) is ((key in model) is not is_added)
        (model.add if is_added else model.discard)(key)
    assert list(keys) == sorted(model)
    assert len(keys) == len(model)
    later = [key for key in sorted(model) if key > cursor]
    assert keys.after(cursor, limit) == later[:limit]
    assert keys.count_after(cursor) == len(later)
    assert (cursor in keys) is (cursor in model)


def test_many_blocks_are_split_paged_and_emptied() -> None:
    names = [f"{n * 7919 % 20_011:05}" for n in range(20_011)]
    keys = OrderedKeys()
    assert all(keys.add(name) for name in names)
    assert not keys.add(names[5])
    pages, cursor = [], ""
    while page := keys.after(cursor, BLOCK - 1):
        pages += page
        cursor = page[-1]
        assert keys.count_after(cursor) == len(names) - len(pages)
    assert pages == sorted(names)
    assert all(keys.remove(name) for name in names)
    assert not keys.remove(names[5])
    assert (len(keys), list(keys), keys.after("", 5), keys.count_after("")) == (0, [], [], 0)
