"""Several pushes to one user that leave as one.

A *digest key* says that pushes belong together. The first one opens a window; all that are
accepted within it wait for its end. So do, without a key, the pushes that quiet hours hold
back of a user who asked for a digest in the morning. Until then each is a push of its own,
to be changed, cancelled or seen expire.

When the window is over and the first of them has passed all gates it takes the others
along: those that would pass now, too. They end as ``suppressed(merged)`` and name it; its
payload has theirs, in the order in which they were accepted. Both are written together, so
that a crash leaves a push by itself or inside the other, never neither and never both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from heartcast.push.gates import Gate
from heartcast.push.gates.preference import WishesOf
from heartcast.push.journal import Note
from heartcast.push.model import Push, State

KIND = "g:"
MAX_PUSHES = 50
"""Most pushes in one digest; what is beyond makes another."""
_QUIET = "\0quiet"
"""Key of what quiet hours held back; no sender can name it."""
_FORGET_SLICE = 5_000

MayPass = Callable[[Push, int], bool]
"""``may_pass(push, now_ms)``: whether all gates would let it pass now; counts nothing."""
Absorb = Callable[[Push, list[Push], bytes, int], None]
"""``absorb(push, others, payload, now_ms)``: ends the others and gives the push its new payload."""
Key = tuple[str, str]


class Digest(msgspec.Struct, frozen=True):
    """What a payload has under ``digest``."""

    count: int
    pushes: list[Item]


class Item(msgspec.Struct, frozen=True):
    """One push of a digest."""

    id: str
    template: str
    payload: msgspec.Raw


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Digests:
    """Open windows, and what waits in shards to be taken along.

    Args:
        max_bytes: Longest payload of a digest; a push that does not fit makes another.
        note: Given what must be remembered.
    """

    def __init__(
        self,
        max_bytes: int,
        *,
        wishes_of: WishesOf,
        may_pass: MayPass,
        absorb: Absorb,
        note: Callable[[Note], None],
    ) -> None:
        self._max_bytes = max_bytes
        self._wishes_of = wishes_of
        self._may_pass = may_pass
        self._absorb = absorb
        self._note = note
        self._open: dict[str, int] = {}
        self._queued: dict[Key, dict[str, Push]] = {}
        self.merged = 0
        """Pushes that left inside of another."""

    def join(self, push: Push, now_ms: int) -> None:
        """An accepted push with a digest key waits for the end of its window, from now on."""
        asked = push.asked
        key = f"{KIND}{push.user}\0{asked.digest_key}"
        until_ms = self._open.get(key, 0)
        if until_ms <= now_ms:
            until_ms = self._open[key] = now_ms + asked.digest_ms
            # Should it be lost by a crash, a second window opens: nothing is lost by that.
            self._note(Note(key, b"%d" % until_ms, until_ms))
        asked.due_ms = until_ms

    def restore(self, notes: Iterable[Note]) -> None:
        """Windows that an earlier process opened."""
        for note in notes:
            self._open[note.key] = note.until_ms

    def forget(self, now_ms: int) -> None:
        """Drop the windows that are over; looks at some of them, the next time at others."""
        for key in list(self._open)[:_FORGET_SLICE]:
            until_ms = self._open.pop(key)
            if until_ms > now_ms:
                self._open[key] = until_ms

    def forget_user(self, user: str) -> list[Note]:
        """Close a user's windows; returns what the journal must forget."""
        keys = [key for key in self._open if key.startswith(f"{KIND}{user}\0")]
        for key in keys:
            del self._open[key]
        return [Note(key, None) for key in keys]

    def queued(self, push: Push) -> None:
        """A push with extras waits in its shard."""
        if (key := self._key(push)) is not None:
            self._queued.setdefault(key, {})[push.id] = push

    def left(self, push: Push) -> None:
        """A push no longer waits in its shard: it left, ended, or waits for a time again."""
        if not self._queued:
            return
        for name in (push.asked.digest_key, _QUIET):
            together = self._queued.get((push.user, name))
            if together is not None and together.pop(push.id, None) is not None and not together:
                del self._queued[push.user, name]

    def gate(self) -> Gate:
        """Holds nothing back; takes others along when told that a push has passed."""
        return Gate("digest", lambda push, now_ms: None, self._passed, needs_extras=True)

    def _key(self, push: Push) -> Key | None:
        asked = push.asked
        if asked.digest_key:
            return push.user, asked.digest_key
        if not asked.rounds or asked.rounds[-1].gate != "quiet_hours":
            return None
        wishes = self._wishes_of(push.user)
        if wishes is None or wishes.quiet is None or not wishes.quiet.digests:
            return None
        return push.user, _QUIET

    def _passed(self, push: Push, now_ms: int) -> None:
        if not self._queued:
            return
        key = next(
            (
                (push.user, name)
                for name in (push.asked.digest_key, _QUIET)
                if push.id in self._queued.get((push.user, name), ())
            ),
            None,
        )
        if key is None:
            return
        together = self._queued[key]
        self.left(push)
        others = self._fitting(push, [together[push_id] for push_id in sorted(together)], now_ms)
        if not others:
            return
        self.merged += len(others)
        for other in others:
            self.left(other)
        self._absorb(push, others, _together(push, others), now_ms)

    def _fitting(self, push: Push, candidates: list[Push], now_ms: int) -> list[Push]:
        left = self._max_bytes - len(push.payload)
        fitting: list[Push] = []
        for other in candidates:
            if other.state is not State.QUEUED or other.gated_ms or not self._may_pass(other, now_ms):
                continue
            # Order is kept: what does not fit ends the digest, and begins the next.
            left -= len(other.payload)
            if left < 0 or len(fitting) + 1 >= MAX_PUSHES:
                break
            fitting.append(other)
        return fitting


def _together(push: Push, others: list[Push]) -> bytes:
    """The payload of a push, and under ``digest`` those of all, its own first."""
    items = [Item(one.id, one.template.key, msgspec.Raw(one.payload)) for one in (push, *others)]
    payload: dict[str, Any] = _decode(push.payload)
    return _encode({**payload, "digest": Digest(len(items), items)})
