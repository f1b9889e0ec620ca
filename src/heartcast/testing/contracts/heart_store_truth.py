"""Contract tests of a ``HeartStore``: counts that are proven (guarantees 10 to 12)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from heartcast.core.errors import StoreUnavailable
from heartcast.hearts.model import (
    Count,
    HeartKey,
    Outcome,
    Recount,
)
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.testing.contracts.heart_store_base import KEY, StoreTests, keys_of


class TruthTests(StoreTests):
    """Counting again, repairing, and naming everything."""

    async def test_10_a_recount_has_count_version_and_rows_of_one_moment(self, store: HeartStore) -> None:
        users = range(300)
        added: list[list[Outcome] | StoreUnavailable] = []
        asked: list[asyncio.Future[list[Recount]]] = []
        for key in keys_of("post", users):
            store.add([key], 1_000, added.append)
            if len(asked) < 20:
                asked.append(asyncio.ensure_future(store.recount(["post", "nobody"], KEY.kind)))
        found = [await answer for answer in asked]
        # Answered after all the others.
        await Awaiting(store).add(keys_of("post", range(1)), 1_000)

        for known, unknown in found:
            assert (known.target_id, known.kind, known.drift) == ("post", KEY.kind, 0)
            assert known.count == known.version == known.rows
            assert unknown == Recount("nobody", KEY.kind, 0, 0, 0)
        assert (await store.recount(["post"], KEY.kind))[0].rows == len(users)

    async def test_11_a_spoiled_count_is_seen_and_repaired(self, store: HeartStore, tmp_path: Path) -> None:
        await Awaiting(store).add(keys_of("post", range(3)), 1_000)
        await Awaiting(store).counts(["post"], KEY.kind)
        can_differ = await self.spoil(tmp_path, HeartKey("post", "u1"))
        [seen] = await store.recount(["post"], KEY.kind)
        assert (seen.drift != 0) == can_differ

        repaired = await store.repair("post", KEY.kind, seen.count, seen.version)

        [after] = await store.recount(["post"], KEY.kind)
        assert (after.count, after.rows) == (3, 3)
        assert repaired == Count("post", after.count, after.version)
        assert await Awaiting(store).counts(["post"], KEY.kind) == [repaired]
        [added] = await Awaiting(store).add([KEY._replace(target_id="post")], 2_000)
        assert (added.count, added.version) == (4, after.version + 1)
        assert (after.version > seen.version) == (after.count != seen.count)

    async def test_11_a_repair_of_what_changed_meanwhile_leaves_it_alone(
        self, store: HeartStore, tmp_path: Path
    ) -> None:
        await Awaiting(store).add(keys_of("post", range(3)), 1_000)
        await self.spoil(tmp_path, HeartKey("post", "u1"))
        [seen] = await store.recount(["post"], KEY.kind)
        await Awaiting(store).add([KEY._replace(target_id="post")], 2_000)
        [before] = await store.recount(["post"], KEY.kind)

        assert await store.repair("post", KEY.kind, seen.count, seen.version) is None
        assert await store.recount(["post"], KEY.kind) == [before]
        assert await store.repair("nobody", KEY.kind, 1, 1) is None

    async def test_12_kinds_and_targets_are_all_named(self, store: HeartStore) -> None:
        keys = [
            HeartKey(f"t{target}", "u", kind)
            for target in range(60)
            for kind in ("heart", "clap", "old")
            if target % 3 or kind != "clap"
        ]
        await Awaiting(store).add(keys, 1_000)
        await Awaiting(store).remove([key for key in keys if key.kind == "old"], 2_000)

        assert set(await store.kinds()) == {"heart", "clap", "old"}
        seen: list[tuple[str, str]] = []
        after, calls = "", 0
        while calls == 0 or after:
            page, after = await store.targets(after, 7)
            seen += page
            calls += 1
        assert set(seen) == {(key.target_id, key.kind) for key in keys}

    async def test_8_a_closed_store_tells_no_truth_either(self, store: HeartStore) -> None:
        await store.close()

        with pytest.raises(StoreUnavailable):
            await store.kinds()
        with pytest.raises(StoreUnavailable):
            await store.targets("", 1)
        with pytest.raises(StoreUnavailable):
            await store.recount(["post"], KEY.kind)
        with pytest.raises(StoreUnavailable):
            await store.repair("post", KEY.kind, 0, 0)
