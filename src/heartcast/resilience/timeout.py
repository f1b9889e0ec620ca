"""How long to wait: a deadline for the whole, and for each attempt a timeout that learns.

``deadline`` sets when the caller stops caring; everything below it, however deep, asks
``remaining_s`` and never waits longer. ``AdaptiveTimeout`` follows the P99. What timed
out is remembered as having taken the ceiling: forgetting it would let each timeout
shorten the next, until nothing is ever in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from heartcast.core.clock import Clock, SystemClock
from heartcast.core.quantiles import RollingHistogram

_deadline_ns: ContextVar[int | None] = ContextVar("deadline_ns", default=None)


@contextmanager
def deadline(seconds: float, clock: Clock | None = None) -> Iterator[None]:
    """Everything inside stops caring after so many seconds; an outer deadline that is sooner stays.

    This interrupts nothing by itself: ``Retry``, ``Policy`` and timeouts ask for it.
    """
    if not 0 < seconds < 1e9:
        raise ValueError(f"seconds: must be > 0 and finite, got {seconds}")
    mine_ns = (clock or SystemClock()).monotonic_ns() + round(seconds * 1e9)
    outer_ns = _deadline_ns.get()
    token = _deadline_ns.set(mine_ns if outer_ns is None else min(mine_ns, outer_ns))
    try:
        yield
    finally:
        _deadline_ns.reset(token)


def remaining_s(clock: Clock) -> float | None:
    """Seconds until the deadline that we are under, 0.0 when it is over; None when there is none."""
    at_ns = _deadline_ns.get()
    return None if at_ns is None else max(0.0, (at_ns - clock.monotonic_ns()) / 1e9)


class TimeoutPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a timeout follows what it sees."""

    start_s: float = 1.0
    """Timeout until enough is known, in [floor_s, ceiling_s]."""

    factor: float = 1.5
    """Times the P99, >= 1."""

    floor_s: float = 0.05
    """Never shorter, > 0, so that fast answers cannot make it collapse."""

    ceiling_s: float = 2.0
    """Never longer."""

    min_calls: int = 1000
    """A P99 of fewer calls is no P99: ten must lie beyond it, >= 1."""

    step: float = 0.2
    """Largest change at once, as a share, in (0, 1)."""

    every_s: float = 10.0
    """Seconds between changes, > 0."""

    freeze_above: float = 0.01
    """It stands still while more than this share times out: the P99 is then our own doing."""

    def __post_init__(self) -> None:
        if not 0 < self.floor_s <= self.start_s <= self.ceiling_s < 1e9:
            raise ValueError(
                f"start_s: must be in [floor_s, ceiling_s], got {self.start_s}"
                f" in [{self.floor_s}, {self.ceiling_s}]"
            )
        if not 1 <= self.factor < 1000:
            raise ValueError(f"factor: must be >= 1, got {self.factor}")
        if not 0 < self.step < 1:
            raise ValueError(f"step: must be in (0, 1), got {self.step}")
        if not self.every_s > 0 or not 0 < self.freeze_above <= 1 or self.min_calls < 1:
            raise ValueError("every_s: must be > 0, freeze_above in (0, 1], min_calls >= 1")


class AdaptiveTimeout:
    """A timeout of ``factor`` times the P99 of the last minute."""

    __slots__ = ("_due_ns", "_every_ns", "_policy", "_seen", "_timeouts", "timeout_s")

    def __init__(self, policy: TimeoutPolicy | None = None, *, now_ns: int) -> None:
        self._policy = policy = policy or TimeoutPolicy()
        self._every_ns = round(policy.every_s * 1e9)
        self._seen = RollingHistogram(60_000_000_000, 6, now_ns)
        self._due_ns = now_ns + self._every_ns
        self._timeouts = [0, 0]
        self.timeout_s = policy.start_s
        """The timeout for the next call, in seconds."""

    def record(self, took_ns: int, now_ns: int, *, timed_out: bool = False) -> None:
        """A call ended, or was given up after ``took_ns``."""
        took_us = round(self._policy.ceiling_s * 1e6) if timed_out else took_ns // 1000
        self._seen.add(max(took_us, 0))
        self._timeouts[timed_out] += 1
        if now_ns >= self._due_ns:
            self._adjust(now_ns)

    def _adjust(self, now_ns: int) -> None:
        self._due_ns = now_ns + self._every_ns
        in_time, timed_out = self._timeouts
        self._timeouts = [0, 0]
        self._seen.advance(now_ns)
        seen = self._seen.total()
        if seen.count < self._policy.min_calls or timed_out > self._policy.freeze_above * (
            in_time + timed_out
        ):
            return
        p99_us = seen.quantile(0.99) or 0
        policy = self._policy
        low, high = self.timeout_s * (1 - policy.step), self.timeout_s * (1 + policy.step)
        wanted_s = min(max(p99_us / 1e6 * policy.factor, low), high)
        self.timeout_s = min(max(wanted_s, policy.floor_s), policy.ceiling_s)


class Alarm:
    """One timeout that is running."""

    __slots__ = ("cancelling", "due_s", "has_rung", "task")

    def __init__(self, task: asyncio.Task[object], due_s: float) -> None:
        self.task = task
        self.due_s = due_s
        self.cancelling = task.cancelling()
        self.has_rung = False


class Alarms:
    """Timeouts of nearly equal length behind one timer.

    ``asyncio.timeout`` sets and cancels a timer of the loop for each call, which costs
    more than all our other layers together. Calls of one policy have one timeout, so
    their alarms ring in the order they were set: a dictionary keeps the order, and the
    loop's one timer stands at the first. A timeout that learns changes by small steps;
    an alarm behind a longer one rings with it.
    """

    __slots__ = ("_alarms", "_is_timed", "_loop", "_number")

    def __init__(self) -> None:
        self._alarms: dict[int, Alarm] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_timed = False
        self._number = 0

    def set(self, seconds: float) -> int:
        """Cancel the current task after so many seconds, unless ``stop`` comes before."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        if loop is not self._loop:
            # A loop that ended took its timer and its tasks along.
            self._loop, self._is_timed = loop, False
            self._alarms.clear()
        due_s = loop.time() + seconds
        if not self._is_timed:
            self._is_timed = True
            loop.call_at(due_s, self._ring, loop)
        self._number = number = self._number + 1
        self._alarms[number] = Alarm(task, due_s)
        return number

    def stop(self, number: int) -> None:
        """The call ended in time."""
        alarm = self._alarms.pop(number, None)
        if alarm is not None and alarm.has_rung:
            # The call took our cancellation and answered all the same.
            alarm.task.uncancel()

    def has_rung(self, number: int) -> bool:
        """Whether the cancellation that the task just got was this alarm's alone.

        Call it once, when the task was cancelled.
        """
        alarm = self._alarms.pop(number, None)
        if alarm is None or not alarm.has_rung:
            return False
        # Somebody else may have cancelled the task as well: then it stays cancelled.
        return alarm.task.uncancel() <= alarm.cancelling

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        self._is_timed = False
        now_s = loop.time()
        for alarm in self._alarms.values():
            if alarm.due_s > now_s:
                self._is_timed = True
                loop.call_at(alarm.due_s, self._ring, loop)
                return
            if not alarm.has_rung:
                alarm.has_rung = True
                alarm.task.cancel()
