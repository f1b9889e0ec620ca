"""One channel with many subscribers, the same load on every server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any, NamedTuple

from benchmarks.peers.peer import Peer, cpu_s, resident_kb, started

PAYLOAD_BYTES = 128


class Load(NamedTuple):
    subscribers: int
    messages: int
    per_s: int


LIVELY = Load(1000, 1000, 200)
QUIET = Load(1000, 100, 20)


def measure_fanout(peer: Peer, load: Load) -> dict[str, Any]:
    """Deliveries, latencies from the due moment, processor time and memory.

    Raises:
        RuntimeError: a publication was refused, or the server did not start.
    """
    with started(peer) as (pid, ports):
        idle_kb = resident_kb(pid)
        crowd = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.subscribers", str(ports.main)),
                *(str(load.subscribers), str(load.messages), peer.hello.hex(), peer.ready.hex()),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert crowd.stdout is not None
        if crowd.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{peer.name}: not everyone could subscribe")
        held_kb = resident_kb(pid)
        before_s, start_s = cpu_s(pid), time.perf_counter()
        publisher = _Publisher(peer, ports.side if peer.on_side_port else ports.main)
        publisher.publish(load)
        report: dict[str, Any] = json.loads(crowd.stdout.readline())
        took_s = time.perf_counter() - start_s
        spent_s = cpu_s(pid) - before_s
        publisher.close(load.messages)
        crowd.wait()
        crowd.stdout.close()
    report["took_s"] = round(took_s, 1)
    report["cpu_us_per_delivery"] = round(spent_s * 1e6 / max(1, report["delivered"]), 3)
    report["kb_per_connection"] = round((held_kb - idle_kb) / load.subscribers, 1)
    return report


class _Publisher:
    """Sends when a message is due, over one connection, answered or not.

    A server that is behind is charged for it: messages carry the moment they were due.
    """

    def __init__(self, peer: Peer, port: int) -> None:
        self._peer = peer
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = bytearray()
        if peer.greeting:
            self._socket.sendall(peer.greeting)

    def publish(self, load: Load) -> None:
        start_ns = time.time_ns()
        for index in range(load.messages):
            due_ns = start_ns + index * 1_000_000_000 // load.per_s
            time.sleep(max(0, due_ns - time.time_ns()) / 1e9)
            self._drain()
            self._socket.settimeout(60)
            self._socket.sendall(self._peer.publication(_message(due_ns)))

    def _drain(self) -> None:
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            self._answers += self._socket.recv(65536)

    def close(self, expected: int) -> None:
        """Check that every publication was taken, where the server says so."""
        self._socket.settimeout(20)
        while not self._peer.greeting and self._answers.count(b"HTTP/1.1 2") < expected:
            more = self._socket.recv(65536)
            if not more:
                raise RuntimeError(f"{self._peer.name}: refused or closed: {bytes(self._answers[-300:])!r}")
            self._answers += more
        self._socket.close()


def _message(due_ns: int) -> bytes:
    head = b'{"t":"@%d","d":"' % due_ns
    return head + b"x" * (PAYLOAD_BYTES - len(head) - 2) + b'"}'
