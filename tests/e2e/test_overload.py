"""Real servers with more to do than they can, on both HTTP paths: who is refused, how, and who never.

What is too much must not depend on how fast this machine is today: here a loop that is a millisecond
late is full, and thirty clients that wait for nothing but their answers see to it that it is. How much
a server does meanwhile is a benchmark's business: ``python -m benchmarks overload``.
"""

import asyncio
import json
from collections import Counter

import pytest

from heartcast.testing import running
from heartcast.testing.server import RunningServer

CLIENTS, BATCHES, HEARTS = 30, 20, 50
SETTINGS = {
    "HEARTCAST_LIMITS__IS_ON": "true",
    "HEARTCAST_LIMITS__HEARTS_PER_CLIENT": "1000000/s burst 1000000",
    "HEARTCAST_LIMITS__HEARTS_PER_PREFIX": "1000000/s burst 1000000",
    "HEARTCAST_LIMITS__SHED__LAG_S": "0.001",
    "HEARTCAST_LIMITS__SHED__CRITICAL": "1000000",
}


class Client:
    """One connection with one request at a time."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server

    async def __aenter__(self) -> "Client":
        self._reader, self._writer = await asyncio.open_connection(self._server.host, self._server.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, str], bytes]:
        raw = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(raw)}\r\n"
        self._writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + raw)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:-2])}
        return int(lines[0][9:12]), headers, await self._reader.readexactly(int(headers["content-length"]))


async def hearts(server: RunningServer, number: int) -> Counter[int]:
    """Batches one after the other; the statuses of their answers."""
    statuses: Counter[int] = Counter()
    async with Client(server) as client:
        for batch in range(BATCHES):
            users = [f"{number}-{batch}-{at}" for at in range(HEARTS)]
            items = [{"op": "add", "target_id": "post", "user_id": user} for user in users]
            status, headers, body = await client.ask("POST", "/api/v1/hearts/batch", {"items": items})
            statuses[status] += 1
            if status == 503:
                assert headers["content-type"] == "application/problem+json"
                assert headers["retry-after"] == "1"
                assert json.loads(body)["code"] == "shed"
    return statuses


async def critical(server: RunningServer, until: asyncio.Event) -> Counter[tuple[str, int]]:
    """What always has to be answered, over and over."""
    push = {"user_id": "u", "template": "news_v2", "payload": {"title": "x"}, "priority": "critical"}
    seen: Counter[tuple[str, int]] = Counter()
    async with Client(server) as client:
        while not until.is_set():
            for method, path, body in (
                ("GET", "/livez", None),
                ("GET", "/readyz", None),
                ("GET", "/healthz", None),
                ("GET", "/metrics", None),
                ("POST", "/push", push),
                ("POST", "/api/v1/pushes/unknown/receipts", {"event": "opened"}),
            ):
                status, _, _ = await client.ask(method, path, body)
                seen[path, status] += 1
    return seen


async def counted(client: Client) -> int:
    _, _, body = await client.ask("GET", "/metrics")
    [line] = [
        line for line in body.splitlines() if line.startswith(b'heartcast_hearts_total{result="added"}')
    ]
    return int(float(line.split()[-1]))


@pytest.mark.timeout(90)
@pytest.mark.parametrize("is_hot", ["true", "false"], ids=["hot path", "Litestar"])
async def test_with_too_much_to_do_a_server_refuses_politely_loses_nothing_and_answers_what_is_critical(
    is_hot: str,
) -> None:
    with running("--in-memory", environ={**SETTINGS, "HEARTCAST_HTTP__HOT_PATH": is_hot}) as server:
        over = asyncio.Event()
        always = asyncio.create_task(critical(server, over))
        async with asyncio.timeout(60):
            crowd = await asyncio.gather(*(hearts(server, number) for number in range(CLIENTS)))
            over.set()
            answered = await always
        statuses = sum(crowd, Counter())

        # Everybody has an answer, and it is one of two.
        assert statuses.total() == CLIENTS * BATCHES
        assert set(statuses) == {200, 503}
        assert min(answered.values()) >= 1
        assert {status for _, status in answered} == {200, 202, 404}
        assert {path for path, status in answered if status == 404} == {"/api/v1/pushes/unknown/receipts"}

        async with Client(server) as client:
            # What was refused was not done, and what was not refused was.
            assert await counted(client) == statuses[200] * HEARTS
            heart = {"target_id": "t", "user_id": "u"}
            async with asyncio.timeout(10):
                while (await client.ask("POST", "/api/v1/hearts", heart))[0] == 503:
                    await asyncio.sleep(0.01)
