"""The same push posted over and over: decoded, checked and answered with an id.

heartcast also sends it through its gates into an inbox; the peers keep nothing.
"""

from __future__ import annotations

import time
from random import Random
from typing import Any

from benchmarks import load
from benchmarks.peers.peer import Peer, cpu_s, started

SECONDS = 5.0
_LOOK_S = 0.2
_BODY = b'{"user_id":%d,"template":"news_v2","payload":{"title":"Go 1.23 released"}}'


def measure_ingest(peer: Peer) -> dict[str, Any]:
    """Figures of ``benchmarks.load``, and the server's processor time per request."""
    random = Random(7)
    pushes = [
        load.request("POST", peer.push_path, _BODY % random.randrange(10_000_000)) for _ in range(100_000)
    ]
    with started(peer) as (pid, ports):
        before_s = cpu_s(pid)
        result = load.run(ports.main, pushes, seconds=SECONDS)
        drain_s = _until_done(pid)
        result["sustained_per_s"] = round(result["requests"] / (SECONDS + drain_s))
        result["cpu_us_per_request"] = round((cpu_s(pid) - before_s) * 1e6 / result["requests"], 2)
    return result


def _until_done(pid: int) -> float:
    """Seconds until it stopped working off what it had accepted: its processor time stands still."""
    start_s = time.perf_counter()
    spent_s = cpu_s(pid)
    while time.perf_counter() - start_s < 20:
        time.sleep(_LOOK_S)
        before_s, spent_s = spent_s, cpu_s(pid)
        if spent_s - before_s <= 0.1 * _LOOK_S:
            return max(0.0, time.perf_counter() - start_s - _LOOK_S)
    raise RuntimeError("the server does not come to rest")
