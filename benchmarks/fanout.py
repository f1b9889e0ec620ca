"""One message to many subscribers: server CPU per delivery, latency, memory per connection."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from typing import Any

from benchmarks.machine import cpu_s, resident_kb
from heartcast.testing import running

SUBSCRIBERS = 2000
PAYLOAD_BYTES = 128


def _message() -> bytes:
    head = b'{"channel":"public:bench","data":{"t":"@%d","d":"' % time.time_ns()
    return head + b"x" * PAYLOAD_BYTES + b'"}}'


def _publish(port: int, messages: int, per_s: float) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    start_s = time.perf_counter()
    for index in range(messages):
        time.sleep(max(0.0, start_s + index / per_s - time.perf_counter()))
        connection.request("POST", "/api/publish", _message(), {"Content-Type": "application/json"})
        connection.getresponse().read()
    connection.close()


def _measure(subscribers: int, messages: int, per_s: float) -> dict[str, Any]:
    with running("--in-memory") as server:
        pid = server.process.pid
        idle_kb = resident_kb(pid)
        crowd = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.subscribers",
                str(server.port),
                str(subscribers),
                str(messages),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert crowd.stdout is not None
        assert crowd.stdout.readline().strip() == "ready"
        held_kb = resident_kb(pid)
        before_s = cpu_s(pid)
        _publish(server.port, messages, per_s)
        report: dict[str, Any] = json.loads(crowd.stdout.readline())
        spent_s = cpu_s(pid) - before_s
        crowd.wait()
        crowd.stdout.close()
    report["cpu_us_per_delivery"] = round(spent_s * 1e6 / max(1, report["delivered"]), 3)
    report["kb_per_connection"] = round((held_kb - idle_kb) / subscribers, 1)
    return report


def run() -> dict[str, Any]:
    return {
        "500_per_s": _measure(SUBSCRIBERS, 1500, 500),
        "50_per_s": _measure(SUBSCRIBERS, 300, 50),
        "lone_message_to_all": _measure(SUBSCRIBERS, 20, 2),
        "lone_message_to_one": _measure(1, 100, 20),
    }
