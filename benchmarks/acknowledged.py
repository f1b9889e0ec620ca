"""From the ``POST`` to the acknowledgement: pushes to 9,000 connected clients, everything on.

    python -m benchmarks acknowledged

The load is open (``heartcast bench push``): pushes are due when the schedule says, and a
delivery counts from that moment. Everybody is there and acknowledges. Of each case the
highest of its rates counts at which nothing was lost and the server kept up, where all is in
memory with a mean delivery within 105 ms. ``limited_by`` says who was busier at the next rate.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from heartcast.testing import RunningServer, running
from heartcast.testing.redis_server import RedisServer

CLIENTS = 9_000
SECONDS, WARMUP_S = 8, 3
MEAN_MS = 105.0
_KEPT_UP = 0.97
"""Of what was offered so much was delivered, second by second on average."""
_ANY = float("inf")


class _Case(NamedTuple):
    """One way to push, tried at rising rates."""

    rates_per_s: tuple[int, ...]
    load: tuple[str, ...] = ()
    store: str = "memory"
    mean_ms: float = MEAN_MS


_TOGETHER = ("--batch", "1000", "--burst", "20", "--cumulative")
CASES = {
    "single": _Case((12_000, 14_000)),
    "batches_of_100": _Case((20_000, 22_000, 25_000), ("--batch", "100")),
    "bursts_of_20": _Case((50_000, 60_000, 70_000), _TOGETHER),
    "single_sqlite": _Case((6_000, 8_000), store="sqlite", mean_ms=_ANY),
    "single_valkey": _Case((4_000, 6_000), store="valkey", mean_ms=_ANY),
}


def run() -> dict[str, Any]:
    """All cases; takes some four minutes."""
    return {name: _best(case) for name, case in CASES.items()}


def _best(case: _Case) -> dict[str, Any]:
    best: dict[str, Any] = {}
    for rate in case.rates_per_s:
        figures = _measured(case, rate)
        if not figures.pop("is_kept"):
            limited_by = "tester" if figures["tester_cpu"] > figures["server_cpu"] else "server"
            return {**best, "limited_by": limited_by, "beyond": figures}
        best = figures
    return best


def _measured(case: _Case, rate: int) -> dict[str, Any]:
    if case.store == "valkey":
        settings = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
        with RedisServer(settings=settings) as redis, running("--redis", redis.url) as server:
            return _load(server, case, rate)
    if case.store == "sqlite":
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, running("--data-dir", folder) as server:
            return _load(server, case, rate)
    with running("--in-memory") as server:
        return _load(server, case, rate)


def _load(server: RunningServer, case: _Case, rate: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [
            sys.executable, "-m", "heartcast", "bench", "push", "--url", server.url, "--json", str(path),
            "--users", str(CLIENTS), "--offline-share", "0", "--churn-per-s", "0", "--ack-timeout-s", "30",
            "--rate", str(rate), "--seconds", str(SECONDS), "--warmup", str(WARMUP_S), *case.load,
        ]  # fmt: skip
        # Status 1: a bound was not kept, which the report says.
        subprocess.run(command, capture_output=True, check=False)
        report = json.loads(path.read_text())
    figures = _figures(report)
    lost = sum(
        report["counts"][kind] for kind in ("lost", "duplicate", "reordered", "damaged", "unacknowledged")
    )
    kept_up = report["delivered_per_s"] >= _KEPT_UP * report["offered_per_s"]
    is_kept = not (lost or report["failed"]) and kept_up and figures["mean_ms"] <= case.mean_ms
    return {"offered_per_s": rate, **figures, "not_right": lost, "is_kept": is_kept}


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    deliveries, tester = report["deliveries"], report["tester"]
    return {
        "pushes": report["delivered"],
        "delivered_per_s": round(report["delivered_per_s"]),
        "mean_ms": round(deliveries["mean_ms"], 1),
        "p99_ms": round(deliveries["p99_ms"], 1),
        "server_cpu": round(report["server_cpu_mean"], 2),
        "server_cpu_us": round(report["server_cpu_per_message_us"], 1),
        "tester_cpu": round(tester["cpu_mean"], 2),
        "tester_late_p99_ms": round(tester["lag_p99_ms"], 1),
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
