"""Eight workers that own fixed ranges of shards, and what happens when one fails.

A worker is not a task: it is an object with a list of shards that have something for it.
The pool lets one worker at a time work off one *slice*, then gives the event loop its
turn. Requests and deliveries therefore never wait for more than a slice, and while both
compete, accepting goes ahead of working off: its clients wait for an answer, and the
shards' bounds keep the difference finite.

The first push of an empty shard wakes its worker at once. Every ``tick_s`` the pool also
wakes whoever has something left, so that no lost wake-up lasts longer.

A worker that raises is counted, reported and started again after a pause that doubles
with each failure. Its batch goes back and is then taken push by push: the one that fails
alone is poisoned, ends as failed, and the rest goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from heartcast.core.clock import Clock
from heartcast.push.model import Push
from heartcast.push.options import PushOptions
from heartcast.push.shard import Shard

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
RETRY_S = 0.25
"""Pause of a shard whose batch the inbox refused."""

Finish = Callable[[int | None], None]
"""``finish(failed)``: the batch has left, so many of it as failed; None: it has not left, try again."""
Work = Callable[[list[Push], Finish], None]
Poisoned = Callable[[Push, Exception], None]
Report = Callable[[str, BaseException], None]


class Loop(Protocol):
    """What the pool needs of an event loop."""

    def call_soon(self, callback: Callable[[], Any]) -> Any: ...

    def call_later(self, delay: float, callback: Callable[[], Any]) -> Any: ...


class Worker:
    """One worker: its shards that have something to do, and its failures."""

    __slots__ = ("crashes", "crashes_in_a_row", "id", "is_listed", "ready", "resume_at_s")

    def __init__(self, id: int) -> None:  # noqa: A002 - it is the worker's public name
        self.id = id
        self.ready: deque[Shard] = deque()
        self.is_listed = False
        """Whether it waits for its turn."""
        self.crashes = 0
        self.crashes_in_a_row = 0
        self.resume_at_s = 0.0

    def pause(self, now_s: float) -> None:
        """Count a failure and rest."""
        self.crashes += 1
        self.resume_at_s = now_s + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self.crashes_in_a_row)
        # Beyond this the pause is at its longest; growing on would overflow one day.
        self.crashes_in_a_row = min(self.crashes_in_a_row + 1, 16)


class WorkerPool:
    """All workers and whose turn it is.

    Args:
        work: Takes a batch through gates and inbox and calls ``finish`` exactly once,
            unless it raises; it must pass over pushes that are no longer queued, because
            a batch that failed half way comes again.
        poisoned: Ends a push that made its worker fail alone.
        report: Told of every failure, with a few words.
    """

    def __init__(
        self,
        options: PushOptions,
        clock: Clock,
        loop: Loop,
        *,
        work: Work,
        poisoned: Poisoned,
        report: Report,
    ) -> None:
        self._options = options
        self._clock = clock
        self._loop = loop
        self._work = work
        self._poisoned = poisoned
        self._report = report
        self._turns: deque[Worker] = deque()
        self._is_turning = False
        self._ticking: Any = None
        now_s = clock.monotonic_s()
        self.shards = [Shard(index, now_s) for index in range(options.shards)]
        self.workers = [Worker(index) for index in range(options.workers)]
        # Ranges whose sizes differ by one at most: worker 0 owns shards 0 to 7, and so on.
        self.owners = [
            self.workers[index * options.workers // options.shards] for index in range(options.shards)
        ]

    def start(self) -> None:
        """Begin to tick. Shards may be filled before."""
        if self._ticking is None:
            self._ticking = self._loop.call_later(self._options.tick_s, self._tick)

    def stop(self) -> None:
        """Stop ticking. What waits stays where it is."""
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    def wake(self, shard: Shard) -> None:
        """A push came into an unlisted shard."""
        shard.is_listed = True
        worker = self.owners[shard.id]
        worker.ready.append(shard)
        self._list(worker)

    def _list(self, worker: Worker) -> None:
        if worker.is_listed:
            return
        worker.is_listed = True
        self._turns.append(worker)
        if not self._is_turning:
            self._is_turning = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        worker = self._turns.popleft()
        worker.is_listed = False
        now_s = self._clock.monotonic_s()
        if now_s >= worker.resume_at_s:
            self._slice(worker, now_s)
            # A worker that rests is listed again by the tick.
            if worker.ready and now_s >= worker.resume_at_s:
                worker.is_listed = True
                self._turns.append(worker)
        if self._turns:
            self._loop.call_soon(self._turn)
        else:
            self._is_turning = False

    def _slice(self, worker: Worker, now_s: float) -> None:
        left = self._options.slice_pushes
        ready = worker.ready
        now_ms = self._clock.wall_ms()
        while left > 0 and ready:
            shard = ready.popleft()
            if shard.out or now_s < shard.retry_at_s or not (batch := shard.take(left, now_ms)):
                shard.is_listed = False
                continue
            left -= len(batch)
            try:
                self._work(batch, partial(self._finish, shard))
            except Exception as error:
                self._crashed(worker, shard, batch, error, now_s)
                return
            self._relist(worker, shard)
        worker.crashes_in_a_row = 0

    def _finish(self, shard: Shard, failed: int | None) -> None:
        now_s = self._clock.monotonic_s()
        if failed is None:
            shard.put_back()
            shard.retry_at_s = now_s + RETRY_S
            return
        shard.finish(failed, now_s)
        if not shard.is_listed and shard.waiting:
            self.wake(shard)

    def _crashed(
        self, worker: Worker, shard: Shard, batch: list[Push], error: Exception, now_s: float
    ) -> None:
        worker.pause(now_s)
        self._report(f"push worker {worker.id} failed on shard {shard.id}", error)
        if shard.out and len(batch) > 1:
            shard.put_back()
        elif shard.out:
            self._poisoned(batch[0], error)
            shard.finish(1, now_s)
        self._relist(worker, shard)

    def _relist(self, worker: Worker, shard: Shard) -> None:
        # While a batch is out, the inbox answers later, and its answer lists the shard.
        shard.is_listed = not shard.out and shard.waiting > 0
        if shard.is_listed:
            worker.ready.append(shard)

    def _tick(self) -> None:
        self._ticking = self._loop.call_later(self._options.tick_s, self._tick)
        now_s = self._clock.monotonic_s()
        for shard in self.shards:
            if not shard.is_listed and not shard.out and now_s >= shard.retry_at_s and shard.waiting:
                self.wake(shard)
        for worker in self.workers:
            if worker.ready:
                self._list(worker)
