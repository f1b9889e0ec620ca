"""Contract tests of a ``HeartStore``: scans (guarantees 9 and 20)."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from heartcast.hearts.model import Heart, HeartKey
from heartcast.hearts.store import MAX_KEYS, HeartStore
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.testing.contracts.heart_store_base import KEY, StoreTests, keys_of


class ScanTests(StoreTests):
    """Every heart of one moment."""

    async def test_a_scan_sees_every_heart_once(self, store: HeartStore) -> None:
        keys = [key for target in "abcdefghijkl" for key in keys_of(target, range(400))]
        for start in range(0, len(keys), MAX_KEYS):
            await Awaiting(store).add(keys[start : start + MAX_KEYS], 1_000)

        seen = [heart.key for batch in [batch async for batch in store.scan()] for heart in batch]

        assert len(seen) == len(keys)
        assert set(seen) == set(keys)

    async def test_9_a_scan_sees_what_was_answered_before_it_began_and_nothing_later(
        self, store: HeartStore
    ) -> None:
        # Three times as many as one batch holds, so that the scan is still under way below.
        for start in range(0, 6_000, MAX_KEYS):
            await Awaiting(store).add(keys_of("post_1", range(start, start + MAX_KEYS)), now_ms=1)
        answered: set[HeartKey] = set(keys_of("post_1", range(6_000)))
        then: list[set[HeartKey]] = []

        def change(user: int) -> None:
            new, old = HeartKey("post_2", f"n{user}"), HeartKey("post_1", f"u{user}")
            store.add([new], 2, lambda _: answered.add(new))
            store.remove([old], 2, lambda _: answered.discard(old))

        def begin() -> None:
            then.append(set(answered))
            change(3)

        change(1)
        scan = store.scan(begin)
        first = asyncio.ensure_future(anext(scan))
        await asyncio.sleep(0)
        change(2)
        seen = [heart.key for heart in await first]
        change(4)
        seen += [heart.key for batch in [batch async for batch in scan] for heart in batch]

        assert len(then) == 1
        assert len(seen) == len(set(seen))
        assert set(seen) == then[0]

    async def test_9_what_the_beginning_raises_ends_the_scan(self, store: HeartStore) -> None:
        def begin() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await anext(store.scan(begin))

        [outcome] = await Awaiting(store).add([KEY], now_ms=1)
        assert outcome.changed

    async def test_9_a_scan_that_is_given_up_holds_nothing_up(self, store: HeartStore) -> None:
        await Awaiting(store).add(keys_of("post_1", range(MAX_KEYS)), now_ms=1)
        waiting = asyncio.ensure_future(anext(store.scan()))
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        scan = store.scan()
        await anext(scan)
        await scan.aclose()  # type: ignore[attr-defined]  # both stores' scans are generators

        assert len([heart async for batch in store.scan() for heart in batch]) == MAX_KEYS

    async def test_20_a_walk_gives_what_stays_once_and_what_went_not(self, store: HeartStore) -> None:
        keys = [key for target in "abc" for key in keys_of(target, range(100))]
        await Awaiting(store).add(keys, 1_000)
        seen: list[Heart] = []
        while page := await store.walk(seen[-1].id if seen else "", 70):
            seen += page
            if len(seen) == 70:
                # One that was given, one that was not reached yet, and one that is made meanwhile.
                await Awaiting(store).remove([keys[0], keys[299]], 2_000)
                await Awaiting(store).add([KEY], 3_000)

        assert [heart.key for heart in seen if heart.key != KEY] == keys[:299]
        assert [heart.id for heart in seen] == sorted(heart.id for heart in seen)
        [last] = await store.walk(seen[-2].id, 5)
        assert last == await store.find(seen[-1].id)
