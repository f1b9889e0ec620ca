"""Presence in one process and in many."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.backends.redis_pipe import RedisPipe
from heartcast.realtime.log.redis import Names
from heartcast.realtime.presence.memory import MemoryPresence
from heartcast.realtime.presence.redis import SCRIPTS, RedisPresence
from heartcast.testing import ManualClock
from heartcast.testing.contracts.presence import CHANNEL, Node, PresenceContract
from heartcast.testing.eventually import eventually
from heartcast.testing.fault_proxy import FaultProxy
from heartcast.testing.redis_server import RedisServer


class TestMemoryPresence(PresenceContract):
    """Runs every guarantee in one process."""

    @pytest.fixture
    def nodes(self) -> list[Node]:
        return [Node(MemoryPresence)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from(["", "ann", "bob"]))))
def test_counts_are_those_of_who_is_there(steps: list[tuple[int, str]]) -> None:
    presence, here = MemoryPresence(lambda channel: ()), dict[int, str]()
    node = Node(lambda members: presence)
    for client, user in steps:
        if client in here:
            node.leave(str(client))
            del here[client]
        else:
            node.enter(str(client), user)
            here[client] = user
        counts: list[object] = []
        presence.count(CHANNEL, counts.append)
        assert counts == [(len(here), len(set(here.values())))]


@pytest.fixture
async def pipe(redis: RedisServer) -> AsyncIterator[RedisPipe]:
    pipe = RedisPipe(redis.url, timeout_s=5.0, scripts=SCRIPTS)
    yield pipe
    await pipe.close()


class TestRedisPresence(PresenceContract):
    """Runs every guarantee on three nodes of one server."""

    @pytest.fixture
    def nodes(self, pipe: RedisPipe, names: Names) -> list[Node]:
        return [
            Node(lambda members, name=name: RedisPresence(pipe, members, node=name, names=names))
            for name in ("n1", "n2", "n3")
        ]

    async def test_3_members_of_a_dead_node_are_gone_and_the_living_stay(
        self, pipe: RedisPipe, names: Names, clock: ManualClock
    ) -> None:
        dead, living = (
            Node(
                lambda members, name=name: RedisPresence(
                    pipe, members, node=name, names=names, now_ms=clock.wall_ms, renew_s=0.05
                )
            )
            for name in ("dead", "living")
        )
        dead.enter("c1", "ann")
        dead.enter("c2", "bob")
        living.enter("c3", "ann")
        assert await living.count() == (3, 2)
        clock.advance(20.0)
        assert isinstance(living.presence, RedisPresence)
        living.presence.start()
        await eventually(lambda: living.presence.renewals)
        living.presence.stop()
        clock.advance(20.0)

        assert await living.count() == (1, 1)
        assert await living.page() == [("c3", "ann")]

    async def test_what_the_server_missed_is_written_anew(self, redis: RedisServer, names: Names) -> None:
        async with FaultProxy("127.0.0.1", redis.port) as proxy:
            pipe = RedisPipe(f"redis://127.0.0.1:{proxy.port}/0", timeout_s=1.0, scripts=SCRIPTS)
            node = Node(lambda members: RedisPresence(pipe, members, node="n", names=names, renew_s=0.1))
            node.enter("c1", "ann")
            assert await node.count() == (1, 1)
            await proxy.refuse()
            node.enter("c2", "bob")
            node.leave("c1")
            await proxy.heal()
            presence = node.presence
            assert isinstance(presence, RedisPresence)
            presence.start()
            await eventually(lambda: presence.repairs)
            presence.stop()

            assert await node.page() == [("c2", "bob")]
            assert await node.count() == (1, 1)
            await pipe.close()
