"""A process that is a node and nothing else: it works its shards, and writes down which and when.

Started by ``test_faults.py`` with a URL, a name and the options as JSON. Fifty times a second it
asks of every shard whether it may work it, as a worker does before each call to the outside, and
prints one line of JSON: the monotonic time, which is one for all processes of a machine, the
shards it may work with their epochs, and how many nodes it sees.
"""

from __future__ import annotations

import asyncio
import json
import sys

import msgspec

from heartcast.cluster.membership import Membership
from heartcast.cluster.node import Node
from heartcast.cluster.options import ClusterOptions
from heartcast.cluster.registry.redis import RedisRegistry
from heartcast.core.clock import SleeplessClock
from heartcast.observability import logs

SHARDS = 64


async def main(url: str, name: str, options: str) -> None:
    logs.configure()  # to standard error
    clock = SleeplessClock()
    registry = RedisRegistry(url, SHARDS)
    await registry.open()
    node = Node(id=f"{name}-{clock.wall_ms()}", name=name, started_ms=clock.wall_ms())
    membership = Membership(
        node,
        registry,
        clock,
        asyncio.get_running_loop().call_later,
        shards=SHARDS,
        options=msgspec.json.decode(options, type=ClusterOptions),
    )
    membership.start()
    while True:
        # The time first: who is stopped after it looked has looked in time.
        now_s = clock.monotonic_s()
        held = {shard: membership.epoch_of(shard) for shard in range(SHARDS) if membership.holds(shard)}
        print(json.dumps({"t": now_s, "held": held, "nodes": len(membership.nodes())}), flush=True)
        await asyncio.sleep(0.02)


asyncio.run(main(*sys.argv[1:]))
