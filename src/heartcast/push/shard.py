"""A shard: two lists, one that is filled and one that is emptied.

Accepting appends to ``pending``; the shard's worker eats ``active`` from the front.
When ``active`` is eaten up the two change places, which costs the same for ten pushes
as for ten thousand. What a worker took stays in ``active`` until it is *finished*, so a
worker that fails puts it back by moving a number.

One batch of a shard is out at a time. That is what keeps a user's pushes in order, also
when the inbox answers later or refuses.
"""

from __future__ import annotations

from heartcast.push.model import Push

_WINDOW = 1024
"""Outcomes after which the error rate's counts are halved: recent ones weigh more."""


class Shard:
    """The waiting pushes of the users of one shard, oldest first."""

    __slots__ = (
        "_cursor",
        "_failed",
        "_finished",
        "active",
        "careful",
        "id",
        "is_listed",
        "out",
        "pending",
        "progress_s",
        "retry_at_s",
    )

    def __init__(self, id: int, now_s: float) -> None:  # noqa: A002 - it is the shard's public name
        self.id = id
        self.pending: list[Push] = []
        self.active: list[Push] = []
        self.out = 0
        """Pushes of the batch that is being worked on."""
        self.careful = 0
        """Pushes still to be taken one by one, because a batch with them failed."""
        self.is_listed = False
        """Whether the worker knows that there is something to do."""
        self.progress_s = now_s
        """Monotonic time at which a push last left, or at which the shard was last empty."""
        self.retry_at_s = 0.0
        """Not before this monotonic time: the inbox refused."""
        self._cursor = 0
        self._finished = 0
        self._failed = 0

    @property
    def left(self) -> int:
        """Pushes in the active buffer that have not left, those out included."""
        return len(self.active) - self._cursor

    @property
    def waiting(self) -> int:
        return len(self.pending) + self.left

    @property
    def oldest(self) -> Push | None:
        """The push that waits longest; None when nothing waits."""
        if self.left:
            return self.active[self._cursor]
        return self.pending[0] if self.pending else None

    @property
    def error_rate(self) -> float:
        """Share of the recent pushes that failed, 0.0 to 1.0; 0.0 before the first."""
        return self._failed / self._finished if self._finished else 0.0

    def take(self, limit: int) -> list[Push]:
        """The next pushes, at most ``limit``; empty while a batch is out."""
        if self.out:
            return []
        if not self.left:
            self.active, self.pending, self._cursor = self.pending, [], 0
        batch = self.active[self._cursor : self._cursor + (1 if self.careful else limit)]
        self.out = len(batch)
        return batch

    def put_back(self) -> None:
        """The batch that is out did not leave: it is the next again."""
        self.careful = max(self.careful, self.out)
        self.out = 0

    def finish(self, failed: int, now_s: float) -> None:
        """The batch that is out has left."""
        self._cursor += self.out
        self.careful = max(0, self.careful - self.out)
        self._finished += self.out
        self._failed += failed
        if self._finished > _WINDOW:
            self._finished >>= 1
            self._failed >>= 1
        self.out = 0
        self.progress_s = now_s
        if not self.left:
            # The eaten list goes now: an idle shard must not hold on to what has left.
            self.active, self._cursor = [], 0
