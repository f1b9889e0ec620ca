"""What one would write in Python instead: FastAPI with its own WebSockets, and python-socketio.

Both on uvicorn with uvloop and httptools, in one process.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.peers.peer import INSTALLED, SERVERS, Peer, first_line, post
from benchmarks.subscribers import handshake, masked

_PYTHON = INSTALLED / "bin" / "python"


def _missing(module: str, package: str) -> Callable[[], str]:
    def missing() -> str:
        if not _PYTHON.exists():
            return f"no environment of peers here; `make bench-peers` makes one with {package}"
        said = first_line(str(_PYTHON), "-c", f"import {module}, uvicorn, uvloop, httptools, websockets")
        return f"{package} cannot be imported; requirements/peers.txt lists what it needs" if said else ""

    return missing


def _version(package: str) -> Callable[[], str]:
    show = "from importlib.metadata import version as v; print(*(f'{n} {v(n)}' for n in %r), sep=', ')"
    return lambda: first_line(str(_PYTHON), "-c", show % ([package, "uvicorn"],))


def _uvicorn(application: str) -> Callable[[Path, int, int], list[str]]:
    def command(folder: Path, port: int, side_port: int) -> list[str]:
        return [
            *(str(_PYTHON), "-m", "uvicorn", application, "--app-dir", str(SERVERS), "--port", str(port)),
            *("--log-level", "warning", "--loop", "uvloop", "--http", "httptools", "--ws", "websockets"),
        ]

    return command


PEERS = (
    Peer(
        name="FastAPI",
        missing=_missing("fastapi", "FastAPI"),
        version=_version("fastapi"),
        command=_uvicorn("with_fastapi:app"),
        hello=handshake("/listen"),
        ready=b"ready",
        publication=lambda data: post("/publish", data),
        push_path="/push",
    ),
    Peer(
        name="python-socketio",
        missing=_missing("socketio", "python-socketio"),
        version=_version("python-socketio"),
        command=_uvicorn("with_socketio:app"),
        hello=handshake("/socket.io/?EIO=4&transport=websocket") + masked(b"40"),
        ready=b'40{"sid"',
        publication=lambda data: post("/publish", data),
    ),
)
