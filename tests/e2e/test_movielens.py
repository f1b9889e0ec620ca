"""A real day of hearts: 55,375 ratings of four and more, in time order, over HTTP, on the durable store.

The counts must equal a plain recount, the hot list a brute-force one, and a stock client
that watched all the time must end on the same counts.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from centrifuge import Client, PublicationContext, SubscriptionEventHandler

from heartcast.testing import RunningServer

pytestmark = [pytest.mark.data, pytest.mark.stock, pytest.mark.timeout(240)]

HALF_LIVES_S = {"hour": 3600, "day": 86_400, "week": 604_800}
IN_FLIGHT = 32
WATCHED = 100

Heart = tuple[str, str]


def _hearts(data_dir: Path) -> list[Heart]:
    lines = (data_dir / "ranking" / "ml-100k" / "u.data").read_text().splitlines()
    ratings = [line.split("\t") for line in lines]
    liked = [(int(at_s), user, item) for user, item, rating, at_s in ratings if int(rating) >= 4]
    return [(item, user) for at_s, user, item in sorted(liked)]


class Watcher(SubscriptionEventHandler):
    """Remembers the newest count that a stock client was told."""

    def __init__(self) -> None:
        self.latest: dict[str, Any] = {}
        self.versions: list[int] = []
        self.changed = asyncio.Event()

    async def on_publication(self, ctx: PublicationContext) -> None:
        self._take(ctx.pub.data)

    def _take(self, data: dict[str, Any]) -> None:
        self.latest = data
        self.versions.append(data["version"])
        self.changed.set()

    async def reaches(self, count: int) -> None:
        while self.latest.get("count") != count:
            self.changed.clear()
            await self.changed.wait()


async def _post(server: RunningServer, hearts: Iterable[Heart]) -> list[tuple[str, int]]:
    """Post each heart in order on one pipelined connection; returns (item, made at ms) of each."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    made: list[tuple[str, int]] = []
    room = asyncio.Semaphore(IN_FLIGHT)

    async def send() -> None:
        for item, user in hearts:
            await room.acquire()
            body = json.dumps({"target_id": item, "user_id": int(user)}).encode()
            head = (
                f"POST /api/v1/hearts HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: application/json\r\n"
            )
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
        writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")

    async def receive() -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            answer = json.loads(await reader.readexactly(size))
            if "target_id" not in answer:
                return
            assert head.startswith(b"HTTP/1.1 201"), head
            made.append((answer["target_id"], _wall_ms(answer["timestamp"])))
            room.release()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        tasks.create_task(receive())
    writer.close()
    await writer.wait_closed()
    return made


def _wall_ms(timestamp: str) -> int:
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000)


def _brute_force(made: list[tuple[str, int]], half_life_s: int) -> list[tuple[str, float]]:
    latest_ms = max(at_ms for _, at_ms in made)
    scores: Counter[str] = Counter()
    for item, at_ms in made:
        scores[item] += 2.0 ** ((at_ms - latest_ms) / 1000 / half_life_s)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))


async def test_every_count_and_the_hot_list_equal_a_plain_recount_and_a_stock_client_saw_them(
    data_dir: Path, tmp_path: Path, serve: Callable[..., RunningServer]
) -> None:
    hearts = _hearts(data_dir)
    assert len(hearts) == 55_375
    recount = Counter(item for item, _ in hearts)
    watched = [item for item, _ in recount.most_common()][:: len(recount) // WATCHED][:WATCHED]
    server = serve("--data-dir", str(tmp_path / "data"))

    client = Client(server.websocket_url)
    watchers = {item: Watcher() for item in watched}
    await client.connect()
    for item, watcher in watchers.items():
        await client.new_subscription(f"hearts:{item}", watcher).subscribe()
    made = await _post(server, hearts)

    async with asyncio.timeout(10):
        for item, watcher in watchers.items():
            await watcher.reaches(recount[item])
    await client.disconnect()
    for watcher in watchers.values():
        assert watcher.versions == sorted(watcher.versions)
    await _assert_counts(server, recount)
    await _assert_hot_lists(server, made)


async def _assert_counts(server: RunningServer, recount: Counter[str]) -> None:
    items = list(recount)
    async with httpx2.AsyncClient(base_url=server.url) as http:
        for start in range(0, len(items), 1000):
            asked = items[start : start + 1000]
            answer = await http.post("/api/v1/hearts/counts", json={"target_ids": asked})
            counts = {each["target_id"]: each["count"] for each in answer.json()["counts"]}
            assert counts == {item: recount[item] for item in asked}


async def _assert_hot_lists(server: RunningServer, made: list[tuple[str, int]]) -> None:
    async with httpx2.AsyncClient(base_url=server.url) as http:
        for board, half_life_s in HALF_LIVES_S.items():
            answer = await http.get(f"/api/v1/hot/{board}", params={"limit": 100})
            shown = [each["item_id"] for each in answer.json()["items"]]
            assert shown == [item for item, _ in _brute_force(made, half_life_s)[:100]]
