"""Shards of pushes in a real Valkey: take one over as a node does, without a cluster around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from heartcast.backends.redis_pipe import RedisPipe
from heartcast.core.hashing import hash64
from heartcast.push.redis import SCRIPTS
from heartcast.push.takeover import Taken, take_over
from heartcast.push.templates import load

_epochs = count()


def shard_of_folder(folder: Path) -> int:
    """One shard a test: its keys are nobody else's."""
    return hash64(str(folder))


def new_epoch() -> str:
    """An epoch of mailboxes, never given before."""
    return f"epoch-{next(_epochs)}"


@asynccontextmanager
async def piped(url: str, timeout_s: float = 5.0) -> AsyncIterator[RedisPipe]:
    """A connection for pushes, closed at the end."""
    pipe = RedisPipe(url, timeout_s=timeout_s, scripts=SCRIPTS, is_text=False)
    try:
        yield pipe
    finally:
        await pipe.close()


async def acquire(
    pipe: RedisPipe,
    shard: int,
    *,
    max_pushes: int = 1_000,
    max_ended: int = 1_000,
    horizon_ms: int = 1 << 52,
) -> Taken:
    """Become the owner of a shard, whoever was it before."""
    epoch = await pipe.ask("INCR", f"{{hc:{shard}}}:epoch")
    return await take_over(
        pipe, shard, epoch, templates=load(), new_epoch=new_epoch, max_pushes=max_pushes, max_ended=max_ended,
        horizon_ms=horizon_ms,
    )  # fmt: skip
