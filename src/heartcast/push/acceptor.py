"""Accepting plain pushes at any node, whoever owns their shard.

One script call per shard and turn of the loop adds them to the shard's stream; its owner
reads them there. Nobody has to own the shard at the moment: what is accepted while a node is
replaced waits for the next owner. Pushes that ask for more than to be sent (a key, a time, a
priority) go to the owner, who alone can judge that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from heartcast.backends.redis_pipe import RedisPipe, pack
from heartcast.core.errors import HeartcastError, Overloaded, StoreUnavailable
from heartcast.push.model import Push
from heartcast.push.redis import ACCEPT, keys_of
from heartcast.push.rows import row_of

Accepted = Callable[[HeartcastError | None], None]
_log = structlog.get_logger("heartcast")
_MAX_WAITING = 32_768
"""Pushes under way to the server: beyond that a server that is slow is answered for with 503."""


class Acceptor:
    """Adds pushes to the streams of their shards.

    Args:
        pipe: Made with ``push.redis.SCRIPTS``.
        max_waiting: Pushes that may wait in one shard.
        max_kept: Pushes that may wait and be in inboxes in one shard.
        accepted: Told of each shard that got something.
        prefix: In front of the shards' numbers in every key.
    """

    def __init__(
        self,
        pipe: RedisPipe,
        *,
        max_waiting: int,
        max_kept: int,
        accepted: Callable[[int], None],
        prefix: str = "hc",
    ) -> None:
        self._pipe = pipe
        self._max_waiting = max_waiting
        self._max_kept = max_kept
        self._accepted = accepted
        self._prefix = prefix
        self._loop = asyncio.get_running_loop()
        self._next: dict[int, list[tuple[bytes, Accepted]]] = {}
        self._waiting = 0
        self.accepted = 0
        """Pushes added since the start."""
        self.refused = 0
        """Pushes that were not."""

    def accept(self, shard: int, push: Push, done: Accepted) -> None:
        """Add a push; ``done`` is called once with None when it is in the stream.

        ``StoreUnavailable`` means that it may be there or not: a sender who tries again may
        push twice.

        Raises:
            Overloaded: too many wait for the server.
        """
        if self._waiting >= _MAX_WAITING:
            self.refused += 1
            raise Overloaded("too many pushes wait for the store", retry_after_s=1, code="shard_full")
        self._waiting += 1
        if not self._next:
            self._loop.call_soon(self._send)
        self._next.setdefault(shard, []).append((row_of(push), done))

    def _send(self) -> None:
        shards, self._next = self._next, {}
        for shard, pushes in shards.items():
            keys = keys_of(shard, self._prefix)
            rows = [row for row, _ in pushes]
            command = pack(
                "EVALSHA", ACCEPT.sha, 2, keys[1], keys[4], self._max_waiting, self._max_kept, *rows
            )
            self._pipe.send(command, partial(self._added, shard, pushes, command, False))

    def _added(
        self, shard: int, pushes: list[tuple[bytes, Accepted]], command: bytes, is_again: bool, reply: Any
    ) -> None:
        if isinstance(reply, StoreUnavailable) and "NOSCRIPT" in reply.detail and not is_again:
            # It was not run; the next connection brings the scripts along.
            self._pipe.send(command, partial(self._added, shard, pushes, command, True))
            return
        added = 0 if isinstance(reply, StoreUnavailable) else reply
        self._waiting -= len(pushes)
        self.accepted += added
        self.refused += len(pushes) - added
        if added:
            self._accepted(shard)
        for index, (_, done) in enumerate(pushes):
            refusal: HeartcastError | None = None
            if isinstance(reply, StoreUnavailable):
                refusal = reply
            elif index >= added:
                refusal = Overloaded("the shard of this user is full", retry_after_s=1, code="shard_full")
            # One caller that raises must not take the answers of the others.
            try:
                done(refusal)
            except Exception:
                _log.exception("an accepted push was not answered", shard=shard)
