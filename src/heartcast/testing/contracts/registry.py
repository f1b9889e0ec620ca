"""What every ``Registry`` must keep, one test per guarantee of its docstring.

    class TestMyRegistry(RegistryContract):
        async def open(self): return MyRegistry(…)

``open`` gives another node's view of the same registry each time; shards are 8.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar, cast

import pytest

from heartcast.cluster.node import Node
from heartcast.cluster.registry import Registry, View

SHARDS = 8
LEASE_S = 0.5
LONG_S = 60.0

T = TypeVar("T")


def a_node(name: str, **fields: Any) -> Node:
    return Node(id=f"id-of-{name}", name=name, **fields)


async def answer(ask: Callable[[Callable[[Any], None]], None]) -> Any:
    """What a call calls back with; an error is given, not raised."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    ask(future.set_result)
    return await future


async def view_of(
    registry: Registry, name: str, held: dict[int, int] | None = None, lease_s: float = LONG_S
) -> View:
    """Beat once, and look."""
    seen = await answer(lambda done: registry.beat(a_node(name), held or {}, lease_s, done))
    assert isinstance(seen, View), seen
    return seen


async def epoch_of(registry: Registry, shard: int, name: str, lease_s: float = LONG_S) -> int | None:
    """Acquire a shard; None: somebody has it."""
    epoch = await answer(lambda done: registry.acquire(shard, f"id-of-{name}", lease_s, done))
    assert epoch is None or isinstance(epoch, int), epoch
    return epoch


async def give_back(registry: Registry, shard: int, name: str, epoch: int) -> None:
    assert await answer(lambda done: registry.release(shard, f"id-of-{name}", epoch, done)) is None


class RegistryContract(ABC):
    """Inherit, say how to open your registry, and run."""

    @abstractmethod
    async def open(self) -> Registry:
        """A registry as another node sees it; the test closes it."""

    async def turn(self) -> float:
        """Let about 10 ms pass; the time now, in seconds."""
        await asyncio.sleep(0.01)
        return asyncio.get_running_loop().time()

    @pytest.fixture
    async def registries(self) -> AsyncIterator[list[Registry]]:
        opened = [await self.open() for _ in range(3)]
        yield opened
        for registry in opened:
            await registry.close()

    async def test_1_of_many_that_acquire_a_shard_one_gets_it(self, registries: list[Registry]) -> None:
        async def acquire(n: int) -> int | None:
            return await epoch_of(registries[n % 3], 3, f"n{n}")

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(acquire(n)) for n in range(9)]
        epochs = [task.result() for task in tasks]
        assert len([epoch for epoch in epochs if epoch is not None]) == 1
        winner = next(n for n, epoch in enumerate(epochs) if epoch is not None)
        assert (await view_of(registries[0], "n0")).leases[3].node == f"id-of-n{winner}"
        assert await epoch_of(registries[1], 4, "other") is not None, "shards are independent"

    async def test_2_every_acquisition_has_a_greater_epoch(self, registries: list[Registry]) -> None:
        epochs = [0]
        for n in range(20):
            epoch = cast(int, await epoch_of(registries[n % 3], 5, f"n{n}"))
            epochs.append(epoch)
            if n % 2:
                again = cast(int, await epoch_of(registries[n % 3], 5, f"n{n}"))  # its own already
                epochs.append(again)
            await give_back(registries[0], 5, f"n{n}", epochs[-1])
        assert epochs == sorted(set(epochs))

    async def test_3_a_lease_that_is_not_renewed_ends_in_time_and_not_earlier(
        self, registries: list[Registry]
    ) -> None:
        began_s = await self.turn()
        assert await epoch_of(registries[0], 1, "a", LEASE_S) is not None
        ended_s = began_s
        while await epoch_of(registries[1], 1, "b", LEASE_S) is None:
            ended_s = await self.turn()
            assert ended_s < began_s + LEASE_S + 2, "the lease never ended"
        assert ended_s - began_s >= LEASE_S - 0.02

    async def test_4_a_shard_is_renewed_only_with_the_epoch_of_its_last_acquisition(
        self, registries: list[Registry]
    ) -> None:
        first = cast(int, await epoch_of(registries[0], 0, "a"))
        second = cast(int, await epoch_of(registries[0], 0, "a"))
        assert (await view_of(registries[0], "a", {0: first})).renewed == frozenset()
        assert (await view_of(registries[0], "a", {0: second, 1: 7})).renewed == {0}
        assert (await view_of(registries[1], "b", {0: second})).renewed == frozenset()

        short = cast(int, await epoch_of(registries[0], 2, "a", LEASE_S))
        deadline_s = await self.turn() + 2 * LEASE_S
        while await self.turn() < deadline_s:
            seen = await view_of(registries[0], "a", {2: short}, LEASE_S)
            assert seen.renewed == {2}
            assert 0 < seen.leases[2].left_s <= LEASE_S + 1e-6

    async def test_5_what_is_given_back_is_free_at_once_and_says_so(self, registries: list[Registry]) -> None:
        epoch = cast(int, await epoch_of(registries[0], 6, "a"))
        await give_back(registries[1], 6, "b", epoch)
        await give_back(registries[0], 6, "a", epoch + 1)
        assert await epoch_of(registries[1], 6, "b") is None, "neither was its owner with its epoch"

        await give_back(registries[0], 6, "a", epoch)
        seen = await view_of(registries[1], "b", {6: epoch})
        assert seen.given_back == {6}
        assert 6 not in seen.leases
        assert seen.renewed == frozenset()
        assert (await view_of(registries[0], "a", {6: epoch})).renewed == frozenset()
        taken = cast(int, await epoch_of(registries[1], 6, "b"))
        assert taken > epoch
        assert (await view_of(registries[0], "a")).given_back == frozenset()

    async def test_6_the_view_has_the_living_as_they_last_described_themselves(
        self, registries: list[Registry]
    ) -> None:
        await view_of(registries[0], "b")
        await view_of(registries[1], "a")
        changed = a_node("b", url="http://b", is_leaving=True)
        seen = await answer(lambda done: registries[0].beat(changed, {}, LONG_S, done))
        assert list(seen.nodes) == [a_node("a"), changed]

        assert await answer(lambda done: registries[0].leave(changed.id, done)) is None
        assert list((await view_of(registries[1], "a")).nodes) == [a_node("a")]

        await view_of(registries[2], "c", lease_s=LEASE_S)
        began_s = await self.turn()
        while len((await view_of(registries[1], "a")).nodes) == 2:
            assert await self.turn() < began_s + LEASE_S + 2, "a node that is silent stays for ever"

    async def test_7_a_life_goes_on_as_long_as_nothing_is_forgotten(self, registries: list[Registry]) -> None:
        lives = {registry: (await view_of(registry, "a")).life for registry in registries}
        await epoch_of(registries[0], 1, "a")
        for registry in registries:
            assert (await view_of(registry, "b")).life == lives[registry] != ""

    async def test_8_every_call_is_answered_once_also_when_the_registry_closes(
        self, registries: list[Registry]
    ) -> None:
        registry, answers = registries[0], []
        for n in range(20):
            registry.acquire(n % SHARDS, "id-of-a", LONG_S, lambda _, n=n: answers.append(n))  # type: ignore[misc]
            registry.leave("nobody", lambda _, n=n: answers.append(100 + n))  # type: ignore[misc]
        await registry.close()
        assert sorted(answers) == [*range(20), *range(100, 120)]
