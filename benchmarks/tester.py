"""The load tester's own cost, in process: what one core of it can follow.

    python -m benchmarks.tester

``frames_per_s``: deliveries of a broadcast parsed, judged and timed, ten to a read as
they come coalesced; ``single_frames_per_s``: one to a read; ``pushes_per_s``: frames that
nobody else gets; ``requests_per_s``: pushes made, sent, and their answers read, against
a server that only answers; ``session_bytes``: memory per WebSocket client.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import resource
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import uvloop

from heartcast.core.clock import SystemClock
from heartcast.loadtest.audience import Audience
from heartcast.loadtest.crowd import Crowd
from heartcast.loadtest.http import Pool, request
from heartcast.loadtest.marks import Marker
from heartcast.loadtest.meter import Meter
from heartcast.loadtest.sessions import Subscriber
from heartcast.loadtest.sessions.centrifugo import CentrifugoSubscriber
from heartcast.loadtest.sessions.kinds import KINDS
from heartcast.loadtest.verdict import Ledger, Track
from heartcast.wire.frames import frame

SESSIONS, MESSAGES, COALESCED = 200, 2_000, 10
IDLE_SESSIONS = 6_000
REQUESTS = 100_000
_ANSWER = (
    b"HTTP/1.1 202 Accepted\r\ndate: Sat, 21 Nov 2026 02:21:47 GMT\r\ncontent-type: application/json\r\n"
    b"content-length: 140\r\n\r\n" + b"x" * 140
)
_clock = SystemClock()


def _now_us() -> int:
    return _clock.monotonic_ns() // 1000


def _audience(port: int, kind: type[Subscriber] = CentrifugoSubscriber) -> Audience:
    ledger = Ledger(late_us=1 << 40)
    ledger.open_stream("public:a")
    crowd = Crowd("127.0.0.1", port, now_us=_now_us)
    return Audience(
        crowd, ledger, Marker("b"), kind=kind, delivery=Meter(), random=Random(1), start_us=_now_us()
    )


def _cpu_s(work: Callable[[], None]) -> float:
    began_s = time.process_time()
    work()
    return time.process_time() - began_s


async def frames() -> dict[str, float]:
    """Frames per second of processor time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        audience = _audience(server.getsockname()[1])
        marker, begin_us = audience.marker, _now_us()
        sent = [
            frame(
                b'{"push":{"channel":"public:a","pub":{"data":"%s"}}}'
                % marker.make(0, number, begin_us, marker.padding_for(120)).encode()
            )
            for number in range(1, MESSAGES + 1)
        ]
        reads = [b"".join(sent[at : at + COALESCED]) for at in range(0, MESSAGES, COALESCED)]
        crowd = [CentrifugoSubscriber(audience, serial, "public:a", stream=0) for serial in range(SESSIONS)]

        def follow(data: list[bytes], clients: Sequence[Subscriber]) -> Callable[[], None]:
            for client in clients:
                client.track, client.sock, client.state = Track(), server, 3

            def work() -> None:
                for piece in data:
                    for client in clients:
                        client.take_bytes(piece)

            return work

        coalesced_s = _cpu_s(follow(reads, crowd))
        single_s = _cpu_s(follow(sent, crowd))
        audience.cached = False
        alone_s = _cpu_s(follow(sent, crowd[:1]))
        assert audience.ledger.delivered == MESSAGES * (2 * SESSIONS + 1)
        for client in crowd:
            client.sock = None
        audience.crowd.close()
    return {
        "frames_per_s": round(SESSIONS * MESSAGES / coalesced_s),
        "single_frames_per_s": round(SESSIONS * MESSAGES / single_s),
        "pushes_per_s": round(MESSAGES / alone_s),
    }


async def requests() -> dict[str, float]:
    """Requests per second of the tester's processor time."""
    listening = multiprocessing.Event()
    port = multiprocessing.Value("i", 0)
    server = multiprocessing.Process(target=_serve, args=(listening, port), daemon=True)
    server.start()
    await asyncio.to_thread(listening.wait)
    done = asyncio.Event()
    latencies, marker = Meter(), Marker("b")
    answered = 0

    def on_answer(tag: int, status: int, body: bytes, latency_us: int) -> None:
        nonlocal answered
        answered += 1
        latencies.add(max(0, latency_us))
        if answered == REQUESTS:
            done.set()

    pool = Pool(_clock, "127.0.0.1", port.value, None, on_answer)
    await pool.open(8)
    began_s = time.process_time()
    for number in range(0, REQUESTS, 20):
        for each in range(number, number + 20):
            body = b'{"user_id":"u1","template":"news_v2","payload":{"title":"%s"}}'
            mark = marker.make(1, each, _now_us())
            asked = request("POST", "/push", "127.0.0.1:8080", body % mark.encode())
            pool.connections[each % 8].ask(each, asked, _now_us())
        pool.flush()
        await asyncio.sleep(0)
    await done.wait()
    took_s = time.process_time() - began_s
    await pool.close()
    server.terminate()
    server.join()
    return {"requests_per_s": round(REQUESTS / took_s)}


def _serve(listening: object, port: object) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0)
        port.value = server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        listening.set()  # type: ignore[attr-defined]
        await server.serve_forever()

    uvloop.run(main())


class _Answering(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        # A request split over two reads is counted where its head begins.
        self._transport.write(_ANSWER * data.count(b"POST /push"))  # type: ignore[attr-defined]


async def memory() -> dict[str, float]:
    """Resident bytes of the tester per client with its socket, by what it speaks."""
    found: dict[str, float] = {}
    for name, kind in KINDS.items():
        with socket.create_server(("127.0.0.1", 0)) as server:
            audience = _audience(server.getsockname()[1], kind)
            gc.collect()
            before = _resident_bytes()
            crowd = []
            for serial in range(IDLE_SESSIONS):
                client = kind(audience, serial, f"public:{serial % 10}", stream=0)
                client.sock = socket.socket()
                audience.crowd.adopt(client)
                crowd.append(client)
            gc.collect()
            after = _resident_bytes()
            for client in crowd:
                client.cut()
            audience.crowd.close()
        found["session_bytes" if name == "json" else f"{name}_session_bytes"] = (
            after - before
        ) // IDLE_SESSIONS
    return found


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def run() -> dict[str, float]:
    """All of them."""
    return {**uvloop.run(memory()), **uvloop.run(frames()), **uvloop.run(requests())}


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
