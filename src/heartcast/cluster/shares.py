"""The shares: which node should own which shard, computed alike by everybody.

Each node gets floor or ceil of shards/nodes. Who owns something now keeps it as far as its
share goes, and those who own most get the larger shares, so no more shards move than must:
what is beyond a share, and what belongs to nobody. It needs no leader, since equal input
gives equal output; where two nodes see different owners for a moment, the leases decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def shares(nodes: Iterable[str], owners: Mapping[int, str], shards: int) -> dict[int, str]:
    """Who should own which shard.

    Args:
        nodes: Ids of the nodes that take shards.
        owners: Who owns a shard now; shards that nobody owns are absent, and owners that
            are not among ``nodes`` count as nobody.
        shards: How many there are, numbered from 0.

    Returns:
        A node for every shard; empty without nodes.
    """
    held: dict[str, list[int]] = {node: [] for node in sorted(set(nodes))}
    if not held:
        return {}
    free: list[int] = []
    for shard in range(shards):
        held.get(owners.get(shard, ""), free).append(shard)
    least, larger = divmod(shards, len(held))
    # Those who own most get the larger shares: each of them then gives one shard less away.
    by_holding = sorted(held, key=lambda node: (-len(held[node]), node))
    quotas = {node: least + (place < larger) for place, node in enumerate(by_holding)}
    for node, own in held.items():
        free += own[quotas[node] :]
        del own[quotas[node] :]
    free.sort()
    wanted: dict[int, str] = {shard: node for node, own in held.items() for shard in own}
    at = 0
    for node in by_holding:
        lacking = quotas[node] - len(held[node])
        wanted.update(dict.fromkeys(free[at : at + lacking], node))
        at += lacking
    return wanted
