"""What follows hearts, in a running server."""

import asyncio
import http.client
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heartcast.backends.webhook import key_of, new_secret, verify
from heartcast.core.clock import SystemClock
from heartcast.hearts.following import FILE_NAME, EffectsFile
from heartcast.hearts.ledger import Bookings, Place
from heartcast.hearts.ledger.sqlite import SqliteLedger
from heartcast.testing.providers import Receiver
from heartcast.testing.redis_server import RedisServer
from heartcast.testing.server import RunningServer, running

CREDIT = {
    "HEARTCAST_HEARTS__CREDIT__IS_ON": "true",
    "HEARTCAST_HEARTS__CREDIT__DAILY_CAP": "2",
    "HEARTCAST_HEARTS__AUDIT__IS_ON": "true",
}


def _ask(server: RunningServer, path: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def _status(server: RunningServer, path: str) -> int:
    try:
        _ask(server, path)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def _until(server: RunningServer, path: str, field: str, value: object) -> Any:
    deadline_s = time.monotonic() + 10
    while (found := _ask(server, path))[field] != value and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return found


def test_hearts_earn_credit_that_survives_a_kill(tmp_path: Path) -> None:
    with running("--data-dir", str(tmp_path), environ=CREDIT) as server:
        for target in ("a", "b", "c"):
            _ask(server, "/api/v1/hearts", {"target_id": target, "user_id": "u 1"})
        found = _until(server, "/api/v1/users/u%201/credit", "balance", 2)
        assert found == {"user_id": "u 1", "balance": 2, "awarded_today": 2}
        server.kill()
    with running("--data-dir", str(tmp_path), environ=CREDIT) as server:
        _ask(server, "/api/v1/hearts", {"target_id": "a", "user_id": "u2"})
        _until(server, "/api/v1/users/u2/credit", "balance", 1)
        page = _ask(server, "/api/v1/users/u%201/credit/entries?limit=2")
        rest = _ask(server, f"/api/v1/users/u%201/credit/entries?before={page['next_before']}")

        reasons = [(one["target_id"], one["reason"], one["points"]) for one in page["items"] + rest["items"]]
        assert reasons == [("c", "cap", 0), ("b", "award", 1), ("a", "award", 1)]
        assert rest["next_before"] is None
        assert _status(server, "/api/v1/users/u2/credit/entries?limit=0") == 422
        verdict = _until(server, "/api/v1/audit/verdict", "records", 4)
        assert verdict["wrong"] is None
        log = _ask(server, "/api/v1/audit?user_id=u%201&limit=2")["items"]
        assert [(one["number"], one["user_id"]) for one in log] == [(1, "u 1"), (2, "u 1")]
        assert _status(server, "/api/v1/audit?limit=0") == 422
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=5) as answer:
            assert 'heartcast_events_lag{follower="credit"} 0.0' in answer.read().decode()


def test_a_stopping_server_lets_nobody_wait_for_events() -> None:
    with running("--in-memory") as server:
        assert _status(server, "/api/v1/users/u1/credit") == 404
        waiting = http.client.HTTPConnection(server.host, server.port, timeout=20)
        waiting.request("GET", "/api/v1/events")
        waiting.getresponse().read()
        waiting.request("GET", "/api/v1/events?wait=30")
        # Answered after what came before it was read.
        for _ in range(3):
            _ask(server, "/livez")
        started_s = time.monotonic()
        assert server.stop() == 0
        answer = waiting.getresponse()

        assert (answer.status, json.load(answer)["items"]) == (200, [])
        assert time.monotonic() - started_s < 10


async def test_a_webhook_gets_every_answered_heart_whoever_is_killed(tmp_path: Path) -> None:
    secret = new_secret()
    async with Receiver() as receiver:
        hook = f'{{ crm = {{ url = "{receiver.url}", secrets = ["{secret}"] }} }}'
        environ = {
            "HEARTCAST_HEARTS__WEBHOOKS__ENDPOINTS": hook,
            "HEARTCAST_HEARTS__WEBHOOKS__ALLOW_PRIVATE": "true",
            "HEARTCAST_HEARTS__WEBHOOKS__MAX_EVENTS": "3",
        }
        answered = 0
        for turn in range(3):
            with running("--data-dir", str(tmp_path), environ=environ) as server:

                def heart(number: int, server: RunningServer = server) -> None:
                    _ask(server, "/api/v1/hearts", {"target_id": "post", "user_id": f"u{number}"})

                if turn == 0:
                    await _eventually(lambda server=server: _hook(server)["cursor"] != "")  # type: ignore[misc]
                for _ in range(20):
                    await asyncio.to_thread(heart, answered)
                    answered += 1
                if turn < 2:
                    server.kill()
                    continue
                # Its lag alone would not do: it counts from the newest event that anybody has looked at.
                last = f'"u{answered - 1}"'.encode()
                await _eventually(
                    lambda last=last, server=server: (  # type: ignore[misc]
                        any(last in request.body for request in receiver.accepted)
                        and _hook(server)["lag"] == 0
                    )
                )
                shown = await asyncio.to_thread(_hook, server)
                assert (shown["name"], shown["host"], shown["is_disabled"]) == ("crm", "127.0.0.1", False)
                before = len(receiver.accepted)
                await asyncio.to_thread(_ask, server, "/api/v1/event-webhooks/crm/replay", {})
                await _eventually(lambda least=before + 20: len(receiver.accepted) >= least)  # type: ignore[misc]
                assert await asyncio.to_thread(_status, server, "/api/v1/event-webhooks/x/enable") == 405
    seen: dict[str, str] = {}
    for request in receiver.accepted[:before]:
        verify(request.headers, request.body, [key_of(secret)], SystemClock.wall_ms())
        for item in json.loads(request.body)["data"]["items"]:
            seen.setdefault(item["id"], item["user_id"])
    # At least once, and the first times in order.
    assert list(seen.values()) == [f"u{number}" for number in range(answered)]


