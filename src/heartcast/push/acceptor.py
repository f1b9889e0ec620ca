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
from heartcast.core.clock import Clock
from heartcast.core.errors import HeartcastError, Overloaded, StoreUnavailable
from heartcast.core.hashing import shard_of
from heartcast.core.ids import IdSource, ShardIds
from heartcast.core.names import user_text
from heartcast.push.intake import packed
from heartcast.push.model import Push
from heartcast.push.options import PushOptions
from heartcast.push.redis import ACCEPT, keys_of
from heartcast.push.rows import row_of
from heartcast.push.templates import Templates

Accepted = Callable[[HeartcastError | None], None]
_log = structlog.get_logger("heartcast")
_MAX_WAITING = 32_768
"""Pushes under way to the server: beyond that a server that is slow is answered for with 503."""


class Acceptor:
    """Adds pushes to the streams of their shards.

    Args:
        pipe: Made with ``push.redis.SCRIPTS``.
        accepted: Told of each shard that got something.
        prefix: In front of the shards' numbers in every key.
    """

    def __init__(
        self,
        pipe: RedisPipe,
        options: PushOptions,
        *,
        clock: Clock,
        ids: IdSource,
        templates: Templates,
        accepted: Callable[[int], None],
        prefix: str = "hc",
    ) -> None:
        self._pipe = pipe
        self._options = options
        self._clock = clock
        self._ids = [ShardIds(ids, shard) for shard in range(options.shards)]
        self._templates = templates
        self._accepted = accepted
        self._prefix = prefix
        self._loop = asyncio.get_running_loop()
        self._next: dict[int, list[tuple[bytes, Accepted]]] = {}
        self._waiting = 0
        self.accepted = 0
        """Pushes added since the start."""
        self.refused = 0
        """Pushes that were not."""

    def draft(self, user_id: int | str, template_name: str, payload: dict[str, Any]) -> tuple[Push, int]:
        """A push that may be accepted, and its shard.

        Raises:
            InvalidInput: the user may not be an id, or the payload does not fit the template.
            NotFound: there is no such template.
            BodyTooLarge: the payload is larger than the bound.
        """
        user = user_text(user_id)
        template = self._templates.find(template_name)
        template.check(payload)
        data = packed(payload, self._options.max_payload_bytes)
        shard = shard_of(user, self._options.shards)
        now_ms = self._clock.wall_ms()
        is_numeric = isinstance(user_id, int)
        return Push(self._ids[shard].next(), user, is_numeric, template, data, now_ms, now_ms), shard

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
            options = self._options
            bounds = (options.max_queued_per_shard, options.kept_of_one_shard)
            command = pack("EVALSHA", ACCEPT.sha, 2, keys[1], keys[4], *bounds, *rows)
            self._pipe.send(command, partial(self._added, shard, pushes))

    def _added(self, shard: int, pushes: list[tuple[bytes, Accepted]], reply: Any) -> None:
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
