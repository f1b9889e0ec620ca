"""The awaitable face of a heart store, for everyone who is not on the hot path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from heartcast.core.errors import HeartcastError
from heartcast.hearts.model import Cause, Count, HeartKey, Once, Outcome, Receipt, Step
from heartcast.hearts.store import HeartStore

T = TypeVar("T")


class Awaiting:
    """Awaits what ``HeartStore`` answers by callback; each method raises ``StoreUnavailable``.

    A caller that is cancelled stops waiting; the write itself goes on.
    """

    def __init__(self, store: HeartStore) -> None:
        self._store = store

    async def add(self, keys: Sequence[HeartKey], now_ms: int) -> list[Outcome]:
        return await result_of(lambda done: self._store.add(keys, now_ms, done))

    async def load(
        self, keys: Sequence[HeartKey], times_ms: Sequence[int], cause: Cause = "import"
    ) -> list[Outcome]:
        return await result_of(lambda done: self._store.load(keys, times_ms, done, cause))

    async def remove(self, keys: Sequence[HeartKey], now_ms: int, cause: Cause = "user") -> list[Outcome]:
        return await result_of(lambda done: self._store.remove(keys, now_ms, done, cause))

    async def once(self, receipt: Receipt, steps: Sequence[Step], now_ms: int) -> Once:
        """Raises also ``InvalidInput``."""
        return await result_of(lambda done: self._store.once(receipt, steps, now_ms, done))

    async def counts(self, target_ids: Sequence[str], kind: str) -> list[Count]:
        return await result_of(lambda done: self._store.counts(target_ids, kind, done))

    async def hearted(self, user_id: str, target_ids: Sequence[str], kind: str) -> list[bool]:
        return await result_of(lambda done: self._store.hearted(user_id, target_ids, kind, done))


async def result_of(call: Callable[[Callable[[T | HeartcastError], None]], None]) -> T:
    """Await a call that answers by ``done(value | error)``, and raise the error."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def done(result: T | HeartcastError) -> None:
        if future.cancelled():
            return
        if isinstance(result, HeartcastError):
            future.set_exception(result)
        else:
            future.set_result(result)

    call(done)
    return await future
