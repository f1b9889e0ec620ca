"""What every ``HeartStore`` must keep, one test per guarantee of its docstring.

    class TestMyStore(HeartStoreContract):
        async def open(self, folder): return MyStore(folder)

``folder`` is the same for every opening within one test: what a durable store wrote
before it was closed is there again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from heartcast.core.errors import StoreUnavailable
from heartcast.core.ids import is_id
from heartcast.hearts.model import (
    Count,
    Heart,
    HeartKey,
    Outcome,
)
from heartcast.hearts.store import MAX_KEYS, HeartStore
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.testing.contracts.heart_store_base import KEY, StoreTests, all_events, keys_of
from heartcast.testing.contracts.heart_store_events import EventTests
from heartcast.testing.contracts.heart_store_receipts import ReceiptTests
from heartcast.testing.contracts.heart_store_scans import ScanTests
from heartcast.testing.contracts.heart_store_truth import TruthTests

__all__ = ["HeartStoreContract", "all_events", "keys_of"]


class _MembershipTests(StoreTests):
    """Hearts that come and go (guarantees 1 to 8), and lists of them."""

    async def test_1_adding_twice_keeps_the_first_id_and_time(self, store: HeartStore) -> None:
        [first] = await Awaiting(store).add([KEY], now_ms=1_000)
        [again] = await Awaiting(store).add([KEY], now_ms=2_000)

        assert first.changed
        assert not again.changed
        assert again.heart == first.heart
        assert first.heart is not None
        assert is_id(first.heart.id)
        assert (first.heart.key, first.heart.created_ms) == (KEY, 1_000)
        assert again.count == 1

    async def test_1_the_same_key_twice_in_one_call_is_one_heart(self, store: HeartStore) -> None:
        first, again = await Awaiting(store).add([KEY, KEY], now_ms=1_000)

        assert (first.changed, again.changed) == (True, False)
        assert first.heart == again.heart

    async def test_1_kinds_and_users_and_targets_are_apart(self, store: HeartStore) -> None:
        keys = [KEY, KEY._replace(kind="clap"), KEY._replace(user_id="u1"), KEY._replace(target_id="post_1")]
        outcomes = await Awaiting(store).add(keys, now_ms=1_000)

        assert [outcome.changed for outcome in outcomes] == [True] * 4
        assert [outcome.count for outcome in outcomes] == [1, 1, 2, 1]
        assert len({outcome.heart.id for outcome in outcomes if outcome.heart}) == 4

    async def test_2_of_concurrent_adds_exactly_one_changed_it(self, store: HeartStore) -> None:
        outcomes = await asyncio.gather(*(Awaiting(store).add([KEY], 1_000) for _ in range(50)))  # noqa: TID251

        assert sum(outcome.changed for [outcome] in outcomes) == 1
        assert await Awaiting(store).counts([KEY.target_id], KEY.kind) == [Count(KEY.target_id, 1, 1)]

    async def test_2_of_concurrent_removes_exactly_one_changed_it(self, store: HeartStore) -> None:
        await Awaiting(store).add([KEY], 1_000)
        outcomes = await asyncio.gather(*(Awaiting(store).remove([KEY], 2_000) for _ in range(50)))  # noqa: TID251

        assert sum(outcome.changed for [outcome] in outcomes) == 1
        assert [outcome.count for [outcome] in outcomes] == [0] * 50

    async def test_3_the_count_includes_that_very_write(self, store: HeartStore) -> None:
        outcomes = await Awaiting(store).add(keys_of("post", range(20)), 1_000)
        [removed] = await Awaiting(store).remove([HeartKey("post", "u7")], 2_000)

        assert [outcome.count for outcome in outcomes] == list(range(1, 21))
        assert removed.count == 19

    async def test_3_a_count_read_after_an_answer_is_not_older(self, store: HeartStore) -> None:
        seen: list[int] = []
        all_read = asyncio.Event()
        total = 200

        def added(outcomes: list[Outcome] | StoreUnavailable) -> None:
            assert isinstance(outcomes, list)
            store.counts(["post"], KEY.kind, lambda counts: read(counts, outcomes[0].count))

        def read(counts: list[Count] | StoreUnavailable, least: int) -> None:
            assert isinstance(counts, list)
            seen.append(counts[0].count - least)
            if len(seen) == total:
                all_read.set()

        for key in keys_of("post", range(total)):
            store.add([key], 1_000, added)
        await all_read.wait()

        assert min(seen) >= 0

    async def test_4_what_was_answered_is_there_after_opening_again(
        self, store: HeartStore, tmp_path: Path
    ) -> None:
        [added, _] = await Awaiting(store).add([KEY, KEY._replace(user_id="gone")], 1_000)
        await Awaiting(store).remove([KEY._replace(user_id="gone")], 2_000)
        await store.close()

        again = await self.open(tmp_path)
        try:
            [count] = await Awaiting(again).counts([KEY.target_id], KEY.kind)
            assert added.heart is not None
            assert await again.find(added.heart.id) == (added.heart if again.is_durable else None)
            assert count.count == (1 if again.is_durable else 0)
        finally:
            await again.close()

    async def test_5_items_take_effect_in_order_each_alone(self, store: HeartStore) -> None:
        outcomes = await Awaiting(store).add(
            [*keys_of("a", range(3)), KEY, *keys_of("a", range(2, 5))], 1_000
        )

        assert [outcome.changed for outcome in outcomes] == [True, True, True, True, False, True, True]
        assert [outcome.count for outcome in outcomes] == [1, 2, 3, 1, 3, 4, 5]

    async def test_5_calls_take_effect_in_the_order_made(self, store: HeartStore) -> None:
        results: list[tuple[int, bool]] = []
        last = asyncio.Event()

        def note(outcomes: list[Outcome] | StoreUnavailable) -> None:
            assert isinstance(outcomes, list)
            results.append((outcomes[0].count, outcomes[0].changed))
            if len(results) == 5:
                last.set()

        store.add([KEY], 1, note)
        store.remove([KEY], 2, note)
        store.remove([KEY], 3, note)
        store.add([KEY], 4, note)
        store.add([KEY], 5, note)
        await last.wait()

        assert results == [(1, True), (0, True), (0, False), (1, True), (1, False)]
        [heart] = await store.page(target_id=KEY.target_id, user_id=None, kind=KEY.kind, after="", limit=9)
        assert heart.created_ms == 4

    async def test_5_a_call_takes_as_many_keys_as_the_port_says(self, store: HeartStore) -> None:
        outcomes = await Awaiting(store).add(keys_of("post", range(MAX_KEYS)), 1_000)

        assert [outcome.count for outcome in outcomes] == list(range(1, MAX_KEYS + 1))

    async def test_6_removing_what_is_not_there_changes_nothing(self, store: HeartStore) -> None:
        outcomes = await Awaiting(store).remove([KEY, KEY], 1_000)
        await Awaiting(store).add([KEY], 2_000)
        outcomes += await Awaiting(store).remove([KEY, KEY], 3_000)

        assert [outcome.count for outcome in outcomes] == [0, 0, 0, 0]
        assert [outcome.changed for outcome in outcomes] == [False, False, True, False]
        assert [outcome.heart is None for outcome in outcomes] == [True, True, False, True]

    async def test_7_the_version_counts_changes_and_outlives_the_last_heart(
        self, store: HeartStore, tmp_path: Path
    ) -> None:
        for _ in range(3):
            await Awaiting(store).add([KEY, KEY], 1_000)
            await Awaiting(store).remove([KEY, KEY], 2_000)
        assert await Awaiting(store).counts([KEY.target_id], KEY.kind) == [Count(KEY.target_id, 0, 6)]
        await store.close()

        again = await self.open(tmp_path)
        try:
            [added] = await Awaiting(again).add([KEY], 3_000)
            assert (added.count, added.version) == (1, 7 if again.is_durable else 1)
        finally:
            await again.close()

    async def test_8_every_call_is_answered_once_even_when_the_store_is_closed(
        self, store: HeartStore
    ) -> None:
        answers = [0] * 100

        def count(call: int) -> None:
            answers[call] += 1

        for call in range(100):
            store.add([HeartKey("post", f"u{call}")], 1_000, lambda _, call=call: count(call))  # type: ignore[misc]
        await store.close()
        await store.close()

        assert answers == [1] * 100

    async def test_8_a_closed_store_says_so(self, store: HeartStore) -> None:
        await store.close()

        with pytest.raises(StoreUnavailable):
            await Awaiting(store).add([KEY], 1_000)
        with pytest.raises(StoreUnavailable):
            await Awaiting(store).remove([KEY], 1_000)
        with pytest.raises(StoreUnavailable):
            await Awaiting(store).counts([KEY.target_id], KEY.kind)
        with pytest.raises(StoreUnavailable):
            await Awaiting(store).hearted(KEY.user_id, [KEY.target_id], KEY.kind)
        with pytest.raises(StoreUnavailable):
            await store.find("0" * 26)
        with pytest.raises(StoreUnavailable):
            await store.page(target_id=KEY.target_id, user_id=None, kind=KEY.kind, after="", limit=1)

    async def test_loading_keeps_each_time(self, store: HeartStore) -> None:
        keys = keys_of("post", range(3))
        outcomes = await Awaiting(store).load(keys, [30, 10, 20])

        assert [outcome.heart.created_ms for outcome in outcomes if outcome.heart] == [30, 10, 20]

    async def test_counts_come_in_the_order_asked_and_unknown_targets_count_zero(
        self, store: HeartStore
    ) -> None:
        await Awaiting(store).add([*keys_of("a", range(2)), *keys_of("b", range(1))], 1_000)

        counts = await Awaiting(store).counts(["b", "nobody", "a", "b"], KEY.kind)

        assert counts == [Count("b", 1, 1), Count("nobody", 0, 0), Count("a", 2, 2), Count("b", 1, 1)]
        assert await Awaiting(store).counts(["a"], "another kind") == [Count("a", 0, 0)]

    async def test_hearted_says_which_targets_a_user_hearts(self, store: HeartStore) -> None:
        await Awaiting(store).add([KEY, KEY._replace(target_id="b", kind="clap")], 1_000)

        hearted = await Awaiting(store).hearted(KEY.user_id, ["b", KEY.target_id, "c"], KEY.kind)

        assert hearted == [False, True, False]
        assert await Awaiting(store).hearted("nobody", [KEY.target_id], KEY.kind) == [False]

    async def test_pages_list_a_target_or_a_user_oldest_first(self, store: HeartStore) -> None:
        keys = [
            *keys_of("a", range(5)),
            HeartKey("a", "u1", "clap"),
            HeartKey("b", "u1"),
            HeartKey("b", "u9"),
            HeartKey("a", "u6"),
        ]
        await Awaiting(store).add(keys, 1_000)
        await Awaiting(store).remove([HeartKey("a", "u2")], 2_000)

        async def pages(limit: int, target_id: str | None, user_id: str | None) -> list[HeartKey]:
            found: list[Heart] = []
            after = ""
            while page := await store.page(
                target_id=target_id, user_id=user_id, kind="heart", after=after, limit=limit
            ):
                found += page
                after = page[-1].id
            assert [heart.id for heart in found] == sorted(heart.id for heart in found)
            return [heart.key for heart in found]

        of_a = [keys[0], keys[1], keys[3], keys[4], keys[8]]
        assert await pages(2, "a", None) == of_a
        assert await pages(200, "a", None) == of_a
        assert await pages(1, None, "u1") == [keys[1], keys[6]]
        assert await pages(5, "b", "u1") == [keys[6]]
        assert await pages(5, "nothing", None) == []

    async def test_a_heart_is_found_by_its_id_until_removed(self, store: HeartStore) -> None:
        [added] = await Awaiting(store).add([KEY], 1_000)
        assert added.heart is not None

        assert await store.find(added.heart.id) == added.heart
        assert await store.find("0" * 26) is None
        assert await store.find("no id at all") is None
        await Awaiting(store).remove([KEY], 2_000)
        assert await store.find(added.heart.id) is None

    async def test_ids_of_any_writing_system_and_length_are_kept(self, store: HeartStore) -> None:
        keys = [HeartKey("пост:1,2|3", "użytkownik 'x'"), HeartKey("心" * 66, "💚" * 50), HeartKey("1", "1")]
        outcomes = await Awaiting(store).add(keys, 1_000)

        assert [outcome.count for outcome in outcomes] == [1, 1, 1]
        for key in keys:
            [heart] = await store.page(target_id=key.target_id, user_id=None, kind="heart", after="", limit=5)
            assert heart.key == key


class HeartStoreContract(_MembershipTests, ScanTests, TruthTests, EventTests, ReceiptTests):
    """Inherit, say how to open your store, and run."""
