"""Where streams are kept: in Redis when there are other nodes, else in a file, else in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

from heartcast.app.settings import Settings
from heartcast.core.clock import Clock
from heartcast.streams import StreamStore
from heartcast.streams.memory import MemoryStreamStore
from heartcast.streams.sqlite import FILE_NAME, open_store
from heartcast.streams.streams import Streams


def open_streams(settings: Settings, clock: Clock, loop: asyncio.AbstractEventLoop) -> Streams:
    """Open the streams; ``close`` them at the end.

    Raises:
        SettingsError: the file cannot be opened.
    """
    options, store = settings.streams, _store(settings, clock, loop)
    return Streams(store, options, clock)


def _store(settings: Settings, clock: Clock, loop: asyncio.AbstractEventLoop) -> StreamStore:
    if url := settings.cluster.redis_url:
        from heartcast.streams.redis import RedisStreamStore

        return RedisStreamStore(url, settings.streams, clock, prefix=settings.cluster.prefix)
    if settings.in_memory:
        return MemoryStreamStore(settings.streams, clock)
    return open_store(Path(settings.data_dir) / FILE_NAME, settings.streams, clock, loop)
