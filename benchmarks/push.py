"""Pushes, in process: what accepting one costs, and what the way into the inbox costs.

    python -m benchmarks.push

``accept_us``: a request body to an answer's bytes (decode, check, id, shard, enqueue,
encode). ``pipeline_us``: from the shard through gates into the inbox of a user who is
away. Users are random out of ten million, as the referee's are.

``connected``: the same for 9,000 users with names who are there. ``deliver_us`` goes up to the
hub, which is not part of it; then each push is acknowledged by its id, or, of ten that a
user got together, all by the place of the last.
"""

from __future__ import annotations

import gc
import json
import resource
import time
from collections import deque
from collections.abc import Callable, Container
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
DELIVERED = 200_000
CONNECTED = 9_000
BATCH = 100
CHUNK = 1_000
"""Requests made at a time: a server's requests are warm in the cache, a million prepared ones are not."""


class Turns:
    """An event loop of nothing but the pool's own turns."""

    def __init__(self) -> None:
        self.callbacks: deque[Callable[[], Any]] = deque()

    def call_soon(self, callback: Callable[[], Any]) -> None:
        self.callbacks.append(callback)

    def call_later(self, delay: float, callback: Callable[[], Any]) -> None:
        """Ticks are not needed: nothing here is ever lost."""

    def one(self) -> None:
        """The next turn, if there is one."""
        if self.callbacks:
            self.callbacks.popleft()()

    def drain(self) -> int:
        turns = 0
        while self.callbacks:
            self.one()
            turns += 1
        return turns


def run() -> dict[str, Any]:
    """Accept and work off 300,000 pushes to people who are away, then 200,000 to others.

    Returns:
        Microseconds per push of each part, and bytes of memory per kept push.
    """
    gc.set_threshold(50_000, 50, 1000)
    return {**_away(), "connected": {f"{burst}_a_user": _connected(burst) for burst in (1, 10)}}


def made(turns: Turns, watched: Container[str]) -> PushService:
    """A service whose users on these channels are connected."""
    clock = SystemClock()
    ids = IdSource(clock)
    return PushService(
        PushOptions(),
        clock=clock,
        ids=ids,
        loop=turns,
        wheel=TimingWheel(0.05, 1200, clock.monotonic_s()),
        templates=load(),
        inbox=MemoryInbox(ids.next, 1000),
        deliver=lambda channel, data, offset, tags: 1,
        is_watched=watched.__contains__,
        report=print,
    )


def _away() -> dict[str, float]:
    turns, random = Turns(), Random(7)
    service = made(turns, frozenset())
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


def _connected(burst: int) -> dict[str, float]:
    """Batches of 100, with so many pushes to each user; each part by itself."""
    turns, random = Turns(), Random(7)
    users = [f"user-{number}" for number in range(CONNECTED)]
    service = made(turns, frozenset(f"inbox:#{user}" for user in users))
    post: Any = next(r.handler for r in routes(service) if r.path == "/api/v1/pushes/batch")
    server = Identity(is_server=True)
    accept_s = deliver_s = ack_s = 0.0
    for _ in range(0, DELIVERED, CHUNK):
        chosen = [user.encode() for user in random.sample(users, CHUNK // burst) for _ in range(burst)]
        item = b'{"user_id":"%s","template":"news_v2","payload":{"title":"Go 1.23 released"}}'
        bodies = [
            b'{"items":[%s]}' % b",".join([item % user for user in chosen[at : at + BATCH]])
            for at in range(0, CHUNK, BATCH)
        ]
        calls = [Call(body=body, identity=server, respond=_ignore) for body in bodies]
        begin = time.process_time()
        for call in calls:
            post(call)
        accepted = time.process_time()
        turns.drain()
        delivered = time.process_time()
        said = _acknowledgements(service, burst)
        ready = time.process_time()
        for user, data in said:
            service.on_send(user, data)
        ack_s += time.process_time() - ready
        accept_s += accepted - begin
        deliver_s += delivered - accepted
    assert not service.ledger.live
    return {
        "accept_us": round(accept_s / DELIVERED * 1e6, 2),
        "deliver_us": round(deliver_s / DELIVERED * 1e6, 2),
        "ack_us": round(ack_s / DELIVERED * 1e6, 2),
    }


def _acknowledgements(service: PushService, burst: int) -> list[tuple[str, bytes]]:
    """What clients say about all that went out: each id, or the place of the last."""
    sent = list(service.ledger.live.values())
    if burst == 1:
        return [(push.user, b'{"ack":["%s"]}' % push.id.encode()) for push in sent]
    last = {push.user: push for push in sent}
    box: Any = service.inbox
    place = b'{"ack_through":{"offset":%d,"epoch":"%s"}}'
    return [(user, place % (push.offset, box.box(user).epoch.encode())) for user, push in last.items()]


def _ignore(answer: Answer) -> None:
    """Nobody waits for it."""


def _memory_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
