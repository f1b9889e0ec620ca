"""The outcome of a run as data: what the JSON file holds, and what pages and tables show."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import msgspec

from heartcast import __version__
from heartcast.core.clock import rfc3339
from heartcast.core.errors import SettingsError
from heartcast.loadtest.meter import Quantiles
from heartcast.loadtest.outcome import Outcome
from heartcast.loadtest.run import Second
from heartcast.loadtest.scenario import Bounds
from heartcast.loadtest.verdict import Example

_BUSY = 0.85
"""Share of one core from which on the tester may be what is slow."""
_LATE_TESTER_MS = 5.0
_MEANINGS = {
    401: "the server does not know the caller",
    403: "the caller may not do this",
    404: "there is no such thing on this server",
    422: "the server does not take such a body",
    429: "a rate limit of the server was met",
    503: "the server was full, or stopping",
}


class Check(msgspec.Struct, frozen=True):
    """One bound and what was found."""

    name: str
    found: float | None
    bound: float
    is_met: bool
    sentence: str


class Tester(msgspec.Struct, frozen=True):
    """What the tester itself needed: a saturated tester must not pass for a slow server."""

    cpu_mean: float
    cpu_max: float
    """Share of one core."""
    lag_p99_ms: float | None
    """How late it sent, after the intended moment."""
    unsent: int
    """Due and not sent, because too many requests were open."""
    rss_bytes: int
    limit: str | None
    """A limit of its machine that it met, as a sentence."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A run."""

    heartcast: str
    """Version of the tester."""
    scenario: str
    options: dict[str, object]
    """The scenario with all its fields."""
    run: str
    url: str
    machine: str
    began_at: str
    took_s: float
    is_passed: bool
    ended_by: str | None
    """Why the run did not go to its end; None: it did."""
    checks: list[Check]
    offered: int
    offered_per_s: float
    answered_per_s: float
    delivered_per_s: float
    """Mean over the seconds after the warm-up."""
    statuses: dict[str, int]
    """Answers by HTTP status; "0": none came."""
    failed: int
    owed: int
    """Arrivals that there should have been."""
    delivered: int
    counts: dict[str, int]
    examples: dict[str, list[Example]]
    foreign: int
    requests: Quantiles
    deliveries: Quantiles
    openings: Quantiles
    """From the attempt to connect to the answered subscription."""
    reconnects: int
    closes: dict[str, int]
    failures: dict[str, int]
    tester: Tester
    server_cpu_mean: float | None
    server_cpu_per_message_us: float | None
    server_rss_first_bytes: int | None
    server_rss_last_bytes: int | None
    notes: list[str]
    seconds: list[Second]
    histogram: list[tuple[int, int]]
    """(top of bucket in µs, count) of deliveries, or of requests where nothing is delivered."""


def report_of(run: Outcome, *, began_ms: int, ended_ms: int) -> Report:
    """What a run that has ended says; times are of the wall clock."""
    scenario = run.scenario
    warm = [s for s in run.seconds if s.at_s >= scenario.load.warmup_s and s.offered]
    checks = _checks(run, scenario.bounds)
    seconds = [s for s in run.seconds if 0 <= s.at_s < scenario.load.seconds]
    memory = [s.server_rss_bytes for s in seconds if s.server_rss_bytes]
    cpu = [s.server_cpu for s in warm if s.server_cpu is not None]
    cpu_mean = sum(cpu) / len(cpu) if cpu else None
    offered_per_s = _mean([s.offered for s in warm])
    deliveries = run.deliveries if run.deliveries.count else run.requests
    options: dict[str, object] = msgspec.to_builtins(scenario)
    return Report(
        heartcast=__version__,
        scenario=scenario.name,
        options=options,
        run=run.name,
        url=run.url,
        machine=machine(),
        began_at=rfc3339(began_ms),
        took_s=round((ended_ms - began_ms) / 1000, 1),
        is_passed=run.ended_by is None and all(check.is_met for check in checks),
        ended_by=run.ended_by,
        checks=checks,
        offered=run.offered,
        offered_per_s=offered_per_s,
        answered_per_s=_mean([s.answered for s in warm]),
        delivered_per_s=_mean([s.delivered for s in warm]),
        statuses={str(status): n for status, n in sorted(run.statuses.items())},
        failed=run.failed,
        owed=run.ledger.owed,
        delivered=run.ledger.delivered,
        counts=run.ledger.counts,
        examples=run.ledger.examples,
        foreign=run.ledger.foreign,
        requests=Quantiles.of(run.requests),
        deliveries=Quantiles.of(run.deliveries),
        openings=Quantiles.of(run.openings),
        reconnects=run.reconnects,
        closes=run.closes,
        failures=run.failures,
        tester=_tester(run, seconds),
        server_cpu_mean=cpu_mean,
        server_cpu_per_message_us=cpu_mean / offered_per_s * 1e6 if cpu_mean and offered_per_s else None,
        server_rss_first_bytes=memory[0] if memory else None,
        server_rss_last_bytes=memory[-1] if memory else None,
        notes=[*run.notes, *_warnings(run, seconds)],
        seconds=seconds,
        histogram=list(deliveries.buckets()),
    )


