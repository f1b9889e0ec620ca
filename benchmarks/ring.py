"""Placing keys and shards on nodes: balance, what moves, and the cost of a look-up.

A million keys on ten nodes, then without one of them; a thousand sets of random names for the
balance that a set of names happens to get; random joins and leaves for the shards. What must move
at least is what the leaver had, or the share of the newcomer.
"""

from __future__ import annotations

import time
from collections import Counter
from random import Random
from typing import Any

from heartcast.cluster.ring import POINTS_PER_VIRTUAL_NODE, Ring
from heartcast.cluster.shares import shares

KEYS, NODES, SETS, SHARDS, CHANGES = 1_000_000, 10, 1_000, 64, 2_000


def run() -> dict[str, Any]:
    """All figures; about half a minute."""
    return {"keys": _keys(), "balance_of_names": _balance(), "shards": _shards()}


def _keys() -> dict[str, Any]:
    names = [f"node-{n}" for n in range(NODES)]
    keys = [f"user-{n}" for n in range(KEYS)]
    ring = Ring(names)
    start_s = time.perf_counter()
    before = [ring.node_of(key) for key in keys]
    took_s = time.perf_counter() - start_s
    after = map(Ring(names[1:]).node_of, keys)
    moved = sum(was not in (names[0], now) for was, now in zip(before, after, strict=True))
    return {
        "keys": KEYS,
        "nodes": NODES,
        "largest_over_mean": round(max(Counter(before).values()) * NODES / KEYS, 4),
        "moved_between_survivors": moved,
        "look_up_us": round(took_s * 1e6 / KEYS, 3),
    }


def _balance() -> dict[str, Any]:
    random = Random(1)
    sets = [[f"{random.getrandbits(64):x}" for _ in range(NODES)] for _ in range(SETS)]
    return {
        "sets_of_names": SETS,
        "above_1_15_with_256_points": _above(sets, 256 // POINTS_PER_VIRTUAL_NODE),
        "above_1_15_with_1024_points": _above(sets, 256),
    }


def _above(sets: list[list[str]], virtual_nodes: int) -> int:
    return sum(max(Ring(names, virtual_nodes).portions().values()) * NODES > 1.15 for names in sets)


def _shards() -> dict[str, Any]:
    random, nodes, worst = Random(2), ["first"], 0.0
    owners = shares(nodes, {}, SHARDS)
    for number in range(CHANGES):
        if len(nodes) == 1 or (len(nodes) < SHARDS and random.random() < 0.5):
            nodes.append(f"n{number}")
            least = SHARDS // len(nodes)
        else:
            gone = nodes.pop(random.randrange(len(nodes)))
            least = sum(owner == gone for owner in owners.values())
        wanted = shares(nodes, owners, SHARDS)
        worst = max(worst, sum(wanted[shard] != owners[shard] for shard in wanted) / least)
        owners = wanted
    return {"joins_and_leaves": CHANGES, "most_moves_over_least": round(worst, 3)}
