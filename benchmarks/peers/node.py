"""What one would write for Node instead: its own HTTP server with ``ws``, and socket.io."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers.peer import INSTALLED, SERVERS, Peer, first_line, post
from benchmarks.subscribers import handshake, masked


def _missing(package: str) -> Callable[[], str]:
    def missing() -> str:
        if not shutil.which("node"):
            return "no node here; Debian has it as nodejs"
        found = subprocess.run(
            ["node", "-e", f"require('{package}')"],
            env={**os.environ, "NODE_PATH": str(INSTALLED / "node_modules")},
            capture_output=True,
            check=False,
        )
        return f"no {package} here; `make bench-peers` installs it from npm" if found.returncode else ""

    return missing


def _version(package: str) -> Callable[[], str]:
    path = INSTALLED / "node_modules" / package / "package.json"
    show = f"console.log('{package}', require('{path}').version + ', node', process.version)"
    return lambda: first_line("node", "-e", show)


def _node(script: str) -> Callable[[Path, int, int], list[str]]:
    return lambda folder, port, side_port: ["node", str(SERVERS / script), str(port)]


PEERS = (
    Peer(
        name="ws",
        missing=_missing("ws"),
        version=_version("ws"),
        command=_node("with_ws.js"),
        hello=handshake("/listen"),
        ready=b"ready",
        publication=lambda data: post("/publish", data),
        push_path="/push",
    ),
    Peer(
        name="socket.io",
        missing=_missing("socket.io"),
        version=_version("socket.io"),
        command=_node("with_socketio.js"),
        hello=handshake("/socket.io/?EIO=4&transport=websocket") + masked(b"40"),
        ready=b'40{"sid"',
        publication=lambda data: post("/publish", data),
    ),
)