def _tester(run: Outcome, seconds: list[Second]) -> Tester:
    cpu = [s.tester_cpu for s in seconds if s.offered] or [0.0]
    lag_us = run.lag.quantile(0.99)
    return Tester(
        cpu_mean=round(sum(cpu) / len(cpu), 3),
        cpu_max=max(cpu),
        lag_p99_ms=lag_us / 1000 if lag_us is not None else None,
        unsent=run.unsent,
        rss_bytes=run.rss_bytes,
        limit=run.limit,
    )


def _warnings(run: Outcome, seconds: list[Second]) -> list[str]:
    """What a reader must know of the tester before blaming the server."""
    tester, said = _tester(run, seconds), []
    if tester.cpu_mean > _BUSY:
        said.append(
            f"The tester itself was busy ({tester.cpu_mean:.0%} of a core): "
            "the server may be faster than this says."
        )
    if tester.lag_p99_ms is not None and tester.lag_p99_ms > _LATE_TESTER_MS:
        said.append(
            f"The tester sent up to {tester.lag_p99_ms:.0f} ms late (p99): its machine is short of processor."
        )
    if tester.unsent:
        said.append(
            f"{tester.unsent:,} messages were due and not sent: "
            f"{run.scenario.load.max_open:,} requests were open already."
        )
    if tester.limit:
        said.append(f"Not the server but {tester.limit}.")
    for status, times in sorted(run.statuses.items()):
        if not 200 <= status < 300:
            meaning = _MEANINGS.get(status, "see the server's log")
            said.append(
                f"{times:,} requests "
                + (f"were answered {status}: {meaning}." if status else "got no answer.")
            )
    return said


def _checks(run: Outcome, bounds: Bounds) -> list[Check]:
    counts, ledger = run.ledger.counts, run.ledger
    checks = [
        _at_most(name, counts[name], getattr(bounds, f"max_{name}"), words)
        for name, words in (
            ("lost", "lost"),
            ("duplicate", "arrived twice"),
            ("reordered", "arrived out of order"),
            ("damaged", "arrived damaged"),
            ("unacknowledged", "acknowledged, and still kept by the server"),
        )
        if name != "unacknowledged" or run.acknowledges
    ]
    late_share = counts["late"] / ledger.delivered if ledger.delivered else 0.0
    failed_share = run.failed / max(1, run.offered - run.unsent)
    p99_us = (run.deliveries if run.deliveries.count else run.requests).quantile(0.99)
    checks += [
        _share("late", late_share, bounds.max_late_share, f"later than {bounds.late_ms:g} ms"),
        _share("failed", failed_share, bounds.max_failed_share, "requests refused or unanswered"),
    ]
    if bounds.p99_ms is not None:
        found = p99_us / 1000 if p99_us is not None else None
        is_met = found is not None and found <= bounds.p99_ms
        said = f"{found:.1f} ms" if found is not None else "nothing arrived"
        checks.append(
            Check("p99_ms", found, bounds.p99_ms, is_met, f"p99 {said}, bound {bounds.p99_ms:g} ms")
        )
    checks.append(_growth(run.seconds, bounds.max_growth_mb_per_min))
    if not ledger.delivered:
        checks.append(Check("delivered", 0, 1, False, "nothing was delivered at all"))
    return [check for check in checks if check is not None]


def _at_most(name: str, found: int, bound: int | None, words: str) -> Check | None:
    if bound is None:
        return None
    allowed = f", {bound:,} allowed" if bound else ""
    return Check(name, found, bound, found <= bound, f"{found:,} {words}{allowed}")


def _share(name: str, found: float, bound: float | None, words: str) -> Check | None:
    if bound is None:
        return None
    allowed = f", {bound:.2%} allowed" if bound else ""
    return Check(f"{name}_share", found, bound, found <= bound, f"{found:.2%} {words}{allowed}")


def _growth(seconds: list[Second], bound: float | None) -> Check | None:
    """Least-squares slope of the server's memory over the second half of the run."""
    points = [(s.at_s, s.server_rss_bytes) for s in seconds if s.server_rss_bytes]
    points = points[len(points) // 2 :]
    if bound is None or len(points) < 3:
        return None
    mean_x, mean_y = _mean([x for x, _ in points]), _mean([y for _, y in points])
    over = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / over if over else 0.0
    found = slope * 60 / 1e6
    return Check(
        "growth", found, bound, found <= bound, f"memory grew by {found:.1f} MB/min, {bound:g} allowed"
    )


def _mean(values: list[float] | list[int]) -> float:
    return sum(values) / len(values) if values else 0.0


def machine() -> str:
    """One line: cores, processor, memory, system, Python."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{os.cpu_count()} cores, {_processor()}, {memory_gb:.0f} GB, "
        f"{platform.system()} {platform.release().partition('-')[0]}, CPython {platform.python_version()}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def write(report: Report, path: Path) -> None:
    """As JSON, indented, to a file.

    Raises:
        SettingsError: it cannot be written.
    """
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error


def read(path: Path) -> Report:
    """A report that ``write`` wrote.

    Raises:
        SettingsError: there is none, or it is something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path} is no report of heartcast bench: {error}") from error


def run_name(began_ns: int | None = None) -> str:
    """A short name for a run, different for each that begins in another millisecond."""
    number = (began_ns if began_ns is not None else time.time_ns()) // 1_000_000 % 36**6
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits or "0"
