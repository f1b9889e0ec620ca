"""Wakes the event loop at exact moments.

An event loop's own timers are as fine as the millisecond of ``epoll_wait``; a tester
that sends up to a millisecond late would charge the server for it. Linux has timers
that are files (``timerfd``), exact to some microseconds, which any loop can watch.
CPython offers them from 3.13 on; until then two calls into the C library do.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable

from heartcast.core.clock import Clock

_CLOCK_MONOTONIC = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE = 1
_SPEC = struct.Struct("@qqqq")


class Pacer:
    """One timer of the running loop. Close it.

    Args:
        wake: Called at the moment asked for.
    """

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle: asyncio.TimerHandle | None = None
        self._fd = -1
        create = getattr(self._libc, "timerfd_create", None)
        if create is not None:
            self._fd = create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._fired)

    def at(self, moment_ns: int) -> None:
        """Wake at this monotonic time, at once when it has passed; replaces what was asked before."""
        if self._fd < 0:
            self._by_loop(moment_ns)
            return
        # All zeros would disarm the timer; the first nanosecond of the machine's life has passed.
        seconds, ns = divmod(max(1, moment_ns), 1_000_000_000)
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, _SPEC.pack(0, 0, seconds, ns), None)

    def _by_loop(self, moment_ns: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        delay_s = max(0.0, (moment_ns - self._clock.monotonic_ns()) / 1e9)
        self._handle = self._loop.call_later(delay_s, self._wake)

    def _fired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was set anew meanwhile
        self._wake()

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
