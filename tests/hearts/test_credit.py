"""The ledger pays each first heart once: under retries, un-hearts, erasure and kills."""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.core.clock import SystemClock
from heartcast.core.ids import IdSource
from heartcast.hearts.credit import Balance, Ledger
from heartcast.hearts.following import FILE_NAME, EffectsFile, Follower
from heartcast.hearts.ledger.sqlite import SqliteLedger
from heartcast.hearts.model import Cause, HeartKey
from heartcast.hearts.options import CreditOptions, OutboxOptions
from heartcast.hearts.outbox import Feed
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.hearts.store.memory_events import MemoryEvents
from heartcast.hearts.store.sqlite import SqliteHeartStore
from heartcast.testing.clock import ManualClock

CYCLES = int(os.environ.get("HEARTCAST_KILL_CYCLES", "5"))
CHILD = Path(__file__).with_name("credit_hammer.py")
KEY = HeartKey("post", "u1")


class Bank:
    """A store, its feed and a ledger that follows it."""

    def __init__(self, **options: float | dict[str, int]) -> None:
        self.clock = ManualClock()
        self.store = MemoryHeartStore(IdSource(self.clock), MemoryEvents(self.clock))
        self.file = EffectsFile(None)
        self.ledger = Ledger(CreditOptions(is_on=True, **options), SqliteLedger(self.file))  # type: ignore[arg-type]
        self.feed = Feed(self.store, OutboxOptions(), self.clock)
        self.follower = Follower("credit", self.feed, self.ledger)
        self.cursor = ""

    async def add(self, *keys: HeartKey) -> None:
        await Awaiting(self.store).add(keys, self.clock.wall_ms())
        self.cursor = await self.follower.step(self.cursor, 0)

    async def remove(self, *keys: HeartKey, cause: Cause = "user") -> None:
        await Awaiting(self.store).remove(keys, self.clock.wall_ms(), cause)
        self.cursor = await self.follower.step(self.cursor, 0)

    async def balance(self, user_id: str = "u1") -> Balance:
        return await self.ledger.balance(user_id, self.clock.wall_ms())

    async def reasons(self, user_id: str = "u1") -> list[tuple[str, int]]:
        return [(entry.reason, entry.points) for entry in await self.ledger.entries(user_id, 0, 100)][::-1]

    async def close(self) -> None:
        await self.store.close()
        await self.file.close()


@pytest.fixture
async def banks() -> AsyncIterator[list[Bank]]:
    banks: list[Bank] = []
    yield banks
    for bank in banks:
        await bank.close()


def opened(banks: list[Bank], **options: float | dict[str, int]) -> Bank:
    banks.append(Bank(**options))
    return banks[-1]


async def test_the_first_heart_earns_and_no_later_one_does(banks: list[Bank]) -> None:
    bank = opened(banks, points={"heart": 3})
    await bank.add(KEY)
    await bank.add(KEY)
    await bank.remove(KEY)
    await bank.add(KEY)
    await bank.add(KEY._replace(target_id="other"), KEY._replace(user_id="u2"), KEY._replace(kind="clap"))

    assert await bank.balance() == Balance(6, 6)
    assert await bank.balance("u2") == Balance(3, 3)
    assert await bank.reasons() == [("award", 3), ("award", 3)]


async def test_events_that_are_read_again_earn_nothing_again(banks: list[Bank]) -> None:
    bank = opened(banks)
    await bank.add(*[HeartKey(f"t{at}", "u1") for at in range(20)])
    for _ in range(3):
        await bank.follower.step("", 0)

    assert await bank.balance() == Balance(20, 20)


async def test_beyond_the_cap_of_a_day_nothing_is_earned_also_not_later(banks: list[Bank]) -> None:
    bank = opened(banks, points={"heart": 2}, daily_cap=5)
    late = HeartKey("t3", "u1")
    await bank.add(*[HeartKey(f"t{at}", "u1") for at in range(4)])
    assert await bank.balance() == Balance(5, 5)
    assert await bank.reasons() == [("award", 2), ("award", 2), ("award", 1), ("cap", 0)]

    bank.clock.advance(86_400)
    assert await bank.balance() == Balance(5, 0)
    await bank.remove(late)
    await bank.add(late)
    assert await bank.balance() == Balance(5, 0)
    await bank.add(HeartKey("t9", "u1"))
    assert await bank.balance() == Balance(7, 2)


