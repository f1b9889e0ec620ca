"""heartcast itself, started and spoken to as its peers are."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers.peer import Peer, post
from benchmarks.subscribers import COMMANDS, handshake, masked
from heartcast import __version__


def _command(folder: Path, port: int, side_port: int) -> list[str]:
    return [sys.executable, "-m", "heartcast", "serve", "--in-memory", "--port", str(port)]


HEARTCAST = Peer(
    name="heartcast",
    missing=str,
    version=lambda: __version__,
    command=_command,
    hello=handshake("/connection/websocket") + masked(COMMANDS),
    ready=b'"id":2',
    publication=lambda data: post("/api/publish", b'{"channel":"public:bench","data":%b}' % data),
    push_path="/push",
)
