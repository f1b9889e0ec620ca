"""What all contract tests of a ``HeartStore`` share: how it is opened, and some hearts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heartcast.hearts.model import (
    HeartEvent,
    HeartKey,
    Receipt,
)
from heartcast.hearts.store import HeartStore

KEY = HeartKey("post_123", "u456")
RECEIPT = Receipt(b"n" * 16, b"f" * 16, 900_000)


def keys_of(target_id: str, users: range) -> list[HeartKey]:
    """A key per user number."""
    return [HeartKey(target_id, f"u{user}") for user in users]


async def all_events(store: HeartStore, after: int = 0) -> list[HeartEvent]:
    """Every event with a greater number."""
    seen: list[HeartEvent] = []
    while page := (await store.events(seen[-1].number if seen else after, 100)).events:
        seen += page
    return seen


class StoreTests(ABC):
    """How a store is opened for each test, and closed after it."""

    @abstractmethod
    async def open(self, folder: Path) -> HeartStore:
        """A store over what is in the folder, which keeps events; the test closes it."""

    async def spoil(self, folder: Path, key: HeartKey) -> bool:
        """Make the told count of this key's target differ from its rows by one, behind the store's back.

        Returns:
            False: the store has only one number, which cannot differ.
        """
        return False

    @pytest.fixture
    async def store(self, tmp_path: Path) -> HeartStore:
        return await self.open(tmp_path)

    @pytest.fixture(autouse=True)
    async def _closed_at_the_end(self, store: HeartStore) -> AsyncIterator[None]:
        yield
        await store.close()
