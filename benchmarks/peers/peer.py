"""A server to measure: how to start it, how its subscribers and publisher speak."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import machine

INSTALLED = Path(os.environ.get("PEERS", ".venv-peers")).absolute()
"""Where ``make bench-peers`` puts what comes from PyPI and npm."""
SERVERS = Path(__file__).parent / "servers"
_START_S = 20.0


@dataclass(frozen=True)
class Peer:
    """One server. Ports are given to it: ``port`` for subscribers, ``side_port`` for those who need two."""

    name: str
    missing: Callable[[], str]
    """Why it cannot run here, and what would help; empty: it can."""
    version: Callable[[], str]
    command: Callable[[Path, int, int], list[str]]
    """The command line for (a folder of its own, port, side_port)."""
    hello: bytes
    """All that a subscriber sends."""
    ready: bytes
    """In what a subscriber reads once it is subscribed."""
    publication: Callable[[bytes], bytes]
    """Message to what a publisher sends."""
    greeting: bytes = b""
    """What a publisher sends first; empty: it speaks HTTP, and each publication is answered."""
    on_side_port: bool = False
    """Whether the publisher uses ``side_port``."""
    push_path: str = ""
    """Where it takes pushes by POST; empty: nowhere."""


class Ports:
    """Two free ports of this machine."""

    def __init__(self) -> None:
        with socket.socket() as one, socket.socket() as other:
            for each in (one, other):
                each.bind(("127.0.0.1", 0))
            self.main: int = one.getsockname()[1]
            self.side: int = other.getsockname()[1]


@contextmanager
def started(peer: Peer) -> Iterator[tuple[int, Ports]]:
    """Its process id and ports, while it runs.

    Raises:
        RuntimeError: it did not listen in time; with the end of what it said.
    """
    ports = Ports()
    with TemporaryDirectory(prefix=f"peer-{peer.name.partition(' ')[0]}-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                peer.command(Path(folder), ports.main, ports.side),
                stdout=out,
                stderr=out,
                env={**os.environ, "NODE_PATH": str(INSTALLED / "node_modules")},
            )
        try:
            _wait_for(ports.main, process, log)
            yield process.pid, ports
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not listen: {log.read_text(errors='replace')[-500:]}")


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in below for each in tree(int(child)))]


def cpu_s(pid: int) -> float:
    return sum(map(machine.cpu_s, tree(pid)))


def resident_kb(pid: int) -> int:
    return sum(map(machine.resident_kb, tree(pid)))


def post(path: str, body: bytes, kind: str = "application/json") -> bytes:
    """One HTTP/1.1 request."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def first_line(*command: str) -> str:
    """What a program says of itself, such as its version."""
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).strip().partition("\n")[0]


def not_on_path(program: str, package: str) -> str:
    """Why a program cannot run, or nothing."""
    return "" if shutil.which(program) else f"no {program} here; Debian has it as {package}"
