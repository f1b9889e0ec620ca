"""Contract tests of a ``HeartStore``: requests that are done once (guarantees 16 to 19)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from heartcast.core.errors import InvalidInput, StoreUnavailable
from heartcast.hearts.model import (
    Count,
    Once,
    Receipt,
    Step,
)
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.testing.contracts.heart_store_base import KEY, RECEIPT, StoreTests, all_events, keys_of


class ReceiptTests(StoreTests):
    """Once per receipt, and what is recalled of it."""

    async def test_16_what_is_asked_again_is_answered_as_then_and_not_done(
        self, store: HeartStore, tmp_path: Path
    ) -> None:
        other = KEY._replace(user_id='u 1\u00fc|"{')
        await Awaiting(store).add([other], 500)
        steps = [
            Step(True, KEY),
            Step(False, other),
            Step(False, KEY._replace(target_id="none")),
            Step(True, KEY),
        ]
        first = await Awaiting(store).once(RECEIPT, steps, 1_000)
        assert [outcome.changed for outcome in first.outcomes] == [True, True, False, False]
        assert [outcome.count for outcome in first.outcomes] == [2, 1, 0, 1]
        assert [outcome.version for outcome in first.outcomes] == [2, 3, 0, 3]
        assert [outcome.heart and outcome.heart.key for outcome in first.outcomes] == [KEY, other, None, KEY]
        assert first.outcomes[0].heart is not None
        assert first.outcomes[0].heart.created_ms == 1_000

        await Awaiting(store).remove([KEY], 2_000)
        events = await all_events(store)
        # Where the same would be asked in another way now, it is answered as then all the same.
        assert await Awaiting(store).once(RECEIPT, steps, 3_000) == Once(first.outcomes, is_repeated=True)
        await store.close()

        again = await self.open(tmp_path)
        try:
            if again.is_durable:
                repeated = await Awaiting(again).once(RECEIPT, steps, 900_000)
                assert repeated == Once(first.outcomes, is_repeated=True)
                assert await Awaiting(again).counts([KEY.target_id], KEY.kind) == [Count(KEY.target_id, 0, 4)]
                assert await all_events(again) == events
        finally:
            await again.close()

    async def test_16_of_many_at_the_same_time_one_is_done(self, store: HeartStore) -> None:
        keys = keys_of("a", range(5))
        steps = [Step(True, key) for key in keys]
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(Awaiting(store).once(RECEIPT, steps, 1_000)) for _ in range(20)]
        answers = [task.result() for task in asking]

        assert sorted(answer.is_repeated for answer in answers) == [False] + [True] * 19
        assert all(answer.outcomes == answers[0].outcomes for answer in answers)
        assert await Awaiting(store).counts(["a"], KEY.kind) == [Count("a", 5, 5)]
        assert len(await all_events(store)) == 5

    async def test_16_receipts_of_other_names_are_apart(self, store: HeartStore) -> None:
        await Awaiting(store).once(RECEIPT, [Step(True, KEY)], 1_000)
        other = await Awaiting(store).once(RECEIPT._replace(name=b"m" * 16), [Step(True, KEY)], 1_000)
        assert (other.is_repeated, other.outcomes[0].changed) == (False, False)

    async def test_16_a_scan_sees_what_was_done_once_as_any_change(self, store: HeartStore) -> None:
        await Awaiting(store).add(keys_of("a", range(10)), 500)
        scan = store.scan()
        first = await anext(scan)
        steps = [Step(False, KEY._replace(target_id="a", user_id="u9")), Step(True, KEY)]
        await Awaiting(store).once(RECEIPT, steps, 1_000)
        rest = [heart async for hearts in scan for heart in hearts]
        assert {heart.key.user_id for heart in [*first, *rest]} == {f"u{user}" for user in range(10)}

    async def test_17_another_request_with_the_receipts_name_is_refused_and_changes_nothing(
        self, store: HeartStore
    ) -> None:
        await Awaiting(store).once(RECEIPT, [Step(True, KEY)], 1_000)
        other = KEY._replace(user_id="u2")
        with pytest.raises(InvalidInput) as refused:
            await Awaiting(store).once(RECEIPT._replace(fingerprint=b"g" * 16), [Step(True, other)], 1_000)
        assert refused.value.code == "idempotency_key_reused"
        assert await Awaiting(store).counts([KEY.target_id], KEY.kind) == [Count(KEY.target_id, 1, 1)]

    async def test_18_a_receipt_that_is_over_is_as_if_it_had_never_been(self, store: HeartStore) -> None:
        await Awaiting(store).once(RECEIPT, [Step(True, KEY)], 1_000)
        await Awaiting(store).remove([KEY], 2_000)
        assert (await Awaiting(store).once(RECEIPT, [Step(True, KEY)], 900_000)).is_repeated

        anew = Receipt(RECEIPT.name, b"g" * 16, 9_900_000)
        once = await Awaiting(store).once(anew, [Step(True, KEY)], 900_001)
        assert (once.is_repeated, once.outcomes[0].changed, once.outcomes[0].version) == (False, True, 3)
        assert (await Awaiting(store).once(anew, [Step(True, KEY)], 5_000_000)).is_repeated

    async def test_18_receipts_that_are_over_go_and_the_others_stay(self, store: HeartStore) -> None:
        def receipt(number: int, until_ms: int) -> Receipt:
            return Receipt(number.to_bytes(16, "big"), b"f" * 16, until_ms)

        for number in range(50):
            until_ms = 500_000 if number % 2 else 9_000_000
            await Awaiting(store).once(receipt(number, until_ms), [Step(True, KEY)], 1_000)
        await Awaiting(store).once(RECEIPT._replace(until_ms=9_000_000), [Step(True, KEY)], 600_000)
        found = [
            await Awaiting(store).once(receipt(number, 9_000_000), [Step(True, KEY)], 700_000)
            for number in range(50)
        ]
        assert [once.is_repeated for once in found] == [True, False] * 25

    async def test_19_recalling_tells_what_was_done_and_leaves_no_trace(self, store: HeartStore) -> None:
        assert await store.recall(RECEIPT, 1_000) is None
        first = await Awaiting(store).once(RECEIPT, [Step(True, KEY)], 1_000)
        await Awaiting(store).remove([KEY], 2_000)
        assert await store.recall(RECEIPT, 900_000) == Once(first.outcomes, is_repeated=True)
        assert await store.recall(RECEIPT, 900_001) is None
        assert await store.recall(RECEIPT._replace(name=b"m" * 16), 1_000) is None
        with pytest.raises(InvalidInput) as refused:
            await store.recall(RECEIPT._replace(fingerprint=b"g" * 16), 1_000)
        assert refused.value.code == "idempotency_key_reused"

        assert len(await all_events(store)) == 2
        # What was only recalled was not done: asked for now, it is.
        once = await Awaiting(store).once(RECEIPT._replace(name=b"m" * 16), [Step(True, KEY)], 1_000)
        assert (once.is_repeated, once.outcomes[0].changed) == (False, True)
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.recall(RECEIPT, 1_000)
