"""The account of every push: where it is, and how it ended.

Each accepted push is in exactly one of two places: among those that *live* (queued, or
in an inbox) or among those that have *ended*, whose records are kept for a while so that
``GET /api/v1/pushes/{id}`` can say why. ``end`` is the only way from one to the other,
and it works once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from heartcast.core.errors import NotFound, Overloaded
from heartcast.push.model import Push, State
from heartcast.push.options import PushOptions


class Ledger:
    """All pushes of this process by id."""

    __slots__ = (
        "_ended",
        "_keep_ms",
        "_max_bytes",
        "_max_ended",
        "_max_live",
        "accepted",
        "ended",
        "kept_bytes",
        "live",
    )

    def __init__(self, options: PushOptions) -> None:
        self._max_live = options.max_kept
        self._max_bytes = options.max_kept_bytes
        self._max_ended = options.max_ended
        self._keep_ms = round(options.keep_ended_s * 1000)
        # An OrderedDict drops its oldest in O(1); a dict would walk over the holes of
        # all those dropped before.
        self._ended: OrderedDict[str, Push] = OrderedDict()
        self.live: dict[str, Push] = {}
        """Queued and sent pushes, oldest first."""
        self.kept_bytes = 0
        """Payload bytes of the live ones."""
        self.accepted = 0
        """Pushes accepted or found in the inbox since the start."""
        self.ended = dict.fromkeys((state for state in State if state.is_terminal), 0)
        """Pushes that ended since the start, by state."""

    def open(self, push: Push) -> None:
        """Begin the account of an accepted push.

        Raises:
            Overloaded: as many pushes, or bytes of them, are kept as may be.
        """
        kept_bytes = self.kept_bytes + len(push.payload)
        if len(self.live) >= self._max_live or kept_bytes > self._max_bytes:
            raise Overloaded("too many pushes wait for their users", retry_after_s=5, code="pushes_full")
        self.live[push.id] = push
        self.kept_bytes = kept_bytes
        self.accepted += 1

    def restore(self, push: Push) -> None:
        """Begin the account of a push that was accepted by an earlier process: no bound applies."""
        self.live[push.id] = push
        self.kept_bytes += len(push.payload)
        self.accepted += 1

    def end(self, push: Push, state: State, reason: str, now_ms: int) -> bool:
        """Close the account.

        Returns:
            False when it had ended before: then nothing changed.
        """
        if self.live.pop(push.id, None) is None:
            return False
        self.kept_bytes -= len(push.payload)
        push.state, push.reason, push.changed_ms = state, reason, now_ms
        push.payload, push.data = b"", None
        self.ended[state] += 1
        self._ended[push.id] = push
        if len(self._ended) > self._max_ended:
            self._ended.popitem(last=False)
        return True

    def find(self, push_id: str) -> Push:
        """The push with this id.

        Raises:
            NotFound: there never was one, or its record is no longer kept.
        """
        push = self.live.get(push_id) or self._ended.get(push_id)
        if push is None:
            raise NotFound("no push has this id, or its record is no longer kept", code="push_forgotten")
        return push

    def overdue(self, ttl_ms: int, now_ms: int, limit: int) -> Iterable[Push]:
        """Pushes in inboxes that have waited longer than ``ttl_ms``, at most ``limit``.

        What is still queued is left to its gate.
        """
        found: list[Push] = []
        for push in self.live.values():
            if now_ms - push.accepted_ms <= ttl_ms or len(found) >= limit:
                break
            if push.state is State.SENT:
                found.append(push)
        return found

    def forget(self, now_ms: int) -> None:
        """Drop the records that ended too long ago."""
        while self._ended:
            push = next(iter(self._ended.values()))
            if now_ms - push.changed_ms <= self._keep_ms:
                return
            self._ended.popitem(last=False)
