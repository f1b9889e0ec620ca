"""Contract tests of a ``HeartStore``: events (guarantees 13 to 15)."""

from __future__ import annotations

from pathlib import Path

from heartcast.core.errors import StoreUnavailable
from heartcast.hearts.model import (
    Change,
    HeartEvent,
    HeartKey,
    Outcome,
)
from heartcast.hearts.store import MAX_KEYS, HeartStore
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.testing.contracts.heart_store_base import KEY, StoreTests, all_events, keys_of


class EventTests(StoreTests):
    """An event per effect, in order, dropped from the oldest."""

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
