"""One push at a time on an idle server: from the ``POST`` to the bytes on the client's socket."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any

from benchmarks.subscribers import masked
from heartcast.testing import RunningServer, running

PUSHES = 300


def _token(server: RunningServer, user: str) -> str:
    connection = http.client.HTTPConnection(server.host, server.port)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/api/v1/dev/token", json.dumps({"user_id": user}), headers)
    token: str = json.loads(connection.getresponse().read())["token"]
    connection.close()
    return token


def _subscribed(server: RunningServer, user: str) -> socket.socket:
    client = socket.create_connection((server.host, server.port))
    client.sendall(
        f"GET /connection/websocket HTTP/1.1\r\nHost: {server.host}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    connect = {"id": 1, "connect": {"token": _token(server, user)}}
    subscribe = {"id": 2, "subscribe": {"channel": f"inbox:#{user}"}}
    client.sendall(masked(f"{json.dumps(connect)}\n{json.dumps(subscribe)}".encode()))
    seen = b""
    while b'"id":2' not in seen:
        seen += client.recv(65536)
    return client


def run() -> dict[str, Any]:
    latencies_ms: list[float] = []
    body = json.dumps({"user_id": "reader", "template": "news_v2", "payload": {"title": "One"}})
    with running("--in-memory") as server:
        client = _subscribed(server, "reader")
        sender = http.client.HTTPConnection(server.host, server.port)
        for _ in range(PUSHES):
            time.sleep(0.01)
            start_s = time.perf_counter()
            sender.request("POST", "/push", body, {"Content-Type": "application/json"})
            seen = client.recv(65536)
            while b'"pub"' not in seen:  # a ping came first
                seen = client.recv(65536)
            latencies_ms.append((time.perf_counter() - start_s) * 1e3)
            push_id = json.loads(sender.getresponse().read())["id"]
            assert push_id.encode() in seen
            client.sendall(masked(json.dumps({"send": {"data": {"ack": [push_id]}}}).encode()))
        client.close()
        sender.close()
    latencies_ms.sort()
    return {
        "pushes": PUSHES,
        "p50_ms": round(latencies_ms[PUSHES // 2], 3),
        "p99_ms": round(latencies_ms[PUSHES * 99 // 100], 3),
    }
