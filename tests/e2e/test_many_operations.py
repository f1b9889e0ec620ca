"""Random hearts, un-hearts and repetitions from eight clients, and kills: the recount is equal.

A million of them behind ``make soak``; CI does a small number.
"""

import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pytest

from heartcast.testing import running
from heartcast.testing.postgres_server import PostgresServer
from heartcast.testing.redis_server import RedisServer

CLIENTS = 8
IN_A_BATCH = 100
TARGETS = 50
USERS = 400
"""Of each client: few enough that every other operation finds its heart there already."""
Key = tuple[str, str]


class Client(threading.Thread):
    """Gives and takes back hearts of users of its own, so that it knows what must be there.

    A batch that is not answered is sent again until it is: adding and taking back are no toggles.
    """

    def __init__(self, number: int, operations: int, port: int) -> None:
        super().__init__(daemon=True)
        self._number = number
        self._left = operations
        self._random = Random(number)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.there: set[Key] = set()
        self.repeated = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            while self._left > 0:
                self._batch()
        except Exception as error:
            self.failure = error
        finally:
            self._connection.close()

    def _batch(self) -> None:
        items: list[tuple[str, Key]] = []
        for _ in range(min(IN_A_BATCH, self._left)):
            items.append(self._operation(items))
        self._left -= len(items)
        results = self._send_until_answered(items)
        assert [result["status"] // 100 for result in results] == [2] * len(items)
        for op, key in items:
            (self.there.add if op == "add" else self.there.discard)(key)

    def _operation(self, items: list[tuple[str, Key]]) -> tuple[str, Key]:
        dice = self._random.random()
        if items and dice < 0.2:
            return self._random.choice(items)
        user = f"c{self._number}-{self._random.randrange(USERS)}"
        return "add" if dice < 0.7 else "remove", (f"t{self._random.randrange(TARGETS)}", user)

    def _send_until_answered(self, items: list[tuple[str, Key]]) -> list[dict[str, int]]:
        asked = [{"op": op, "target_id": target, "user_id": user} for op, (target, user) in items]
        body = json.dumps({"items": asked}).encode()
        end_s = time.monotonic() + 60
        while time.monotonic() < end_s:
            try:
                headers = {"content-type": "application/json"}
                self._connection.request("POST", "/api/v1/hearts/batch", body, headers)
                answer = self._connection.getresponse()
                said = json.loads(answer.read())
                if answer.status == 200 and all(result["status"] != 503 for result in said["results"]):
                    results: list[dict[str, int]] = said["results"]
                    return results
            except (OSError, http.client.HTTPException, ValueError):
                self._connection.close()  # the next request opens it again
            self.repeated += 1
            time.sleep(0.02)
        raise TimeoutError("no answer within a minute, whatever was tried")


def _play(operations: int, kills: int, flags: list[str], environ: dict[str, str]) -> None:
    dice = random.Random()
    with ExitStack() as stack:
        server = stack.enter_context(running(*flags, environ=environ))
        clients = [Client(number, operations // CLIENTS, server.port) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        killed = 0
        while any(client.is_alive() for client in clients):
            clients[0].join(dice.uniform(0.3, 1.2) if killed < kills else 5)
            if killed < kills:
                server.kill()
                server = stack.enter_context(running(*flags, port=server.port, environ=environ))
                killed += 1
        assert [client.failure for client in clients] == [None] * CLIENTS
        assert killed == kills
        assert sum(client.repeated for client in clients) > 0
        _recount(server.port, [key for client in clients for key in client.there])


def _recount(port: int, there: list[Key]) -> None:
    wanted = Counter(target for target, _ in there)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = json.dumps({"target_ids": [f"t{number}" for number in range(TARGETS)]})
    connection.request("POST", "/api/v1/hearts/counts", body, {"content-type": "application/json"})
    counts = json.loads(connection.getresponse().read())["counts"]
    connection.close()
    assert {count["target_id"]: count["count"] for count in counts} == {
        f"t{number}": wanted[f"t{number}"] for number in range(TARGETS)
    }


def _verify(flags: list[str], environ: dict[str, str]) -> None:
    """Every heart counted one by one, now that the server has stopped."""
    command = [sys.executable, "-m", "heartcast", "hearts", "verify", "--json", *flags]
    said = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout) == {"targets": TARGETS, "drifted": [], "repaired": 0}


@contextmanager
def _place(store: str, folder: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Flags and variables of a server with this store."""
    if store == "sqlite":
        yield ["--data-dir", str(folder)], {}
    elif store == "redis":
        with RedisServer(settings={"appendonly": "yes", "appendfsync": "always"}) as redis:
            yield (
                ["--in-memory"],
                {"HEARTCAST_HEARTS__STORE": store, "HEARTCAST_HEARTS__REDIS_URL": redis.url},
            )
    else:
        with PostgresServer() as postgres:
            environ = {
                "HEARTCAST_HEARTS__STORE": store,
                "HEARTCAST_HEARTS__POSTGRES_DSN": postgres.make_database("hearts"),
            }
            subprocess.run(
                [sys.executable, "-m", "heartcast", "migrate"],
                env={**os.environ, **environ}, check=True, capture_output=True,
            )  # fmt: skip
            yield ["--in-memory"], environ


def test_after_twenty_thousand_operations_and_kills_the_recount_is_equal(tmp_path: Path) -> None:
    with _place("sqlite", tmp_path) as (flags, environ):
        _play(20_000, 2, flags, environ)
        _verify(flags, environ)


@pytest.mark.soak
@pytest.mark.parametrize("store", ["sqlite", "redis", "postgres"])
def test_after_a_million_operations_and_kills_the_recount_is_equal(tmp_path: Path, store: str) -> None:
    with _place(store, tmp_path) as (flags, environ):
        _play(1_000_000, 20, flags, environ)
        _verify(flags, environ)
