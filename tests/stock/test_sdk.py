"""The client helper ``/sdk/heartcast.js`` under Node, against a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

import heartcast
from heartcast.testing import RunningServer, running

pytestmark = pytest.mark.stock

HERE = Path(__file__).parent
SDK = Path(heartcast.__file__).parent / "web" / "sdk" / "heartcast.js"
PATIENCE_S = 20


class Helper:
    """A Node process with the helper in it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []

    async def until(self, event: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := await self.process.stdout.readline():
                self.events.append(json.loads(line))
                if self.events[-1]["event"] == event:
                    return self.events[-1]
        raise AssertionError(f"it ended before {event}; it said {self.events}")

    def titles(self) -> list[str]:
        return [event["title"] for event in self.events if event["event"] == "push"]


Start = Callable[..., Any]


@pytest.fixture
def start(node: str, tmp_path: Path) -> Start:
    """Starts the helper; the same ``memory`` is the same browser after a reload."""
    # An ES module is one by its name where no package.json says so.
    sdk = tmp_path / "heartcast.mjs"
    sdk.write_bytes(SDK.read_bytes())

    @asynccontextmanager
    async def run(url: str, memory: str = "one", **options: Any) -> AsyncIterator[Helper]:
        told = {"sdk": str(sdk), "file": str(tmp_path / memory), "url": url, "user": "u1", **options}
        process = await asyncio.create_subprocess_exec(
            node, "sdk.mjs", json.dumps(told), cwd=HERE,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield Helper(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    return run


async def push(server: RunningServer, title: str, user: str = "u1") -> str:
    body = {"user_id": user, "template": "news_v2", "payload": {"title": title}}
    answer = await asyncio.to_thread(httpx2.post, f"{server.url}/push", json=body)
    return str(answer.json()["id"])


async def state(server: RunningServer, push_id: str) -> dict[str, Any]:
    answer = await asyncio.to_thread(httpx2.get, f"{server.url}/api/v1/pushes/{push_id}")
    return dict(answer.json())


async def until(server: RunningServer, push_id: str, condition: Callable[[dict[str, Any]], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition(await state(server, push_id)):
            await asyncio.sleep(0.05)


async def test_a_push_is_shown_acknowledged_and_reported_as_exposed(serve: Any, start: Start) -> None:
    server = serve("--in-memory")
    async with start(server.url) as helper:
        await helper.until("connected")
        push_id = await push(server, "hello")
        assert (await helper.until("push"))["id"] == push_id
        await until(server, push_id, lambda found: found["status"] == "delivered")
        await until(server, push_id, lambda found: "exposed" in json.dumps(found))


async def test_what_waited_is_shown_in_order_and_never_again_after_a_reload(serve: Any, start: Start) -> None:
    server = serve("--in-memory")
    ids = [await push(server, f"n{number}") for number in range(5)]
    async with start(server.url) as helper:
        for _ in ids:
            await helper.until("push")
        assert helper.titles() == [f"n{number}" for number in range(5)]
        for push_id in ids:
            await until(server, push_id, lambda found: found["status"] == "delivered")
    async with start(server.url) as again:
        await again.until("connected")
        await push(server, "new")
        await again.until("push")
        assert again.titles() == ["new"]


async def test_a_push_shown_before_a_reload_and_not_acknowledged_is_acknowledged_and_not_shown(
    serve: Any, start: Start, tmp_path: Path
) -> None:
    server = serve("--in-memory")
    push_id = await push(server, "seen")
    # As if the page went away between showing it and acknowledging it.
    (tmp_path / "one").write_text(json.dumps({"heartcast:u1:seen": json.dumps([push_id])}))
    async with start(server.url) as helper:
        await until(server, push_id, lambda found: found["status"] == "delivered")
        await push(server, "next")
        await helper.until("push")
        assert helper.titles() == ["next"]


async def test_a_push_that_could_not_be_shown_comes_again(serve: Any, start: Start) -> None:
    server = serve("--in-memory", environ={"HEARTCAST_PUSH__REDELIVER_AFTER_S": "0.5"})
    async with start(server.url, failing=["hard"]) as helper:
        await helper.until("connected")
        push_id = await push(server, "hard")
        await helper.until("error")
        assert (await state(server, push_id))["status"] == "sent"
        await helper.until("push")
        await until(server, push_id, lambda found: found["status"] == "delivered")
        assert helper.titles() == ["hard", "hard"]


async def test_it_comes_back_after_a_server_was_killed_and_shows_what_it_missed_once(
    start: Start, tmp_path: Path
) -> None:
    folder = str(tmp_path / "data")
    with running("--data-dir", folder) as server:
        async with start(server.url) as helper:
            await helper.until("connected")
            await push(server, "before")
            await helper.until("push")
            server.kill()
            await helper.until("closed")
            with running("--data-dir", folder, port=server.port) as again:
                await push(again, "after")
                while "after" not in helper.titles():
                    await helper.until("push")
                assert helper.titles() == ["before", "after"]


async def test_a_user_without_a_valid_token_is_told_and_does_not_try_for_ever(
    serve: Any, start: Start
) -> None:
    server = serve("--in-memory")
    async with start(server.url, token="nonsense") as helper:
        closed = await helper.until("closed")
        assert closed["code"] == 3500
