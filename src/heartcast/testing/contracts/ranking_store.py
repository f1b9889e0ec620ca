"""What every ``RankingStore`` must keep, one test per guarantee of its docstring.

    class TestMyStore(RankingStoreContract):
        async def open(self, folder): return MyStore(folder)

``folder`` is the same for every opening within one test.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from heartcast.core.errors import StoreUnavailable
from heartcast.ranking.feedback import Feedback, Kind
from heartcast.ranking.store import Document, RankingStore


def click(name: str, at_ms: int = 1_700_000_000_000) -> Feedback:
    """A click with this id."""
    return Feedback(name, Kind.CLICK, "ann", "post_1", at_ms)


async def append(store: RankingStore, *events: Feedback) -> list[bool]:
    """``RankingStore.append``, awaited.

    Raises:
        StoreUnavailable: nothing was written.
    """
    answer: asyncio.Future[list[bool] | StoreUnavailable] = asyncio.get_running_loop().create_future()
    store.append(events, answer.set_result)
    found = await answer
    if isinstance(found, StoreUnavailable):
        raise found
    return found


async def put(store: RankingStore, *documents: Document) -> None:
    """``RankingStore.put``, awaited. Raises as ``append``."""
    answer: asyncio.Future[StoreUnavailable | None] = asyncio.get_running_loop().create_future()
    store.put(documents, answer.set_result)
    if (error := await answer) is not None:
        raise error


def ids(store: RankingStore) -> list[str]:
    """The ids of the log."""
    return [event.id for piece in store.feedback() for event in piece]


class RankingStoreContract(ABC):
    """Subclass it and say how to open one."""

    @abstractmethod
    async def open(self, folder: Path) -> RankingStore:
        """A store on what earlier ones left in ``folder``."""

    async def test_1_an_event_counts_once(self, tmp_path: Path) -> None:
        store = await self.open(tmp_path)

        assert await append(store, click("a"), click("b"), click("a")) == [True, True, False]
        assert await append(store, click("b", at_ms=5)) == [False]
        if store.is_durable:
            await store.close()
            store = await self.open(tmp_path)
            assert await append(store, click("a")) == [False]
        assert ids(store) == ["a", "b"]
        await store.close()

    async def test_2_what_was_answered_is_there_in_the_next_life(self, tmp_path: Path) -> None:
        store = await self.open(tmp_path)
        if not store.is_durable:
            return
        watch = Feedback("w", Kind.WATCH, "änn", "post 2", 17, 12.5, 0.25)
        await append(store, watch)
        await put(store, Document("strategies", "mine", b"{}"))
        # Not closed in good order: another connection sees what is on the disk.
        assert list(store.feedback()) == [[watch]]
        await store.close()

        store = await self.open(tmp_path)
        assert list(store.feedback()) == [[watch]]
        assert store.documents("strategies") == {"mine": b"{}"}
        await store.close()

    async def test_3_the_log_is_in_order(self, tmp_path: Path) -> None:
        store = await self.open(tmp_path)
        names = [f"e{n}" for n in range(250)]
        for start in range(0, 250, 50):
            await append(store, *map(click, names[start : start + 50]))

        assert ids(store) == names
        await store.close()

    async def test_4_what_is_old_or_too_much_is_forgotten(self, tmp_path: Path) -> None:
        store = await self.open(tmp_path)
        await append(store, click("old", 10), *(click(f"n{n}", 100 + n) for n in range(5)))

        store.forget(before_ms=50, most=3)
        await append(store, click("last", 200))

        assert ids(store) == ["n2", "n3", "n4", "last"]
        await store.close()

    async def test_5_the_last_document_of_a_key_counts(self, tmp_path: Path) -> None:
        store = await self.open(tmp_path)
        await put(store, Document("s", "b", b"1"), Document("s", "a", b"1"), Document("t", "a", b"3"))
        await put(store, Document("s", "b", b"2"), Document("t", "a", None))

        assert list(store.documents("s").items()) == [("a", b"1"), ("b", b"2")]
        assert store.documents("t") == {}
        await store.close()

    async def test_6_every_call_is_answered_once_in_order_also_at_the_end(self, tmp_path: Path) -> None:
        store = await self.open(tmp_path)
        told: list[str] = []
        for n in range(20):
            store.append([click(f"e{n}")], lambda _, n=n: told.append(f"e{n}"))  # type: ignore[misc]
            store.put([Document("s", "k", b"1")], lambda _, n=n: told.append(f"d{n}"))  # type: ignore[misc]
        await store.close()
        await store.close()

        assert told == [f"{what}{n}" for n in range(20) for what in "ed"]
        with pytest.raises(StoreUnavailable):
            await append(store, click("late"))
        with pytest.raises(StoreUnavailable):
            await put(store, Document("s", "k", b"1"))
