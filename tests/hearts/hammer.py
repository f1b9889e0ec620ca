"""A child process for the kill test: hearts and un-hearts without end, and prints what was answered.

    python hammer.py DATABASE SEED      (DATABASE: a file for SQLite, postgresql://… or redis://…)

"? target user" is printed before each call, "+ target user" or "- target user" only after
the store called done.

    python hammer.py DATABASE SEED once

Each call is one heart with a receipt of its own: "? number" before it, "+ number id" after.
"""

import asyncio
import os
import random
import sys
from itertools import count
from pathlib import Path

from heartcast.core.clock import SystemClock
from heartcast.core.errors import StoreUnavailable
from heartcast.hearts.model import HeartKey, Once, Outcome, Receipt, Step
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.postgres import PostgresHeartStore
from heartcast.hearts.store.redis import RedisHeartStore
from heartcast.hearts.store.sqlite import SqliteHeartStore


async def open_store(database: str) -> HeartStore:
    store: PostgresHeartStore | RedisHeartStore
    if database.startswith("postgresql://"):
        store = PostgresHeartStore(database, clock=SystemClock(), keeps_events=True)
    elif database.startswith("redis://"):
        store = RedisHeartStore(database, clock=SystemClock(), keeps_events=True)
    else:
        return SqliteHeartStore(Path(database), clock=SystemClock(), keeps_events=True)
    await store.open()
    return store


async def main(database: str, seed: int) -> None:
    store = await open_store(database)
    dice = random.Random(seed)
    os.write(1, b"ready\n")

    def again() -> None:
        # One call per user at a time: the order of a user's answers is the order of the calls.
        caller = dice.randrange(1 << 60)
        user = f"{seed}-{caller % 5000}"
        if user in busy:
            asyncio.get_running_loop().call_soon(again)
            return
        busy.add(user)
        is_add = dice.random() < 0.7
        key = HeartKey(f"t{caller % 7}", user)

        os.write(1, f"? {key.target_id} {key.user_id}\n".encode())

        def done(outcomes: list[Outcome] | StoreUnavailable) -> None:
            if isinstance(outcomes, StoreUnavailable):
                # It may have happened or not: "?" stands, and the user goes on a little later.
                busy.discard(user)
                asyncio.get_running_loop().call_later(0.01, again)
                return
            os.write(1, f"{'+' if is_add else '-'} {key.target_id} {key.user_id}\n".encode())
            busy.discard(user)
            again()

        (store.add if is_add else store.remove)([key], 1, done)

    busy: set[str] = set()
    for _ in range(64):
        again()
    await asyncio.Event().wait()


async def ask_once(database: str, seed: int) -> None:
    store = await open_store(database)
    os.write(1, b"ready\n")
    numbers = count(seed * 1_000_000)

    def again() -> None:
        number = next(numbers)
        os.write(1, f"? {number}\n".encode())

        def done(once: object) -> None:
            assert isinstance(once, Once)
            assert once.outcomes[0].heart is not None
            os.write(1, f"+ {number} {once.outcomes[0].heart.id}\n".encode())
            again()

        name = number.to_bytes(16, "big")
        store.once(Receipt(name, name, 900_000), [Step(True, HeartKey("t", f"u{number}"))], 1, done)

    for _ in range(64):
        again()
    await asyncio.Event().wait()


asyncio.run((ask_once if sys.argv[3:] else main)(sys.argv[1], int(sys.argv[2])))
