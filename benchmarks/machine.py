"""What a figure was measured on, and how to read the CPU time of a process."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def describe() -> str:
    """One line: cores, processor, memory, system, Python."""
    return (
        f"{os.cpu_count()} cores, {_processor()}, {_memory_gb():.0f} GB, "
        f"Linux {platform.release().partition('-')[0]}, CPython {platform.python_version()}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def cpu_s(pid: int) -> float:
    """User and system time of a process with all its threads, in seconds, by 1/100."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_kb(pid: int) -> int:
    """Resident memory of a process in KB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise ValueError(f"/proc/{pid}/status has no VmRSS")
