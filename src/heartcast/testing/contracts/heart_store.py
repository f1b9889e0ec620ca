"""What every ``HeartStore`` must keep, one test per guarantee of its docstring.

    class TestMyStore(HeartStoreContract):
        async def open(self, folder): return MyStore(folder)

``folder`` is the same for every opening within one test: what a durable store wrote
before it was closed is there again.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heartcast.core.errors import InvalidInput, StoreUnavailable
from heartcast.core.ids import is_id
from heartcast.hearts.model import (
    Change,
    Count,
    Heart,
    HeartEvent,
    HeartKey,
    Once,
    Outcome,
    Receipt,
    Recount,
    Step,
)
from heartcast.hearts.store import MAX_KEYS, HeartStore
from heartcast.hearts.store.awaiting import Awaiting

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


class HeartStoreContract(ABC):
    """Inherit, say how to open your store, and run."""

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

    async def test_a_scan_sees_every_heart_once(self, store: HeartStore) -> None:
        keys = [key for target in "abcdefghijkl" for key in keys_of(target, range(400))]
        for start in range(0, len(keys), MAX_KEYS):
            await Awaiting(store).add(keys[start : start + MAX_KEYS], 1_000)

        seen = [heart.key for batch in [batch async for batch in store.scan()] for heart in batch]

        assert len(seen) == len(keys)
        assert set(seen) == set(keys)

    async def test_ids_of_any_writing_system_and_length_are_kept(self, store: HeartStore) -> None:
        keys = [HeartKey("пост:1,2|3", "użytkownik 'x'"), HeartKey("心" * 66, "💚" * 50), HeartKey("1", "1")]
        outcomes = await Awaiting(store).add(keys, 1_000)

        assert [outcome.count for outcome in outcomes] == [1, 1, 1]
        for key in keys:
            [heart] = await store.page(target_id=key.target_id, user_id=None, kind="heart", after="", limit=5)
            assert heart.key == key

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

    async def test_13_every_change_has_one_event_and_nothing_else_has(
        self, store: HeartStore, tmp_path: Path
    ) -> None:
        assert store.keeps_events
        [added, _] = await Awaiting(store).add([KEY, KEY], 1_000)
        await Awaiting(store).remove([KEY._replace(user_id="nobody"), KEY], 2_000, "erase")
        [loaded] = await Awaiting(store).load([KEY], [5], "merge")
        assert added.heart is not None
        assert loaded.heart is not None
        told = [
            Change(1, "user", *KEY, added.heart.id, 1_000, 1, 1),
            Change(-1, "erase", *KEY, added.heart.id, 1_000, 0, 2),
            Change(1, "merge", *KEY, loaded.heart.id, 5, 1, 3),
        ]
        page = await store.events(0, 100)
        assert [event.change for event in page.events] == told
        assert page.last == 3
        await store.close()

        again = await self.open(tmp_path)
        try:
            reopened = await again.events(0, 100)
            assert reopened == (page if again.is_durable else (reopened.epoch, 0, []))
        finally:
            await again.close()

    async def test_14_events_are_numbered_without_gaps_in_the_order_of_effects(
        self, store: HeartStore
    ) -> None:
        keys = [*keys_of("a", range(MAX_KEYS)), *keys_of("b", range(MAX_KEYS))]
        answered: list[tuple[int, HeartKey]] = []
        seen: list[HeartEvent] = []

        def note(delta: int, asked: list[HeartKey], outcomes: list[Outcome] | StoreUnavailable) -> None:
            assert isinstance(outcomes, list)
            answered.extend(
                (delta, key) for key, outcome in zip(asked, outcomes, strict=True) if outcome.changed
            )

        for start in range(0, len(keys), 50):
            part = keys[start : start + 50]
            store.add(part, 1_000, lambda outcomes, part=part: note(1, part, outcomes))  # type: ignore[misc]
            store.remove(part[::2], 1_000, lambda outcomes, part=part[::2]: note(-1, part, outcomes))  # type: ignore[misc]
            seen += (await store.events(seen[-1].number if seen else 0, 70)).events
        await Awaiting(store).add([keys[-1]], 1_000)
        seen += await all_events(store, seen[-1].number if seen else 0)

        assert [event.number for event in seen] == list(range(1, 1_501))
        changes = [event.change for event in seen]
        assert [(one.delta, HeartKey(one.target_id, one.user_id, one.kind)) for one in changes] == answered
        assert [one.version for one in changes if one.target_id == "a"] == list(range(1, 751))

    async def test_14_a_page_begins_right_after_the_number_asked_for(self, store: HeartStore) -> None:
        await Awaiting(store).add(keys_of("a", range(30)), 1_000)
        await Awaiting(store).add(keys_of("a", range(30, 40)), 1_000)

        for after in (0, 1, 28, 29, 30, 31, 39):
            page = await store.events(after, 5)
            assert [event.number for event in page.events] == list(range(after + 1, min(after + 6, 41)))[
                : len(page.events)
            ]
            assert page.events
            assert page.last == 40
        assert (await store.events(40, 5)).events == []

    async def test_15_trimming_takes_the_oldest_and_numbers_go_on(
        self, store: HeartStore, tmp_path: Path
    ) -> None:
        await Awaiting(store).add(keys_of("a", range(30)), 1_000)
        await Awaiting(store).add(keys_of("a", range(30, 40)), 1_000)
        later_ms = (await store.events(0, 100)).events[0].at_ms + 60_000

        assert await store.trim_events(0, 40) == 0
        assert await store.trim_events(later_ms, 0) == 0
        assert await store.trim_events(later_ms, 30) == 30
        page = await store.events(0, 100)
        assert [event.number for event in page.events] == list(range(31, 41))
        assert await store.trim_events(later_ms, 1_000) == 10
        assert (await store.events(5, 100))[1:] == (40, [])
        await store.close()

        again = await self.open(tmp_path)
        try:
            await Awaiting(again).add(keys_of("a", range(40, 41)), 1_000)
            if again.is_durable:
                assert [event.number for event in (await again.events(0, 9)).events] == [41]
                assert (await again.events(0, 9)).epoch == page.epoch
        finally:
            await again.close()

    # -- requests that are done once -------------------------------------------------------

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
