"""Time as a dependency.

Whoever needs the time takes a ``Clock``. Production passes ``SystemClock``; tests
pass ``heartcast.testing.ManualClock`` and move it by hand, so that no test sleeps.

Two kinds of time never mix: *monotonic* time measures waits and may start
anywhere; *wall* time is what people and disks see and may jump.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary point; never goes back."""
        ...

    def monotonic_ns(self) -> int:
        """The same reading in whole nanoseconds."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00:00Z; may jump either way."""
        ...


class SystemClock:
    """The operating system's clocks."""

    # Bound once: these are called per request, and an attribute look-up on the
    # time module is a third of the cost of the call.
    monotonic_s = staticmethod(time.monotonic)
    monotonic_ns = staticmethod(time.monotonic_ns)

    @staticmethod
    def wall_ms() -> int:
        return time.time_ns() // 1_000_000


class SleeplessClock(SystemClock):
    """As ``SystemClock``, but its monotonic time also goes on while the machine is suspended.

    For leases: a laptop or a virtual machine that slept must not believe that no time passed.
    Where the system has no such clock it is the usual one.
    """

    @staticmethod
    def monotonic_ns() -> int:
        return time.clock_gettime_ns(_BOOT_CLOCK)

    @staticmethod
    def monotonic_s() -> float:
        return time.clock_gettime(_BOOT_CLOCK)


# Linux; elsewhere the monotonic clock itself is the best there is.
_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def rfc3339(wall_ms: int) -> str:
    """``2026-11-20T08:15:30.125Z`` for a wall time in milliseconds, 0 to year 9999."""
    seconds, ms = divmod(wall_ms, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{ms:03d}Z"