def _hook(server: RunningServer) -> Any:
    [hook] = _ask(server, "/api/v1/event-webhooks")["items"]
    return hook


async def _eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.02)


def test_a_webhook_that_leads_inside_is_refused_at_start(tmp_path: Path) -> None:
    for url, secret in (("https://10.0.0.1/x", new_secret()), ("https://example.com/x", "whsec_short")):
        hook = f'{{ crm = {{ url = "{url}", secrets = ["{secret}"] }} }}'
        with (
            pytest.raises(RuntimeError, match=r"hearts\.webhooks\.endpoints\.crm") as refused,
            running("--in-memory", environ={"HEARTCAST_HEARTS__WEBHOOKS__ENDPOINTS": hook}),
        ):
            pass
        assert secret not in str(refused.value)


def test_nodes_share_one_ledger_and_one_of_them_keeps_the_log(tmp_path: Path) -> None:
    credit = {"HEARTCAST_HEARTS__CREDIT__IS_ON": "true"}
    audit = {"HEARTCAST_HEARTS__AUDIT__IS_ON": "true"}
    keeper = {**credit, **audit, "HEARTCAST_CLUSTER__LOCAL": '["audit"]'}
    with RedisServer(settings={"appendonly": "yes"}) as redis:
        flags = ("--redis", redis.url, "--data-dir")
        with (
            running(*flags, str(tmp_path / "a"), environ=credit) as first,
            running(*flags, str(tmp_path / "b"), environ=keeper) as second,
        ):
            for target in ("a", "b", "c"):
                _ask(first, "/api/v1/hearts", {"target_id": target, "user_id": "u1"})
            _ask(second, "/api/v1/hearts", {"target_id": "d", "user_id": "u1"})
            for node in (first, second):
                found = _until(node, "/api/v1/users/u1/credit", "balance", 4)
                assert (found["balance"], found["awarded_today"]) == (4, 4)
            assert _until(second, "/api/v1/audit/verdict", "records", 4)["wrong"] is None
            assert _status(first, "/api/v1/audit/verdict") == 404
            first.kill()
            _ask(second, "/api/v1/hearts", {"target_id": "e", "user_id": "u1"})
            assert _until(second, "/api/v1/users/u1/credit", "balance", 5)["balance"] == 5


def test_a_node_with_a_ledger_of_its_own_does_not_hide_it_behind_a_shared_one(tmp_path: Path) -> None:
    async def keep() -> None:
        file = EffectsFile(tmp_path / FILE_NAME)
        assert await SqliteLedger(file).write(None, Place("epoch", 1), Bookings())
        await file.close()

    asyncio.run(keep())
    credit = {"HEARTCAST_HEARTS__CREDIT__IS_ON": "true"}
    with RedisServer(settings={"appendonly": "yes"}) as redis:
        refused = subprocess.run(
            [sys.executable, "-m", "heartcast", "serve", "--port", "0", "--redis", redis.url,
             "--data-dir", tmp_path],
            env={**os.environ, **credit}, capture_output=True, text=True,
        )  # fmt: skip
    assert refused.returncode == 1
    assert "move the file away to begin one" in refused.stderr


def test_a_log_that_every_node_would_keep_is_refused_by_name(tmp_path: Path) -> None:
    audit = {"HEARTCAST_HEARTS__AUDIT__IS_ON": "true"}
    with RedisServer(settings={"appendonly": "yes"}) as redis:
        refused = subprocess.run(
            [sys.executable, "-m", "heartcast", "serve", "--port", "0", "--redis", redis.url,
             "--data-dir", tmp_path],
            env={**os.environ, **audit}, capture_output=True, text=True,
        )  # fmt: skip
    assert refused.returncode == 1
    assert "hearts.audit: its state is a file of one node" in refused.stderr
    assert refused.stderr.count("\n") == 1
