"""What can be chosen about hearts."""

from __future__ import annotations

from typing import Literal

import msgspec

from heartcast.core.errors import InvalidInput
from heartcast.core.names import check_id
from heartcast.hearts.model import KIND


class SqliteOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How hearts are kept in ``hearts.db`` of the data folder."""

    synchronous: Literal["full", "normal"] = "full"
    """``full``: an answered heart survives a power cut, and every durable figure of ours
    means this. ``normal``: it survives ``kill -9``, but a power cut may take the last ones."""

    queue_keys: int = 32_768
    """Hearts that may wait for the disk; beyond them callers are told to come back, 500 to
    1,000,000. The default is about a second of writing, which is as long as a caller waits."""

    cache_mb: int = 64
    """Memory for pages, in MiB, 1 to 65536. SQLite's own 2 MiB makes random users read the disk."""

    checkpoint_pages: int = 16_000
    """Pages of 4 KiB in the write-ahead log before they are copied into the database, 100 to
    1,000,000. SQLite's own 1,000 copies hot pages again and again."""

    busy_s: float = 5.0
    """Seconds to wait when another program holds the database, 0 to 60."""

    def __post_init__(self) -> None:
        bounds = {
            "queue_keys": (500, 1_000_000),
            "cache_mb": (1, 65_536),
            "checkpoint_pages": (100, 1_000_000),
            "busy_s": (0, 60),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: must be between {low} and {high}")


class PostgresOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How hearts are kept in PostgreSQL."""

    queue_keys: int = 16_384
    """Hearts that may wait for the server; beyond them callers are told to come back, 500 to
    1,000,000. The default is about a second of writing, which is as long as a caller waits."""

    group_keys: int = 2_000
    """Hearts in one transaction, 500 to 20,000. More share a commit, but hold the rows of their
    targets longer."""

    readers: int = 4
    """Connections for lists, 1 to 64. Two more are for writing and for counts."""

    timeout_s: float = 5.0
    """Seconds for one answer of the server, 0.1 to 60."""

    def __post_init__(self) -> None:
        bounds = {
            "queue_keys": (500, 1_000_000),
            "group_keys": (500, 20_000),
            "readers": (1, 64),
            "timeout_s": (0.1, 60),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: must be between {low} and {high}")


class RedisOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How hearts are kept in Redis or Valkey."""

    prefix: str = "heartcast:"
    """In front of every key, so that a server may be shared."""

    queue_keys: int = 16_384
    """Hearts that may wait for the server; beyond them callers are told to come back, 500 to
    1,000,000. The default is about a second of writing, which is as long as a caller waits."""

    timeout_s: float = 2.0
    """Seconds for one answer of the server, 0.05 to 60."""

    check: bool = True
    """Refuse a server that may forget hearts: without an append-only file, or one that evicts.
    Off: for servers that do not tell their settings."""

    def __post_init__(self) -> None:
        if not 500 <= self.queue_keys <= 1_000_000:
            raise ValueError("queue_keys: must be between 500 and 1000000")
        if not 0.05 <= self.timeout_s <= 60:
            raise ValueError("timeout_s: must be between 0.05 and 60")


class HeartOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Kinds, live counts and the store."""

    kinds: list[str] = msgspec.field(default_factory=lambda: [KIND])
    """Kinds that may be given; ``heart`` is always among them. A closed list, because every
    kind of every target has a count of its own that is kept for ever."""

    live_interval_s: float = 0.2
    """Least seconds between two live counts of one target, 0.01 to 60. Five a second look
    like a running number, more only cost."""

    store: Literal["auto", "sqlite", "memory", "redis", "postgres"] = "auto"
    """Where hearts are kept: ``sqlite`` in the data folder, ``memory`` nowhere else,
    ``redis`` and ``postgres`` in a server that several nodes may share. ``auto``: ``memory`` when
    ``in_memory`` is set, else ``sqlite``."""

    postgres_dsn: str = ""
    """``postgresql://user:password@host:5432/database``; needed by the store ``postgres``, and
    never logged."""

    redis_url: str = ""
    """``redis://user:password@host:6379/0``, ``rediss://…`` with TLS, or ``unix:///path``; needed
    by the store ``redis``, and never logged."""

    sqlite: SqliteOptions = msgspec.field(default_factory=SqliteOptions)
    redis: RedisOptions = msgspec.field(default_factory=RedisOptions)
    postgres: PostgresOptions = msgspec.field(default_factory=PostgresOptions)

    def __post_init__(self) -> None:
        if KIND not in self.kinds:
            raise ValueError(f"kinds: must contain {KIND!r}")
        for kind in self.kinds:
            try:
                check_id(kind)
            except InvalidInput as error:
                raise ValueError(f"kinds: each {error.detail}") from None
        if self.store == "postgres" and not self.postgres_dsn:
            raise ValueError("postgres_dsn: must be set for the store postgres")
        if self.store == "redis" and not self.redis_url:
            raise ValueError("redis_url: must be set for the store redis")
        if not 0.01 <= self.live_interval_s <= 60:
            raise ValueError("live_interval_s: must be between 0.01 and 60")
