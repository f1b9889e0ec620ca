import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from heartcast.core.bus import Bus
from heartcast.hearts.model import Count, HeartChanged, HeartKey
from heartcast.hearts.removal import delete_target, erase_user, merge_targets
from heartcast.hearts.service import HeartService
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.testing.clock import ManualClock

Open = Callable[[Path], Awaitable[HeartStore]]


@pytest.fixture
def store(every_store: HeartStore) -> HeartStore:
    return every_store


class Follower:
    def __init__(self) -> None:
        self.sums: dict[str, int] = {}

    def apply(self, events: list[HeartChanged]) -> None:
        for event in events:
            self.sums[event.key.target_id] = self.sums.get(event.key.target_id, 0) + event.delta

    def mark_stale(self) -> None:
        raise AssertionError("the bus is large enough")


def service(store: HeartStore) -> tuple[HeartService, Follower]:
    bus: Bus[HeartChanged] = Bus(asyncio.get_running_loop().call_soon)
    follower = Follower()
    bus.follow(follower)
    return HeartService(store, ManualClock(), bus), follower


def keys(target_id: str, users: range, kind: str = "heart") -> list[HeartKey]:
    return [HeartKey(target_id, f"u{user}", kind) for user in users]


async def test_erasing_a_user_takes_hearts_of_every_kind_and_no_others(store: HeartStore) -> None:
    hearts, follower = service(store)
    mine = [HeartKey(f"t{at}", "u1", kind) for at in range(230) for kind in ("heart", "clap")]
    await Awaiting(store).add(mine, 1)
    await Awaiting(store).add(keys("t1", range(2, 5)), 1)

    assert await erase_user(hearts, "u1") == 460
    assert await erase_user(hearts, "u1") == 0

    left = [heart.key async for batch in store.scan() for heart in batch]
    assert sorted(left) == keys("t1", range(2, 5))
    assert await Awaiting(store).counts(["t1", "t2"], "heart") == [Count("t1", 3, 5), Count("t2", 0, 2)]
    await asyncio.sleep(0)
    assert follower.sums["t1"] == -2
    await store.close()


async def test_a_deleted_target_counts_zero_and_its_version_goes_on(store: HeartStore) -> None:
    hearts, _ = service(store)
    await Awaiting(store).add([*keys("gone", range(450)), *keys("kept", range(3))], 1)

    assert await delete_target(hearts, "gone") == 450

    assert await Awaiting(store).counts(["gone", "kept"], "heart") == [
        Count("gone", 0, 900),
        Count("kept", 3, 3),
    ]
    [again] = await Awaiting(store).add(keys("gone", range(1)), 2)
    assert (again.count, again.version) == (1, 901)
    await store.close()


async def test_merged_targets_keep_every_person_once_and_the_times(store: HeartStore) -> None:
    hearts, follower = service(store)
    await Awaiting(store).add(keys("old", range(250)), 10)
    await Awaiting(store).add(keys("new", range(200, 300)), 20)
    await Awaiting(store).add(keys("old", range(5), "clap"), 30)

    assert await merge_targets(hearts, "old", "new") == 205
    assert await merge_targets(hearts, "old", "new") == 0
    assert await merge_targets(hearts, "new", "new") == 0

    times = {heart.key: heart.created_ms async for batch in store.scan() for heart in batch}
    assert times == {
        **dict.fromkeys(keys("new", range(200)), 10),
        **dict.fromkeys(keys("new", range(200, 300)), 20),
        **dict.fromkeys(keys("new", range(5), "clap"), 30),
    }
    for recount in [*await store.recount(["old", "new"], "heart"), *await store.recount(["new"], "clap")]:
        assert recount.drift == 0
    await asyncio.sleep(0)
    assert follower.sums == {"new": 205, "old": -255}
    await store.close()