async def test_an_award_is_taken_back_within_the_time_of_the_policy_only_and_only_once(
    banks: list[Bank],
) -> None:
    bank = opened(banks, clawback_within_s=60)
    await bank.add(KEY, KEY._replace(target_id="kept"))
    bank.clock.advance(30)
    await bank.remove(KEY)
    await bank.add(KEY)
    await bank.remove(KEY)
    bank.clock.advance(31)
    await bank.remove(KEY._replace(target_id="kept"))

    assert await bank.reasons() == [("award", 1), ("award", 1), ("clawback", -1)]
    assert await bank.balance() == Balance(1, 2)


async def test_un_hearting_does_not_lift_the_cap(banks: list[Bank]) -> None:
    bank = opened(banks, daily_cap=3, clawback_within_s=60)
    for at in range(10):
        await bank.add(HeartKey(f"t{at}", "u1"))
        await bank.remove(HeartKey(f"t{at}", "u1"))

    assert [reason for reason, _ in await bank.reasons()].count("award") == 3
    assert await bank.balance() == Balance(0, 3)


async def test_only_people_earn_and_only_people_lose(banks: list[Bank]) -> None:
    bank = opened(banks, clawback_within_s=60)
    await Awaiting(bank.store).load([KEY], [5])
    await bank.add(HeartKey("b", "u1"))
    await bank.remove(HeartKey("b", "u1"), cause="delete")

    assert await bank.balance() == Balance(1, 1)


async def test_whoever_is_erased_is_not_in_the_ledger(banks: list[Bank]) -> None:
    bank = opened(banks)
    await bank.add(KEY, KEY._replace(user_id="u2"))
    await bank.remove(KEY, cause="erase")

    assert await bank.balance() == Balance(0, 0)
    assert await bank.reasons() == []
    assert await bank.balance("u2") == Balance(1, 1)


async def test_entries_come_newest_first_in_pages(banks: list[Bank]) -> None:
    bank = opened(banks)
    await bank.add(*[HeartKey(f"t{at}", "u1") for at in range(5)])
    first = await bank.ledger.entries("u1", 0, 2)
    second = await bank.ledger.entries("u1", first[-1].number, 3)

    assert [entry.target_id for entry in first + second] == ["t4", "t3", "t2", "t1", "t0"]


moves = st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.sampled_from("xy")), max_size=40)


@settings(max_examples=40, deadline=None)
@given(moves, st.integers(0, 3))
def test_whatever_is_clicked_a_balance_is_the_number_of_targets_ever_hearted_up_to_the_cap(
    moves: list[tuple[bool, str, str]], cap: int
) -> None:
    async def play() -> None:
        bank = Bank(daily_cap=cap)
        ever: set[HeartKey] = set()
        for is_add, target_id, user_id in moves:
            key = HeartKey(target_id, user_id)
            await (bank.add(key) if is_add else bank.remove(key))
            ever |= {key} if is_add else set()
        for user_id in "xy":
            earned = sum(key.user_id == user_id for key in ever)
            assert (await bank.balance(user_id)).points == (min(earned, cap) if cap else earned)
            assert len(await bank.reasons(user_id)) == earned
        await bank.close()

    asyncio.run(play())


async def test_a_kill_at_any_moment_pays_every_heart_once(tmp_path: Path) -> None:
    dice = random.Random()
    for cycle in range(CYCLES):
        child = subprocess.Popen([sys.executable, CHILD, tmp_path, str(cycle)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(dice.uniform(0.1, 0.6))
        child.kill()
        child.communicate()

    store = SqliteHeartStore(tmp_path / "hearts.db", clock=SystemClock(), keeps_events=True)
    file = EffectsFile(tmp_path / FILE_NAME)
    ledger = Ledger(CreditOptions(is_on=True), SqliteLedger(file))
    feed = Feed(store, OutboxOptions(), SystemClock())
    follower = Follower("credit", feed, ledger)
    cursor, before = await follower.begin(), ""
    assert follower.number > 0
    while cursor != before:
        cursor, before = await follower.step(cursor, 0), cursor
    ever: set[tuple[str, str]] = set()
    after = 0
    while events := (await store.events(after, 1_000)).events:
        ever |= {(event.change.user_id, event.change.target_id) for event in events if event.change.delta > 0}
        after = events[-1].number
    paid = await file.ask(lambda db: db.execute("SELECT user, target FROM entry").fetchall())
    assert len(paid) == len(ever) > 50 * CYCLES
    assert set(paid) == ever
    await store.close()
    await file.close()
