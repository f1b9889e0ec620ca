"""Whether a Redis or Valkey can be trusted with what was promised: its version, its file, its memory.

``INFO`` tells all of it and is allowed where ``CONFIG`` is not. One thing it does not tell,
``appendfsync no``, is asked of ``CONFIG`` where that answers.
"""

from __future__ import annotations

from typing import NamedTuple

from heartcast.backends.redis_pipe import RedisPipe
from heartcast.core.errors import StoreUnavailable

LEAST_REDIS = (7, 0)
LEAST_VALKEY = (8, 0)


class Fitness(NamedTuple):
    """What a server is like."""

    server: str
    """Name and version, as in ``Valkey 9.1.0``."""
    unusable: list[str]
    """Why it cannot be used at all; one sentence each."""
    volatile: list[str]
    """Why it may forget what it took; one sentence each."""


async def fitness(pipe: RedisPipe) -> Fitness:
    """Look at a server; nothing is changed.

    Raises:
        StoreUnavailable: it cannot be reached, or does not let us ask.
    """
    said = _fields(await pipe.ask("INFO"))
    is_valkey = said.get("server_name") == "valkey"
    version = said.get("valkey_version" if is_valkey else "redis_version", "")
    name, least = ("Valkey", LEAST_VALKEY) if is_valkey else ("Redis", LEAST_REDIS)
    unusable, volatile = [], []
    if not version:
        return Fitness("unknown", ["it does not say which version it is, as Redis and Valkey do"], [])
    if _version(version) < least:
        unusable.append(
            f"it is {name} {version or 'of an unknown version'}; {name} {least[0]} or later is needed"
        )
    if said.get("cluster_enabled") == "1":
        unusable.append("it is a Redis Cluster; name a server, with or without replicas, that is none")
    if said.get("role") == "slave":
        unusable.append("it is a replica; name the primary")
    if said.get("aof_enabled") != "1":
        volatile.append("it has no append-only file; set appendonly yes")
    elif await _never_syncs(pipe):
        volatile.append("it never syncs its file; set appendfsync everysec")
    if said.get("maxmemory_policy", "noeviction") != "noeviction":
        volatile.append("it may evict what was accepted; set maxmemory-policy noeviction")
    return Fitness(f"{name} {version}", unusable, volatile)


async def _never_syncs(pipe: RedisPipe) -> bool:
    try:
        found = await pipe.ask("CONFIG", "GET", "appendfsync")
    except StoreUnavailable:
        return False  # hosted servers hide their configuration, and sync
    return bool(found) and found[1] == "no"


def _fields(info: str) -> dict[str, str]:
    lines = (line.partition(":") for line in info.splitlines() if ":" in line)
    return {name: value for name, _, value in lines}


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
