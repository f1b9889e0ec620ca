"""Pushes, in process: what accepting one costs, and what the way into the inbox costs.

    python -m benchmarks.push

``accept_us``: a request body to an answer's bytes (decode, check, id, shard, enqueue,
encode). ``pipeline_us``: from the shard through gates into the inbox of a user who is
away. Users are random out of ten million, as the referee's are.
"""

from __future__ import annotations

import gc
import json
import resource
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from heartcast.api.push import routes
from heartcast.api.route import Answer, Call, Identity
from heartcast.core.clock import SystemClock
from heartcast.core.ids import IdSource
from heartcast.core.wheel import TimingWheel
from heartcast.push.inbox.memory import MemoryInbox
from heartcast.push.options import PushOptions
from heartcast.push.service import PushService
from heartcast.push.templates import load

PUSHES = 300_000
CHUNK = 1_000
"""Requests made at a time: a server's requests are warm in the cache, a million prepared ones are not."""


class _Turns:
    """An event loop of nothing but the pool's own turns."""

    def __init__(self) -> None:
        self.callbacks: deque[Callable[[], Any]] = deque()

    def call_soon(self, callback: Callable[[], Any]) -> None:
        self.callbacks.append(callback)

    def call_later(self, delay: float, callback: Callable[[], Any]) -> None:
        """Ticks are not needed: nothing here is ever lost."""

    def drain(self) -> int:
        turns = 0
        while self.callbacks:
            self.callbacks.popleft()()
            turns += 1
        return turns


def run() -> dict[str, float]:
    """Accept and work off 300,000 pushes.

    Returns:
        Microseconds per push of both halves, the longest slice, and bytes of memory per kept push.
    """
    gc.set_threshold(50_000, 50, 1000)
    clock, turns, random = SystemClock(), _Turns(), Random(7)
    ids = IdSource(clock)
    service = PushService(
        PushOptions(),
        clock=clock,
        ids=ids,
        loop=turns,
        wheel=TimingWheel(0.05, 1200, clock.monotonic_s()),
        templates=load(),
        inbox=MemoryInbox(ids.next, 1000),
        deliver=lambda channel, data, offset, tags: 0,
        is_watched=frozenset[str]().__contains__,
        report=print,
    )
    post: Any = routes(service)[0].handler
    body = b'{"user_id":%d,"template":"news_v2","payload":{"title":"Go 1.23 released"}}'
    server = Identity(is_server=True)
    memory_bytes = _memory_bytes()
    accept_s = 0.0
    for _ in range(0, PUSHES, CHUNK):
        bodies = [body % random.randint(1, 10_000_000) for _ in range(CHUNK)]
        calls = [Call(body=body, identity=server, respond=_ignore) for body in bodies]
        begin = time.process_time()
        for call in calls:
            post(call)
        accept_s += time.process_time() - begin
    accepted = time.process_time()
    accept_memory = _memory_bytes() - memory_bytes
    count = turns.drain()
    stored = time.process_time()
    assert service.queued == 0
    assert len(service.ledger.live) == PUSHES
    return {
        "pushes": PUSHES,
        "accept_us": accept_s / PUSHES * 1e6,
        "pipeline_us": (stored - accepted) / PUSHES * 1e6,
        "mean_slice_us": (stored - accepted) / count * 1e6,
        "queued_bytes_per_push": accept_memory / PUSHES,
        "kept_bytes_per_push": (_memory_bytes() - memory_bytes) / PUSHES,
    }


def _ignore(answer: Answer) -> None:
    """Nobody waits for it."""


def _memory_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
