"""A supervisor: workers that fail alone, are counted, reported and started again.

A worker is a named coroutine that runs until it is stopped. When it raises, its
neighbours go on; it is started again after a pause that grows while it keeps failing.
A worker that neither fails nor gets on is the worse case, and is visible: it says when
it has made progress, its owner says how much work waits, and ``stalled`` names those
who stand still while there is work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from types import TracebackType

from heartcast.core.clock import Clock, SystemClock
from heartcast.resilience.retry import Backoff


class Worker:
    """One supervised task, and what is known about it."""

    __slots__ = (
        "_clock",
        "_waiting",
        "failures",
        "is_running",
        "last_error",
        "name",
        "progress_ns",
        "restarts",
    )

    def __init__(self, name: str, clock: Clock, waiting: Callable[[], int]) -> None:
        self.name = name
        self._clock = clock
        self._waiting = waiting
        self.failures = 0
        """Times it raised."""
        self.restarts = 0
        """Times it was started again."""
        self.last_error: str | None = None
        """What it raised last, as text: the exception itself would keep its frames alive."""
        self.is_running = False
        self.progress_ns = clock.monotonic_ns()

    def beat(self) -> None:
        """The worker got something done."""
        self.progress_ns = self._clock.monotonic_ns()

    def stalled_s(self) -> float:
        """Seconds without progress while work waits; 0.0 when nothing waits."""
        if not self._waiting():
            # Idle is not stalled, and the clock starts when work comes.
            self.beat()
            return 0.0
        return (self._clock.monotonic_ns() - self.progress_ns) / 1e9


class Supervisor:
    """``async with Supervisor() as supervisor: supervisor.start("shard-7", run_shard)``.

    Leaving the block cancels all workers and waits for them.

    Args:
        backoff: The pauses between restarts; ``attempts`` is not used, workers are never given up.
        report: Called with the worker and the exception, for logs. What it raises is ignored.
        steady_s: A worker that ran so long before it failed begins with a short pause again.
    """

    def __init__(
        self,
        *,
        backoff: Backoff | None = None,
        report: Callable[[Worker, BaseException], None] = lambda worker, error: None,
        steady_s: float = 10.0,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._backoff = backoff or Backoff(first_s=0.05, max_s=5.0)
        self._report = report
        self._steady_ns = round(steady_s * 1e9)
        self._clock = clock or SystemClock()
        self._random = random or Random()  # noqa: S311 — spreads pauses, guards no secret
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopping = False
        self.workers: dict[str, Worker] = {}

    async def __aenter__(self) -> Supervisor:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(kind, error, trace)

    def start(
        self, name: str, run: Callable[[Worker], Awaitable[None]], *, waiting: Callable[[], int] = lambda: 0
    ) -> Worker:
        """Start a worker. One that returns is done; one that raises is started again.

        Args:
            run: Called anew for each start.
            waiting: How much work waits, for ``stalled``.

        Raises:
            ValueError: there is a worker of this name.
        """
        if name in self.workers:
            raise ValueError(f"name: there is a worker {name!r} already")
        worker = self.workers[name] = Worker(name, self._clock, waiting)
        self._tasks.append(self._group.create_task(self._keep(worker, run), name=name))
        return worker

    def stalled(self, after_s: float = 5.0) -> list[Worker]:
        """Workers that made no progress for so long while work waits. Ask regularly."""
        return [worker for worker in self.workers.values() if worker.stalled_s() >= after_s]

    async def _keep(self, worker: Worker, run: Callable[[Worker], Awaitable[None]]) -> None:
        failures_in_row = 0
        while True:
            started_ns = self._clock.monotonic_ns()
            error = await self._run_once(worker, run)
            if error is None:
                return
            ran_ns = self._clock.monotonic_ns() - started_ns
            failures_in_row = 1 if ran_ns >= self._steady_ns else failures_in_row + 1
            await asyncio.sleep(self._backoff.wait_s(failures_in_row, self._random))
            worker.restarts += 1

    async def _run_once(
        self, worker: Worker, run: Callable[[Worker], Awaitable[None]]
    ) -> BaseException | None:
        worker.is_running = True
        try:
            await run(worker)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            # A cancelled future inside the worker looks like our own cancellation, and
            # would end it without a word. Only the supervisor's counts.
            if self._is_stopping or (task is not None and task.cancelling()):
                raise
            return self._failed(worker, error)
        except Exception as error:
            return self._failed(worker, error)
        finally:
            worker.is_running = False
        return None

    def _failed(self, worker: Worker, error: BaseException) -> BaseException:
        worker.failures += 1
        worker.last_error = f"{type(error).__name__}: {error}"
        try:
            self._report(worker, error)
        except Exception:
            # A broken report must not end the worker it reports on.
            worker.last_error += " (and the report of it failed)"
        return error
