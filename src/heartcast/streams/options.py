"""Settings of streams."""

from __future__ import annotations

import msgspec


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``[streams]`` section."""

    max_entries: int = 100_000
    """Entries kept in one stream; when none of them has been acknowledged by all groups, a
    further one gets 503."""

    max_streams: int = 1_000
    """Streams kept in memory or SQLite; on Redis there is no bound but its memory."""

    max_data_bytes: int = 65_536
    """Largest ``data`` of one entry as compact JSON."""

    idle_s: float = 60.0
    """Seconds after which what was given to a reader and not acknowledged is given to another."""

    keep_s: float = 7 * 86_400.0
    """Seconds after which an entry goes, read or not."""

    keep_keys_s: float = 86_400.0
    """How long the Idempotency-Key of a publication is remembered, in seconds."""

    max_wait_s: float = 30.0
    """Longest ``wait`` of a reader, in seconds."""

    max_waiting: int = 1_000
    """Readers that may wait at a time; one more gets 503."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: must be > 0, got {getattr(self, name)}")
