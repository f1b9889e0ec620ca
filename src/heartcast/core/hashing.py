"""Placing keys: the same key lands in the same place on every machine and release."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b

_CANONICAL_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}").fullmatch


def hash64(text: str) -> int:
    """A strong 64-bit hash of the UTF-8 text, the same everywhere and for ever.

    Python's own ``hash`` is salted per process, so it can place nothing that two
    processes, or one process before and after a restart, must agree on.
    """
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


# Whoever gets a push gets another: 65,536 entries are some 10 MB and hold all who are active.
@lru_cache(maxsize=65_536)
def shard_of(user: str, shards: int) -> int:
    """Which of ``shards`` shards owns this user, 0 to ``shards - 1``.

    Numbers keep the plain rule ``user_id % shards`` that operators can do in their
    head; a number and its canonical decimal text are the same user. All other text
    goes by hash.
    """
    return int(user) % shards if _CANONICAL_DECIMAL(user) else hash64(user) % shards
