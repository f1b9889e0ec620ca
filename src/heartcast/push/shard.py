"""A shard: two lists, one that is filled and one that is emptied.

Accepting appends to ``pending``; the shard's worker eats ``active`` from the front.
When ``active`` is eaten up the two change places, which costs the same for ten pushes
as for ten thousand. What a worker took stays in ``active`` until it is *finished*, so a
worker that fails puts it back by moving a number.

One batch of a shard is out at a time. That is what keeps a user's pushes in order, also
when the inbox answers later or refuses.

Priorities are a matter of sorting: whenever the lists change places, and now and then
before that when something urgent came, what waits is put in the order of its ranks. A push
has at least the rank of every later push of its user, so that a user's order never changes:
the urgent one lifts those before it. Each second of waiting lifts by one rank, so that
nothing starves. Shards in which everything is normal never sort.
"""

from __future__ import annotations

from heartcast.push.model import RANKS, Push

_LIFT_MS = 1_000
"""Waiting time that lifts a push by one rank."""
_TOP = max(RANKS.values())
_NORMAL = 1
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
        "is_ranked",
        "is_urgent",
        "out",
        "pending",
        "progress_s",
        "reserved",
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
        self.reserved = 0
        """Places of pushes that are on their way into the journal."""
        self.is_ranked = False
        """Whether something waits whose priority is not normal."""
        self.is_urgent = False
        """Whether something came that may go before what is being emptied."""
        self._cursor = 0
        self._finished = 0
        self._failed = 0

    def put(self, push: Push) -> None:
        """A push waits from now on."""
        self.pending.append(push)
        if push.extra is not None:
            rank = RANKS[push.extra.priority]
            self.is_ranked = self.is_ranked or rank != _NORMAL
            self.is_urgent = self.is_urgent or rank > _NORMAL

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

    def take(self, limit: int, now_ms: int) -> list[Push]:
        """The next pushes, at most ``limit``; empty while a batch is out."""
        if self.out:
            return []
        # Sorting again after an eighth of what is left has gone costs each push a constant.
        if not self.left or (self.is_urgent and self._cursor * 8 >= self.left and not self.careful):
            self._change_places(now_ms)
        batch = self.active[self._cursor : self._cursor + (1 if self.careful else limit)]
        self.out = len(batch)
        return batch

    def _change_places(self, now_ms: int) -> None:
        if self.is_ranked:
            waiting = self.active[self._cursor :] + self.pending
            self.active, self.pending = _ranked(waiting, now_ms), []
            # What is normal throughout needs no sorting until something else comes.
            self.is_ranked = any(
                push.extra is not None and RANKS[push.extra.priority] != _NORMAL for push in self.active
            )
        else:
            self.active, self.pending = self.pending, []
        self._cursor = 0
        self.is_urgent = False

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


def _ranked(pushes: list[Push], now_ms: int) -> list[Push]:
    """By rank, highest first; within a rank, and always within a user, as they were."""
    ranks: list[int] = []
    lifts: dict[str, int] = {}
    for push in reversed(pushes):
        extra = push.extra
        rank = _NORMAL if extra is None else RANKS[extra.priority]
        since_ms = push.accepted_ms if extra is None else max(push.accepted_ms, extra.due_ms)
        rank = min(_TOP, rank + max(0, now_ms - since_ms) // _LIFT_MS)
        rank = lifts[push.user] = max(rank, lifts.get(push.user, 0))
        ranks.append(rank)
    ranks.reverse()
    order = sorted(range(len(pushes)), key=lambda index: -ranks[index])
    return [pushes[index] for index in order]
