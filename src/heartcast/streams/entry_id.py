"""Ids of entries, ``<ms>-<n>``: as Redis Streams has them, so that ids mean the same everywhere."""

from __future__ import annotations

import re
from typing import NamedTuple

from heartcast.core.errors import InvalidInput

_ID = re.compile(r"(\d{1,18})-(\d{1,18})").fullmatch


class EntryId(NamedTuple):
    """An id as it is compared."""

    ms: int
    n: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.n}"


FIRST = EntryId(0, 0)
"""Less than the id of any entry."""


def next_id(last: EntryId, now_ms: int) -> EntryId:
    """The id of an entry that is published now, after the one with ``last``."""
    return EntryId(now_ms, 0) if now_ms > last.ms else EntryId(last.ms, last.n + 1)


def parse(text: str, pointer: str = "") -> EntryId:
    """An id from its text.

    Raises:
        InvalidInput: it is none (code ``invalid_id``).
    """
    found = _ID(text)
    if found is None:
        raise InvalidInput(
            f"must be an entry's id, like 1700000000000-0, got {text[:50]!r}",
            pointer=pointer,
            code="invalid_id",
        )
    return EntryId(int(found[1]), int(found[2]))
