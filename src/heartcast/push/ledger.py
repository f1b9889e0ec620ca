"""The account of every push: where it is, and how it ended.

Each accepted push is in exactly one of three places: among those that *live* (queued,
deferred, or in an inbox), among those that have *ended*, whose records are kept for a while
so that ``GET /api/v1/pushes/{id}`` can say why, or *far*: due so late that only the journal
has it. ``end`` is the only way to an end, and it works once.

Those that live are kept in two maps. ``live`` has those with the server's own ttl, oldest
first, so that what is overdue is found at its front; ``timed`` has those with a time of
their own, which the shards' wheels look after.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

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
        "on_end",
        "timed",
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
        """Living pushes without times of their own, oldest first."""
        self.timed: dict[str, Push] = {}
        """Living pushes that are or were deferred, or have a ttl of their own."""
        self.on_end: Callable[[Push], None] | None = None
        """Told of each push with extras that ended."""
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
        if len(self.live) + len(self.timed) >= self._max_live or kept_bytes > self._max_bytes:
            raise Overloaded("too many pushes wait for their users", retry_after_s=5, code="pushes_full")
        extra = push.extra
        if extra is None or not (extra.due_ms or extra.ttl_ms):
            self.live[push.id] = push
        else:
            self.timed[push.id] = push
        self.kept_bytes = kept_bytes
        self.accepted += 1

    def restore(self, push: Push) -> None:
        """Begin the account of a push that was accepted by an earlier process: no bound applies."""
        self.bring_back(push)
        self.accepted += 1

    def remember(self, push: Push) -> None:
        """The record of a push that ended where it was before."""
        self._ended[push.id] = push

    def bring_back(self, push: Push) -> None:
        """A push that was far is near again."""
        (self.timed if push.extra else self.live)[push.id] = push
        self.kept_bytes += len(push.payload)

    def withdraw(self, push: Push) -> None:
        """The push that was just opened could not be kept: it was never accepted."""
        self.leave(push)
        self.accepted -= 1

    def leave(self, push: Push) -> None:
        """The journal alone keeps this push from now on."""
        if self._pop(push.id) is not None:
            self.kept_bytes -= len(push.payload)

    def set_time(self, push: Push) -> None:
        """The push has a time of its own now."""
        if self.live.pop(push.id, None) is not None:
            self.timed[push.id] = push

    def resize(self, push: Push, payload: bytes) -> None:
        """A living push has another payload now."""
        self.kept_bytes += len(payload) - len(push.payload)
        push.payload, push.data = payload, None

    def living(self, push_id: str) -> Push | None:
        """The push with this id if it has not ended and is not far."""
        return self.live.get(push_id) or self.timed.get(push_id)

    def _pop(self, push_id: str) -> Push | None:
        return self.live.pop(push_id, None) or self.timed.pop(push_id, None)

    def end(self, push: Push, state: State, reason: str, now_ms: int) -> bool:
        """Close the account.

        Returns:
            False when it had ended before: then nothing changed.
        """
        if self.live.pop(push.id, None) is None and self.timed.pop(push.id, None) is None:
            return False
        self.kept_bytes -= len(push.payload)
        push.state, push.reason, push.changed_ms = state, reason, now_ms
        push.payload, push.data = b"", None
        self.ended[state] += 1
        self._ended[push.id] = push
        if len(self._ended) > self._max_ended:
            self._ended.popitem(last=False)
        if push.extra is not None and self.on_end is not None:
            self.on_end(push)
        return True

    def ended_one(self, push_id: str) -> Push | None:
        """The record of an ended push; None: it lives, is far, or is no longer known."""
        return self._ended.get(push_id)

    def ended_since(self, after_ms: int) -> Iterator[Push]:
        """The pushes that ended after this wall time, newest first, as far as they are kept."""
        for push in reversed(self._ended.values()):
            if push.changed_ms <= after_ms:
                return
            yield push

    def of_user(self, user: str) -> list[Push]:
        """Every push of this user that is here, oldest first. Looks at all of them."""
        places = (self._ended, self.live, self.timed)
        found = [push for place in places for push in place.values() if push.user == user]
        return sorted(found, key=lambda push: push.id)

    def erase(self, user: str) -> list[str]:
        """Forget the records of this user's ended pushes; returns their ids."""
        ids = [push.id for push in self._ended.values() if push.user == user]
        for push_id in ids:
            del self._ended[push_id]
        return ids

    def find(self, push_id: str) -> Push:
        """The push with this id.

        Raises:
            NotFound: there never was one, or its record is no longer kept.
        """
        push = self.living(push_id) or self._ended.get(push_id)
        if push is None:
            raise NotFound("no push has this id, or its record is no longer kept", code="push_forgotten")
        return push

    def overdue(self, ttl_ms: int, now_ms: int, limit: int) -> Iterable[Push]:
        """Pushes in inboxes that have waited longer than ``ttl_ms``, at most ``limit``.

        What is still queued is left to its gate, what has a time of its own to its wheel.
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
