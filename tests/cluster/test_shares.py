from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from heartcast.cluster.shares import shares

nodes_of = st.integers(1, 9).flatmap(lambda n: st.just([f"n{i}" for i in range(n)]))


@st.composite
def clusters(draw: st.DrawFn) -> tuple[list[str], dict[int, str], int]:
    """Nodes that are there, owners that need not be among them, and how many shards there are."""
    shards = draw(st.integers(1, 70))
    everybody = [f"n{i}" for i in range(draw(st.integers(1, 12)))]
    living = draw(st.lists(st.sampled_from(everybody), min_size=1, unique=True))
    owners = draw(st.dictionaries(st.integers(0, shards - 1), st.sampled_from(everybody)))
    return living, owners, shards


@given(clusters())
def test_everybody_gets_floor_or_ceil_and_every_shard_somebody(
    cluster: tuple[list[str], dict[int, str], int],
) -> None:
    nodes, owners, shards = cluster
    wanted = shares(nodes, owners, shards)
    assert set(wanted) == set(range(shards))
    counts = Counter(wanted.values())
    assert {counts[node] for node in nodes} <= {shards // len(nodes), -(-shards // len(nodes))}


@given(clusters())
def test_no_more_shards_move_than_must(cluster: tuple[list[str], dict[int, str], int]) -> None:
    nodes, owners, shards = cluster
    moved = sum(owners.get(shard) != node for shard, node in shares(nodes, owners, shards).items())
    # What has no living owner moves anyhow; of the others each node keeps what fits into the
    # larger share, and only so many nodes may have the larger one.
    least, larger = divmod(shards, len(nodes))
    held = sorted((list(owners.values()).count(node) for node in nodes), reverse=True)
    kept = sum(min(count, least + (place < larger)) for place, count in enumerate(held))
    assert moved == shards - kept


@given(clusters())
def test_what_is_shared_out_already_stays(cluster: tuple[list[str], dict[int, str], int]) -> None:
    nodes, owners, shards = cluster
    wanted = shares(nodes, owners, shards)
    assert shares(reversed(nodes), wanted, shards) == wanted


def test_without_nodes_nobody_gets_anything() -> None:
    assert shares([], {0: "gone"}, 64) == {}
