import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.cluster.ring import Ring

KEYS = [f"user-{n}" for n in range(2_000)]
names = st.text("abcdefghij0123456789.-:", min_size=1, max_size=12)


def test_a_million_keys_on_ten_nodes_leave_none_with_more_than_1_15_times_the_mean() -> None:
    ring = Ring(f"node-{n}" for n in range(10))
    counts = Counter(ring.node_of(f"u{n}") for n in range(1_000_000))
    assert max(counts.values()) <= 1.15 * 100_000
    assert len(counts) == 10


def test_the_busiest_of_ten_stays_below_1_15_of_the_mean_whatever_they_are_called() -> None:
    # The arcs themselves, not a sample of keys: exact, and quick enough for many names.
    seeds = random.Random(7)
    for _ in range(40):
        ring = Ring(f"{seeds.getrandbits(40):x}" for _ in range(10))
        assert max(ring.portions().values()) <= 0.115


@settings(max_examples=40, deadline=None)
@given(st.sets(names, min_size=1, max_size=8), names)
def test_only_keys_of_the_node_that_goes_or_comes_move(nodes: set[str], other: str) -> None:
    few, many = Ring(nodes - {other}, 32), Ring(nodes | {other}, 32)
    for key in KEYS[:300]:
        before, after = many.node_of(key), few.node_of(key)
        assert after == before if before != other else after != other


@given(st.lists(names, max_size=6))
def test_the_same_nodes_in_any_order_make_the_same_ring(nodes: list[str]) -> None:
    one, other = Ring(nodes, 8), Ring([*reversed(nodes), *nodes], 8)
    assert one.version == other.version
    assert [one.node_of(key) for key in KEYS[:20]] == [other.node_of(key) for key in KEYS[:20]]


def test_a_ring_is_the_same_on_every_machine_and_release() -> None:
    ring = Ring(["a", "b", "c"])
    assert ring.version == "9add271973ac12ae"
    assert [ring.node_of(key) for key in ("u1", "u2", "u3", "post-17", "ünï")] == ["b", "c", "c", "b", "b"]


def test_an_empty_ring_has_no_node_and_one_node_has_everything() -> None:
    assert Ring([]).node_of("u1") is None
    only = Ring(["only"])
    assert {only.node_of(key) for key in KEYS} == {"only"}


def test_a_ring_without_virtual_nodes_is_refused() -> None:
    with pytest.raises(ValueError, match="virtual_nodes: must be >= 1"):
        Ring(["a"], 0)
