"""Several servers in processes of their own, on one Valkey: a cluster to be broken.

with Nodes(3) as nodes:
    nodes.wait_shared()
    nodes.kill(0)
"""

from __future__ import annotations

import http.client
import json
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from heartcast.api.auth import Authenticator
from heartcast.app.settings import load
from heartcast.core.clock import SystemClock
from heartcast.testing.redis_server import RedisServer
from heartcast.testing.server import RunningServer, running

SECRET = "a secret that all nodes of a test share"  # noqa: S105 - of tests


class Nodes:
    """Nodes that share pushes; hearts and channels are each node's own.

    Args:
        count: How many start.
        redis_url: None: a Valkey of its own, with an append-only file.
        environ: Settings beside ours.
    """

    def __init__(
        self, count: int, redis_url: str | None = None, environ: dict[str, str] | None = None
    ) -> None:
        self._count = count
        self._redis_url = redis_url
        self._environ = environ or {}
        self._stack = ExitStack()
        self.redis: RedisServer | None = None
        self.running: list[RunningServer] = []
        self._issue = Authenticator(
            load(flags={"auth.jwt_secret": SECRET}).auth, SystemClock(), is_open=True
        ).issue

    def __enter__(self) -> Nodes:
        try:
            if self._redis_url is None:
                self.redis = self._stack.enter_context(RedisServer(settings={"appendonly": "yes"}))
                self._redis_url = self.redis.url
            for _ in range(self._count):
                self.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self) -> RunningServer:
        """One more."""
        self.running.append(self._start(0))
        return self.running[-1]

    def restart(self, node: int) -> None:
        """Start one that was killed again, on its port."""
        self.running[node] = self._start(self.running[node].port)

    def _start(self, port: int) -> RunningServer:
        return self._stack.enter_context(
            running(
                "--in-memory",
                port=port,
                environ={
                    "HEARTCAST_CLUSTER__REDIS_URL": str(self._redis_url),
                    "HEARTCAST_CLUSTER__LOCAL": '["hearts", "realtime"]',
                    "HEARTCAST_AUTH__JWT_SECRET": SECRET,
                    "HEARTCAST_REALTIME__PING_INTERVAL_S": "2",
                    "HEARTCAST_REALTIME__PONG_TIMEOUT_S": "1",
                    **self._environ,
                },
            )
        )

    def token(self, user: str) -> str:
        """A token that every node takes."""
        return self._issue(user, ttl_s=3600.0)

    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each node, dead ones too."""
        return [(node.host, node.port) for node in self.running]

    def websockets(self) -> list[str]:
        """Addresses of the nodes that are thought to run."""
        return [node.websocket_url for node in self.running if node.process.poll() is None]

    def ask(
        self,
        node: int,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = 10.0,
    ) -> tuple[int, Any]:
        """One request to one node: status and decoded answer.

        Raises:
            OSError: it does not answer in time.
        """
        server = self.running[node]
        connection = http.client.HTTPConnection(server.host, server.port, timeout=timeout_s)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def shards(self, node: int) -> set[int]:
        """The shards that a node works on."""
        _, health = self.ask(node, "GET", "/health")
        return {shard["id"] for shard in health["shards"]}

    def wait_shared(self, timeout_s: float = 20.0) -> list[set[int]]:
        """Wait until every shard is at one of the living nodes, and each node has its share.

        Raises:
            TimeoutError: it takes longer.
        """
        deadline_s = SystemClock.monotonic_s() + timeout_s
        living = [at for at, node in enumerate(self.running) if node.process.poll() is None]
        while True:
            owned = [self.shards(at) for at in living]
            sizes = [len(shards) for shards in owned]
            is_shared = sum(sizes) == 64 and len(set().union(*owned)) == 64 and max(sizes) - min(sizes) <= 1
            # The list is gathered from all shards: every node knows by now where each is.
            if is_shared and all(self.ask(at, "GET", "/api/v1/dead-letters")[0] == 200 for at in living):
                return owned
            if SystemClock.monotonic_s() > deadline_s:
                raise TimeoutError(f"shards are not shared out: {sizes}")
            time.sleep(0.05)
