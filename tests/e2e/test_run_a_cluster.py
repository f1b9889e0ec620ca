"""docs/how-to/run-a-cluster.md, followed line by line with real processes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from heartcast.testing import RunningServer, running
from heartcast.testing.eventually import eventually
from heartcast.testing.redis_server import RedisServer

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-a-cluster.md"
PORTS = (8081, 8082, 8083)


def lines() -> list[str]:
    """The page's commands that are not the servers themselves."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    commands = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line for line in commands if line.startswith(("curl ", "kill "))]


def run(line: str, servers: dict[int, RunningServer]) -> Any:
    for port, server in servers.items():
        line = line.replace(f"http://localhost:{port}", server.url)
    done = subprocess.run(
        ["bash", "-c", line.replace("curl -s", "curl -s --fail-with-body", 1)],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return json.loads(done.stdout)


def owned(nodes: dict[str, Any]) -> list[int]:
    return sorted(len(node["shards"]) for node in nodes["nodes"])


async def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    with RedisServer(settings={"appendonly": "yes", "maxmemory-policy": "noeviction"}) as redis:
        flags = ("--redis", redis.url, "--data-dir")
        with (
            running(*flags, str(tmp_path / "1")) as first,
            running(*flags, str(tmp_path / "2")) as second,
            running(*flags, str(tmp_path / "3")) as third,
        ):
            servers = dict(zip(PORTS, (first, second, third), strict=True))
            first_look, heart, counts, push, inbox, kill, inbox_after, nodes, placement = lines()
            assert kill.startswith("kill -9")

            await eventually(lambda: owned(run(first_look, servers)) == [21, 21, 22], within_s=20)
            assert run(heart, servers)["count"] == 1
            assert run(counts, servers)["counts"][0]["count"] == 1
            accepted = run(push, servers)
            await eventually(lambda: run(inbox, servers)["items"])

            second.kill()

            await eventually(lambda: owned(run(nodes, servers)) == [32, 32], within_s=20)
            assert run(nodes, servers)["unowned"] == []
            await eventually(lambda: run(inbox_after, servers)["items"])
            assert [item["id"] for item in run(inbox_after, servers)["items"]] == [accepted["id"]]
            assert run(placement, servers)["shard"] == 12345 % 64
