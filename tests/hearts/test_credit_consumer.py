"""The consumer of docs/how-to/credit.md pays exactly once, whoever is killed."""

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from heartcast.backends import postgres as backend
from heartcast.testing.postgres_server import PostgresServer
from heartcast.testing.server import running

CYCLES = int(os.environ.get("CREDIT_KILLS", "2"))
PAGE = Path(__file__).parents[2] / "docs/how-to/credit.md"


class Clicker:
    """Hearts and un-hearts over HTTP, and remembers what was answered."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answered: set[str] = set()
        """``effect_key`` of every add that was answered."""
        self.asked: set[str] = set()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        dice = random.Random(7)
        while not self._is_stopping:
            target, user = f"t{dice.randrange(50)}", f"u{dice.randrange(20)}"
            body = json.dumps({"target_id": target, "user_id": user}).encode()
            method = "POST" if dice.random() < 0.7 else "DELETE"
            path = (
                "/api/v1/hearts" if method == "POST" else f"/api/v1/hearts?target_id={target}&user_id={user}"
            )
            request = urllib.request.Request(
                self.url + path,
                body if method == "POST" else None,
                {"Content-Type": "application/json"},
                method=method,
            )
            key = f"heart:{target}:{user}"
            if method == "POST":
                self.asked.add(key)
            try:
                with urllib.request.urlopen(request, timeout=5):
                    pass
            except OSError:
                time.sleep(0.05)
            else:
                if method == "POST":
                    self.answered.add(key)

    def stop(self) -> None:
        self._is_stopping = True
        self._thread.join()


async def test_the_consumer_of_the_page_pays_exactly_once_whoever_is_killed(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    program = tmp_path / "pay.py"
    program.write_text(code)
    dsn = postgres.make_database("payer")
    dice = random.Random()
    port = 0
    consumer: subprocess.Popen[bytes] | None = None
    clicker: Clicker | None = None
    try:
        for cycle in range(CYCLES + 1):
            with running("--data-dir", str(tmp_path / "data"), port=port) as server:
                port = server.port
                if clicker is None:
                    clicker = Clicker(server.url)
                clicker.url = server.url
                environ = {**os.environ, "FEED": f"{server.url}/api/v1/events", "DSN": dsn}
                if consumer is not None:
                    time.sleep(dice.uniform(0.1, 0.5))
                    consumer.kill()
                    consumer.wait()
                consumer = subprocess.Popen([sys.executable, program], env=environ, stdout=subprocess.DEVNULL)
                time.sleep(dice.uniform(0.3, 0.8))
                if cycle < CYCLES:
                    server.kill()
                else:
                    clicker.stop()
                    last = _last_event(server.url)
                    paid = await _paid_up_to(dsn, last)
    finally:
        if consumer is not None:
            consumer.kill()
            consumer.wait()
        if clicker is not None:
            clicker.stop()
    assert clicker.answered <= paid <= clicker.asked
    assert len(paid) > 20 * CYCLES


def _last_event(url: str) -> str:
    with urllib.request.urlopen(f"{url}/api/v1/events?after=latest", timeout=5) as answer:
        cursor: str = json.load(answer)["cursor"]
        return cursor


async def _paid_up_to(dsn: str, cursor: str) -> set[str]:
    """What was paid once the consumer is at this cursor; accounts must add up to it."""
    connection = await backend.connect(dsn, timeout_s=5)
    deadline_s = time.monotonic() + 20
    while await connection.fetchval("SELECT cursor FROM place") != cursor:
        assert time.monotonic() < deadline_s, "the consumer does not come to the end"
        time.sleep(0.05)
    paid = {key for (key,) in await connection.fetch("SELECT effect_key FROM paid")}
    accounts = dict(await connection.fetch("SELECT user_id, points FROM account"))
    await connection.close()
    assert accounts == {
        user: sum(key.endswith(f":{user}") for key in paid) for user in {key.split(":")[2] for key in paid}
    }
    return paid
