"""What every ``Carrier`` must keep, one test per guarantee of its docstring.

class TestMyCarrier(CarrierContract):
    async def open(self): return MyCarrier(…)
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from heartcast.cluster.carrier import Carrier


async def handed(send: Callable[[Callable[[Any], None]], None]) -> Any:
    """How many nodes a message was handed to."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    send(future.set_result)
    return await future


class CarrierContract(ABC):
    """Inherit, say how to open your carrier, and run."""

    @abstractmethod
    async def open(self) -> Carrier:
        """Another node's carrier; the test closes it."""

    @pytest.fixture
    async def boxes(self) -> AsyncIterator[dict[str, tuple[Carrier, list[bytes]]]]:
        """Three nodes that have entered, each with what arrived."""
        boxes: dict[str, tuple[Carrier, list[bytes]]] = {}
        for name in ("a", "b", "c"):
            boxes[name] = await self.open(), []
            await boxes[name][0].enter(name, boxes[name][1].append)
        yield boxes
        for carrier, _ in boxes.values():
            await carrier.close()

    async def until(self, box: list[bytes], count: int) -> None:
        """Wait until so many arrived, at most 5 s."""
        async with asyncio.timeout(5):
            while len(box) < count:  # noqa: ASYNC110 - a list tells nobody
                await asyncio.sleep(0.005)

    async def test_1_a_message_arrives_once_where_it_is_for_and_nowhere_else(
        self, boxes: dict[str, tuple[Carrier, list[bytes]]]
    ) -> None:
        message = bytes(range(256))
        assert await handed(lambda done: boxes["a"][0].send("b", message, done)) == 1
        assert await handed(lambda done: boxes["b"][0].send("b", b"to myself", done)) == 1
        await self.until(boxes["b"][1], 2)
        assert boxes["b"][1] == [message, b"to myself"]
        assert boxes["a"][1] == boxes["c"][1] == []

    async def test_2_messages_of_one_sender_arrive_in_order(
        self, boxes: dict[str, tuple[Carrier, list[bytes]]]
    ) -> None:
        messages = [str(n).encode() for n in range(500)]
        for message in messages:
            boxes["a"][0].send("c", message, lambda _: None)
        await self.until(boxes["c"][1], 500)
        assert boxes["c"][1] == messages

    async def test_3_to_all_means_everybody_who_entered(
        self, boxes: dict[str, tuple[Carrier, list[bytes]]]
    ) -> None:
        assert await handed(lambda done: boxes["a"][0].send_all(b"hello", done)) == 3
        for _, box in boxes.values():
            await self.until(box, 1)
            assert box == [b"hello"]

    async def test_4_who_is_gone_is_known_to_be(self, boxes: dict[str, tuple[Carrier, list[bytes]]]) -> None:
        assert await handed(lambda done: boxes["a"][0].send("nobody", b"x", done)) == 0
        await boxes["b"][0].close()
        async with asyncio.timeout(5):
            while await handed(lambda done: boxes["a"][0].send("b", b"x", done)):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert await handed(lambda done: boxes["a"][0].send_all(b"x", done)) == 2
