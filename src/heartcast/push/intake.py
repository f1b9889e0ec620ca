"""The way in: checks, an id, an account, and a place to wait.

Taking a push is the hot path: a plain function without a task. In memory it enters its
shard in the same call. With a durable journal it is *taken* first (it has an id, an account
and a reserved place), written, and enters its shard when it is on the disk; if the disk
refuses, it was never accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from heartcast.core.clock import Clock
from heartcast.core.errors import BodyTooLarge, Overloaded, StoreUnavailable, Unavailable
from heartcast.core.hashing import shard_of
from heartcast.core.ids import IdSource
from heartcast.core.names import user_text
from heartcast.push.digests import Digests
from heartcast.push.gates.repeats import Collapses, Duplicates, dedupe_note
from heartcast.push.journal import Change, Journal, Note
from heartcast.push.ledger import Ledger
from heartcast.push.model import Extra, Push
from heartcast.push.options import PushOptions
from heartcast.push.templates import Templates
from heartcast.push.waiting import Waiting
from heartcast.push.workers import WorkerPool

_encode = msgspec.json.Encoder().encode
Entered = Callable[[StoreUnavailable | None], None]


Taken = tuple[Push, int]
"""A push that was checked and has its account, and its shard, where it does not wait yet."""


class Intake:
    """Takes pushes. ``service`` makes one and hands it its parts."""

    def __init__(
        self,
        options: PushOptions,
        *,
        clock: Clock,
        ids: IdSource,
        templates: Templates,
        journal: Journal,
        ledger: Ledger,
        pool: WorkerPool,
        waiting: Waiting,
        duplicates: Duplicates,
        collapses: Collapses,
        digests: Digests,
    ) -> None:
        self._options = options
        self._clock = clock
        self._ids = ids
        self._templates = templates
        self._journal = journal
        self._ledger = ledger
        self._pool = pool
        self._waiting = waiting
        self._duplicates = duplicates
        self._collapses = collapses
        self._digests = digests
        self._now_ms = 0
        self.is_stopping = False
        self.refused = 0
        """Pushes answered with 503."""

    def accept(
        self, user_id: int | str, template_name: str, payload: dict[str, Any], extra: Extra | None = None
    ) -> tuple[Push, int]:
        """Take a push without waiting to hear that it is safe.

        Returns:
            The push and its shard. It waits there already, or will when the journal has it.

        Raises:
            InvalidInput: the user may not be an id, or the payload does not fit the template.
            NotFound: there is no such template.
            BodyTooLarge: the payload is larger than the bound.
            Overloaded: the shard, or everything, is full. Nothing was taken.
        """
        taken = self.take(user_id, template_name, payload, extra)
        if extra is None and not self._journal.is_durable:
            self.enter(taken)
        else:
            self.submit((taken,), (), _ignore)
        return taken

    def take(
        self, user_id: int | str, template_name: str, payload: dict[str, Any], extra: Extra | None = None
    ) -> Taken:
        """Check a push and open its account. Follow it with ``submit``, ``enter`` or ``withdraw``.

        Raises:
            As ``accept``.
        """
        user = user_text(user_id)
        template = self._templates.find(template_name)
        template.check(payload)
        options = self._options
        data = packed(payload, options.max_payload_bytes)
        if is_numeric := isinstance(user_id, int):
            index = user_id % options.shards
        else:
            index = shard_of(user, options.shards)
        shard = self._pool.shards[index]
        waiting = len(shard.pending) + shard.left + shard.reserved
        if waiting >= options.max_queued_per_shard or self.is_stopping:
            raise self._full()
        now_ms = self._clock.wall_ms()
        if now_ms == self._now_ms:
            # Two million numbers that are the same one take 32 bytes, not 64 MB.
            now_ms = self._now_ms
        self._now_ms = now_ms
        push = Push(self._ids.next(), user, is_numeric, template, data, now_ms, now_ms)
        try:
            if extra is not None:
                push.extra = extra
                if extra.digest_key:
                    self._digests.join(push, now_ms)
                self._waiting.check_room(extra.due_ms)
                if extra.dedupe_key:
                    self._duplicates.check_room()
            self._ledger.open(push)
        except Overloaded:
            self.refused += 1
            raise
        shard.reserved += 1
        if extra is not None and extra.dedupe_key:
            self._duplicates.use(dedupe_note(push, now_ms))
        return push, index

    def packed(self, payload: dict[str, Any]) -> bytes:
        """A payload as it is kept.

        Raises:
            BodyTooLarge: it is larger than the bound.
        """
        return packed(payload, self._options.max_payload_bytes)

    def duplicate_of(self, user_id: int | str, extra: Extra) -> str | None:
        """Id of the push that has used this one's dedupe key; None: it is the first."""
        if not extra.dedupe_key:
            return None
        return self._duplicates.find(user_text(user_id), extra.dedupe_key, self._clock.wall_ms())

    def submit(self, all_taken: Sequence[Taken], notes: Sequence[Note], done: Entered) -> None:
        """Write pushes that were taken, with notes, and let them enter; ``done`` is told then."""
        accepted = [push for push, _ in all_taken]
        keys = [dedupe_note(push, push.accepted_ms) for push in accepted if push.asked.dedupe_key]
        change = Change(accepted=accepted, notes=[*notes, *keys])
        self._journal.write(change, partial(self._written, all_taken, done))

    def enter(self, taken: Taken) -> None:
        """The push is as safe as it will be: it waits from now on."""
        push, index = taken
        shard = self._pool.shards[index]
        shard.reserved -= 1
        extra = push.extra
        if extra is None:
            shard.pending.append(push)
            if not shard.is_listed:
                self._pool.wake(shard)
        else:
            self._enter_special(push, extra)

    def withdraw(self, taken: Taken) -> None:
        """The push was never accepted."""
        push, index = taken
        self._pool.shards[index].reserved -= 1
        self._ledger.withdraw(push)
        self._duplicates.withdraw(push)
        self.refused += 1

    def restore(self, push: Push) -> None:
        """A push that an earlier process, or another node, accepted waits here now."""
        self._ledger.restore(push)
        if push.extra is None:
            self.queue(push)
        else:
            self._enter_special(push, push.extra)

    def queue(self, push: Push) -> None:
        """Let a push wait in its shard, behind what is there."""
        shard = self._pool.shards[shard_of(push.user, self._options.shards)]
        shard.put(push)
        if push.extra is not None:
            self._digests.queued(push)
        if not shard.is_listed:
            self._pool.wake(shard)

    def _enter_special(self, push: Push, extra: Extra) -> None:
        if extra.collapse_key:
            self._collapses.add(push)
        now_ms = self._clock.wall_ms()
        if extra.due_ms > now_ms:
            self._waiting.add(push, now_ms)
        else:
            self.queue(push)

    def _written(self, all_taken: Sequence[Taken], done: Entered, error: StoreUnavailable | None) -> None:
        for taken in all_taken:
            if error is None:
                self.enter(taken)
            else:
                self.withdraw(taken)
        done(error)

    def _full(self) -> Unavailable:
        self.refused += 1
        if self.is_stopping:
            return Unavailable("this server is stopping", code="stopping")
        return Overloaded("the shard of this user is full", retry_after_s=1, code="shard_full")


def packed(payload: dict[str, Any], limit_bytes: int) -> bytes:
    """A payload as it is kept.

    Raises:
        BodyTooLarge: it is larger than the limit.
    """
    data = _encode(payload)
    if len(data) > limit_bytes:
        raise BodyTooLarge(
            f"must be at most {limit_bytes} bytes as JSON", pointer="/payload", code="payload_too_large"
        )
    return data


def _ignore(error: StoreUnavailable | None) -> None:
    """Nobody waits for the answer; what was refused was withdrawn and counted."""
