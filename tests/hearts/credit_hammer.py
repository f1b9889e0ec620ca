"""A child process for the kill test of credit: hearts and un-hearts, and a ledger that follows.

python credit_hammer.py FOLDER SEED
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
from heartcast.hearts.model import HeartChanged, HeartKey, Outcome
from heartcast.hearts.options import CreditOptions, OutboxOptions
from heartcast.hearts.outbox import Feed
from heartcast.hearts.service import HeartService
from heartcast.hearts.store.sqlite import SqliteHeartStore


async def main(folder: Path, seed: int) -> None:
    clock = SystemClock()
    store = SqliteHeartStore(folder / "hearts.db", clock=clock, keeps_events=True)
    bus: Bus[HeartChanged] = Bus(asyncio.get_running_loop().call_soon)
    hearts = HeartService(store, clock, bus)
    feed = Feed(store, OutboxOptions(), clock)
    bus.follow(feed)
    file = EffectsFile(folder / FILE_NAME)
    follower = Follower("credit", feed, file, Ledger(CreditOptions(is_on=True), file).take)
    dice = random.Random(seed)
    os.write(1, b"ready\n")

    def again(_: list[Outcome] | StoreUnavailable = []) -> None:  # noqa: B006 - never changed
        key = HeartKey(f"t{dice.randrange(40)}", f"u{dice.randrange(400)}")
        (hearts.add if dice.random() < 0.7 else hearts.remove)([key], again)

    for _ in range(16):
        again()
    await follower.run()


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
