"""Real servers that share limits on a real Valkey, and what becomes of requests when it fails under load."""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from heartcast.app.settings import load
from heartcast.core.errors import SettingsError
from heartcast.testing import running
from heartcast.testing.redis_server import RedisServer
from heartcast.testing.server import RunningServer

PLENTY = "1000000/s burst 1000000"


def _environ(redis_url: str, **limits: str) -> dict[str, str]:
    # A second and not the usual 50 ms: a busy machine must not look like a Redis that is gone.
    chosen = {"is_on": "true", "backend": "redis", "redis_url": redis_url, "hearts_per_prefix": PLENTY}
    chosen |= {"timeout_s": "1"}
    environ = {f"HEARTCAST_LIMITS__{name.upper()}": value for name, value in (chosen | limits).items()}
    return environ | {"HEARTCAST_RESILIENCE__METRIC_NAMES": "resilience4j"}


class Client:
    """One connection; hearts one after the other, with their status and headers."""

    def __init__(self, server: RunningServer) -> None:
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
        self._sent = 0
        self.last: dict[str, str] = {}

    def heart(self) -> int:
        """Its status."""
        self._sent += 1
        body = json.dumps({"target_id": f"post_{self._sent}", "user_id": "u1"})
        self._connection.request("POST", "/api/v1/hearts", body, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        answer.read()
        self.last = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status

    def metric(self, line_start: str) -> float:
        self._connection.request("GET", "/metrics")
        text = self._connection.getresponse().read().decode()
        return sum(
            float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(line_start)
        )

    def readiness(self) -> dict[str, object]:
        self._connection.request("GET", "/readyz")
        answer: dict[str, object] = json.loads(self._connection.getresponse().read())
        return answer

    def close(self) -> None:
        self._connection.close()


@contextmanager
def client_of(*, cold: bool = False, redis_url: str, **limits: str) -> Iterator[Client]:
    environ = _environ(redis_url, **limits)
    if cold:
        environ["HEARTCAST_HTTP__HOT_PATH"] = "false"
    with running("--in-memory", environ=environ) as server:
        client = Client(server)
        try:
            yield client
        finally:
            client.close()


@pytest.mark.timeout(120)
def test_two_servers_and_both_paths_admit_exactly_the_limit_together() -> None:
    with (
        RedisServer() as redis,
        client_of(redis_url=redis.url, hearts_per_client="1/h burst 40") as hot,
        client_of(redis_url=redis.url, hearts_per_client="1/h burst 40", cold=True) as cold,
    ):
        statuses = Counter(client.heart() for _ in range(50) for client in (hot, cold))

        assert statuses == {201: 40, 429: 60}
        for client in (hot, cold):
            assert client.heart() == 429
            assert 3500 < int(client.last["retry-after"]) <= 3600
            assert client.last["ratelimit-policy"] == '"client";q=1'
            assert client.last["ratelimit"] == f'"client";r=0;t={client.last["retry-after"]}'


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("fault", "on_error", "cold"),
    [
        ("kill", "allow", False),
        ("kill", "deny", False),
        ("kill", "local", True),
        ("pause", "local", False),
    ],
)
def test_a_server_that_fails_under_load_becomes_the_policy_and_never_a_500(
    fault: str, on_error: str, cold: bool
) -> None:
    limits = {"hearts_per_client": PLENTY if on_error != "local" else "1/h burst 2000"}
    with (
        RedisServer() as redis,
        client_of(redis_url=redis.url, cold=cold, on_error=on_error, instances="20", **limits) as client,
    ):
        assert [client.heart() for _ in range(200)] == [201] * 200
        if fault == "kill":
            redis.kill()
        else:
            redis.pause()
        # Leases last a quarter of a second: until then nobody needs Redis.
        seen: list[int] = []
        until_s = time.monotonic() + 10
        while client.readiness() == {"status": "ready"} and time.monotonic() < until_s:
            seen.append(client.heart())
        assert client.readiness() == {"status": "ready", "degraded": ["limits are not shared"]}
        closed = 'resilience4j_circuitbreaker_state{name="limits",state="closed"}'
        assert client.metric(closed) == 0.0
        alone = [client.heart() for _ in range(400)]
        if fault == "pause":
            redis.resume()

    statuses = Counter(seen + alone)
    expected = {"allow": {201}, "deny": {201, 503}, "local": {201, 429}}[on_error]
    assert set(statuses) <= expected
    of_alone = Counter(alone)
    if on_error == "local":
        # A twentieth of 2000, of which those that found the breaker still closed used some.
        assert 90 <= of_alone[201] + sum(status == 201 for status in seen[-10:]) <= 110
    else:
        assert of_alone == {"allow": {201: 400}, "deny": {503: 400}}[on_error]


@pytest.mark.timeout(120)
def test_a_server_that_loses_its_scripts_or_starts_again_under_load_is_used_again() -> None:
    with (
        RedisServer() as redis,
        client_of(redis_url=redis.url, hearts_per_client=PLENTY, on_error="deny") as client,
    ):
        statuses = Counter()
        for number in range(400):
            if number % 100 == 50:
                redis.command("SCRIPT", "FLUSH")
            statuses[client.heart()] += 1
        assert statuses == {201: 400}
        assert client.metric('heartcast_limiter_decisions_total{decision="degraded"') == 0

        redis.restart()
        until_s = time.monotonic() + 20
        while client.heart() != 201 and time.monotonic() < until_s:
            assert client.last["retry-after"] == "1"
        assert [client.heart() for _ in range(50)] == [201] * 50
        assert client.readiness() == {"status": "ready"}


def test_limits_that_cannot_be_shared_are_refused_at_start_by_name() -> None:
    with (
        pytest.raises(RuntimeError, match=r"limits\.redis_url"),
        running("--in-memory", environ=_environ("")),
    ):
        pass
    with (
        pytest.raises(RuntimeError, match="too large to be counted exactly"),
        running("--in-memory", environ=_environ("redis://127.0.0.1:1/0", hearts_per_client="1000003/day")),
    ):
        pass
    with pytest.raises(SettingsError, match=r"limits\.timeout_s: must be between"):
        load(environ={"HEARTCAST_LIMITS__TIMEOUT_S": "7"})
