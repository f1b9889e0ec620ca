"""A child process for the kill test of credit: hearts and un-hearts, and a ledger that follows.

python credit_hammer.py FOLDER SEED
python credit_hammer.py redis://… or postgresql://… SEED PREFIX
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from heartcast.core.bus import Bus
from heartcast.core.clock import SystemClock
from heartcast.core.errors import StoreUnavailable
from heartcast.hearts.credit import Ledger
from heartcast.hearts.following import FILE_NAME, EffectsFile, Follower
from heartcast.hearts.ledger import LedgerStore
from heartcast.hearts.ledger.postgres import PostgresLedger
from heartcast.hearts.ledger.redis import RedisLedger
from heartcast.hearts.ledger.sqlite import SqliteLedger
from heartcast.hearts.model import HeartChanged, HeartKey, Outcome
from heartcast.hearts.options import CreditOptions, OutboxOptions, RedisOptions
from heartcast.hearts.outbox import Feed
from heartcast.hearts.service import HeartService
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.postgres import PostgresHeartStore
from heartcast.hearts.store.redis import RedisHeartStore
from heartcast.hearts.store.sqlite import SqliteHeartStore


async def opened(place: str, prefix: str) -> tuple[HeartStore, LedgerStore]:
    clock = SystemClock()
    if place.startswith("redis:"):
        options = RedisOptions(prefix=prefix)
        redis = RedisHeartStore(place, clock=clock, options=options, keeps_events=True)
        await redis.open()
        return redis, RedisLedger(place, options)
    if place.startswith("postgresql:"):
        postgres = PostgresHeartStore(place, clock=clock, keeps_events=True)
        await postgres.open()
        return postgres, PostgresLedger(place, 5.0)
    folder = Path(place)
    store = SqliteHeartStore(folder / "hearts.db", clock=clock, keeps_events=True)
    return store, SqliteLedger(EffectsFile(folder / FILE_NAME))


async def main(place: str, seed: int, prefix: str) -> None:
    store, books = await opened(place, prefix)
    bus: Bus[HeartChanged] = Bus(asyncio.get_running_loop().call_soon)
    hearts = HeartService(store, SystemClock(), bus)
    feed = Feed(store, OutboxOptions(), SystemClock())
    bus.follow(feed)
    follower = Follower("credit", feed, Ledger(CreditOptions(is_on=True), books))
    dice = random.Random(seed)
    os.write(1, b"ready\n")

    def again(_: list[Outcome] | StoreUnavailable = []) -> None:  # noqa: B006 - never changed
        key = HeartKey(f"t{dice.randrange(40)}", f"u{dice.randrange(400)}")
        (hearts.add if dice.random() < 0.7 else hearts.remove)([key], again)

    for _ in range(16):
        again()
    await follower.run()


asyncio.run(main(sys.argv[1], int(sys.argv[2]), "".join(sys.argv[3:])))
