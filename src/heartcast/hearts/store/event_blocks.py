"""Events as SQL stores keep them: those of one transaction as one row.

A row per event would cost the hot path a row per heart. A block costs one row per commit
and some bytes per heart, and its events are numbered by their places in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from heartcast.hearts.model import Change, HeartEvent

MAX_CHANGES = 1_000
"""In one block: a reader decodes a whole block to give a part of it."""
BLOCKS_READ = 16
"""Blocks fetched for one page of events."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Change]).decode

Block = tuple[int, int, int, bytes]
"""Numbers of the first and the last event, wall time in milliseconds, the encoded changes."""


def blocks(changes: Sequence[Change], last: int, at_ms: int) -> Iterator[Block]:
    """Blocks of the events that follow number ``last``."""
    for start in range(0, len(changes), MAX_CHANGES):
        part = changes[start : start + MAX_CHANGES]
        first = last + 1 + start
        yield first, first + len(part) - 1, at_ms, _encode(part)


def events(rows: Sequence[tuple[int, int, bytes]], after: int, limit: int) -> list[HeartEvent]:
    """Events of blocks (first, at_ms, changes) that have a number greater than ``after``."""
    found: list[HeartEvent] = []
    for first, at_ms, blob in rows:
        skipped = max(0, after + 1 - first)
        for at, change in enumerate(_decode(blob)[skipped : skipped + limit - len(found)], first + skipped):
            found.append(HeartEvent(at, at_ms, change))
        if len(found) >= limit:
            break
    return found
